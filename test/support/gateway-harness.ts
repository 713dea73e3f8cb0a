// A gateway in this process with mock engines behind it, all on ephemeral loopback ports.

import { type GatewayStart, leastLoadedRouter, type RunningGateway, startGateway } from '../../src/gateway/index.ts';
import { createLogger, PoolClock } from '../../src/host/index.ts';
import type {
  Evacuated,
  GatewayObservation,
  GatewayStatus,
  RoutableReplica,
  RoutingUpdate,
} from '../../src/wire/index.ts';
import type { MockEngine } from './mock-engine.ts';

export const MODEL = 'mock-7b';
const TOKEN = 'a-token-for-tests';

export const silentLog = createLogger({ name: 'gateway', level: 'silent' });

export const replicaOf = (engine: MockEngine, id: string, more: Partial<RoutableReplica> = {}): RoutableReplica => ({
  id,
  url: engine.url,
  model: MODEL,
  classKey: `${MODEL}:TP1@H100-80GB`,
  gpuCount: 1,
  maxModelLen: 100_000,
  kvTokens: 400_000,
  ...more,
});

export const routingOf = (version: number, replicas: readonly RoutableReplica[]): RoutingUpdate => ({
  version,
  workload: { version: 1, fittedToSeconds: 0, types: [], posteriorCounts: {} },
  assignment: { typeIds: [], classKeys: [], share: [], variant: { kind: 'plain' } },
  replicas,
});

export class GatewayHarness {
  readonly gateway: RunningGateway;
  #version = 0;

  private constructor(gateway: RunningGateway) {
    this.gateway = gateway;
  }

  static async start(options: Partial<GatewayStart> = {}): Promise<GatewayHarness> {
    const gateway = await startGateway({
      clock: PoolClock.startNow(1),
      makeRouter: leastLoadedRouter,
      log: silentLog,
      token: TOKEN,
      port: 0,
      ...options,
    });
    return new GatewayHarness(gateway);
  }

  get url(): string {
    return this.gateway.url;
  }

  async admin<T>(method: string, path: string, body?: unknown, token = TOKEN): Promise<{ status: number; body: T }> {
    const response = await fetch(`${this.gateway.adminUrl}${path}`, {
      method,
      headers: { authorization: `Bearer ${token}` },
      ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
    });
    return { status: response.status, body: (await response.json()) as T };
  }

  async route(replicas: readonly RoutableReplica[]): Promise<void> {
    const { status, body } = await this.admin('PUT', '/admin/v1/routing', routingOf(++this.#version, replicas));
    if (status !== 200) throw new Error(`routing was refused: ${JSON.stringify(body)}`);
  }

  async evacuate(id: string, mode: 'wait' | 'cut'): Promise<Evacuated> {
    return (await this.admin<Evacuated>('POST', `/admin/v1/replicas/${id}/evacuate`, { mode })).body;
  }

  async observe(after = 0): Promise<GatewayObservation> {
    return (await this.admin<GatewayObservation>('GET', `/admin/v1/observation?after=${after}`)).body;
  }

  async status(): Promise<GatewayStatus> {
    return (await this.admin<GatewayStatus>('GET', '/admin/v1/status')).body;
  }

  post(path: string, body: unknown, more: RequestInit = {}): Promise<Response> {
    return fetch(`${this.url}${path}`, {
      method: 'POST',
      body: typeof body === 'string' ? body : JSON.stringify(body),
      ...more,
      headers: { 'content-type': 'application/json', ...more.headers },
    });
  }

  async get(path: string): Promise<{ status: number; text: string }> {
    const response = await fetch(`${this.url}${path}`);
    return { status: response.status, text: await response.text() };
  }
}

export interface StreamEvent {
  readonly id?: string;
  readonly object?: string;
  readonly created?: number;
  readonly model?: string;
  readonly choices?: readonly {
    readonly index: number;
    readonly text?: string;
    readonly delta?: { readonly role?: string; readonly content?: string };
    readonly finish_reason?: string | null;
    readonly token_ids?: readonly number[] | null;
    readonly prompt_token_ids?: readonly number[] | null;
  }[];
  readonly usage?: {
    readonly prompt_tokens: number;
    readonly completion_tokens: number;
    readonly total_tokens: number;
  };
  readonly prompt_token_ids?: readonly number[] | null;
  readonly error?: { readonly message: string; readonly type: string; readonly code: string | number | null };
}

export interface ReadStream {
  readonly events: readonly StreamEvent[];
  readonly raw: string;
  readonly text: string;
  readonly ids: readonly number[];
  readonly finishReasons: readonly string[];
  readonly doneCount: number;
  readonly errors: readonly NonNullable<StreamEvent['error']>[];
  readonly usage: StreamEvent['usage'] | undefined;
}

/** What a client makes of the bytes of a stream; comments are passed over. */
export function readStreamText(raw: string): ReadStream {
  const data = raw
    .split('\n\n')
    .filter((event) => event.startsWith('data: '))
    .map((event) => event.slice(6));
  const events = data.filter((text) => text !== '[DONE]').map((text) => JSON.parse(text) as StreamEvent);
  const choices = events.flatMap((event) => event.choices ?? []);
  return {
    raw,
    events,
    text: choices.map((choice) => choice.text ?? choice.delta?.content ?? '').join(''),
    ids: choices.flatMap((choice) => choice.token_ids ?? []),
    finishReasons: choices.flatMap((choice) => choice.finish_reason ?? []),
    doneCount: data.filter((text) => text === '[DONE]').length,
    errors: events.flatMap((event) => event.error ?? []),
    usage: events.find((event) => event.choices?.length === 0)?.usage,
  };
}
