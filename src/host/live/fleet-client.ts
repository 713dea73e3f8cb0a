// Client of one node agent (fleet protocol). Every operation is idempotent, so callers may repeat it after a silence.
import {
  type CreateEngine,
  type EngineInfo,
  type EventBatch,
  engineInfoSchema,
  eventBatchSchema,
  type Fill,
  type Inventory,
  inventorySchema,
  type Manifest,
  manifestSchema,
} from '../../wire/index.ts';
import { JsonClient } from './json-client.ts';

/** What an engine can be told. `fill` and `park` carry a body. */
export type EngineVerb = 'wake' | 'fill' | 'verify' | 'admit' | 'drain' | 'park' | 'release';

/** The part of an agent that the live fleet uses; {@link FleetClient} speaks HTTP, tests put a fake here. */
export interface AgentPort {
  readonly name: string;
  inventory(): Promise<Inventory>;
  create(engine: CreateEngine): Promise<EngineInfo>;
  /** Answers when the state is reached; already there or past it, at once. */
  tell(engineId: string, verb: Exclude<EngineVerb, 'fill' | 'park'>): Promise<EngineInfo>;
  fill(engineId: string, fill: Fill): Promise<EngineInfo>;
  park(engineId: string, keepWeights: boolean): Promise<EngineInfo>;
}

export interface FleetClientOptions {
  readonly baseUrl: string;
  readonly token: string;
  readonly name: string;
  /** Longest that an inventory may take, real milliseconds. */
  readonly inventoryTimeoutMs?: number;
  /** Longest that wake, fill and the like may take, real milliseconds. */
  readonly operationTimeoutMs?: number;
}

export class FleetClient implements AgentPort {
  readonly #http: JsonClient;
  readonly #inventoryTimeoutMs: number;
  readonly #operationTimeoutMs: number;

  constructor({ baseUrl, token, name, inventoryTimeoutMs = 2000, operationTimeoutMs = 120_000 }: FleetClientOptions) {
    this.#http = new JsonClient({ baseUrl, token, name });
    this.#inventoryTimeoutMs = inventoryTimeoutMs;
    this.#operationTimeoutMs = operationTimeoutMs;
  }

  get name(): string {
    return this.#http.name;
  }

  inventory(): Promise<Inventory> {
    return this.#http.call({
      method: 'GET',
      path: '/fleet/v1/inventory',
      answer: inventorySchema,
      timeoutMs: this.#inventoryTimeoutMs,
    });
  }

  /** Long poll: answers when an event newer than `after` exists, or after `waitSeconds` (real) with none. */
  events(after: number, waitSeconds: number): Promise<EventBatch> {
    return this.#http.call({
      method: 'GET',
      path: `/fleet/v1/events?after=${after}&waitSeconds=${waitSeconds}`,
      answer: eventBatchSchema,
      timeoutMs: waitSeconds * 1000 + this.#inventoryTimeoutMs,
    });
  }

  manifest(engineId: string): Promise<Manifest> {
    return this.#http.call({
      method: 'GET',
      path: `/fleet/v1/manifest?engine=${encodeURIComponent(engineId)}`,
      answer: manifestSchema,
    });
  }

  create(engine: CreateEngine): Promise<EngineInfo> {
    return this.#post('/fleet/v1/engines', engine);
  }

  tell(engineId: string, verb: Exclude<EngineVerb, 'fill' | 'park'>): Promise<EngineInfo> {
    return this.#post(`/fleet/v1/engines/${encodeURIComponent(engineId)}/${verb}`, {});
  }

  fill(engineId: string, fill: Fill): Promise<EngineInfo> {
    return this.#post(`/fleet/v1/engines/${encodeURIComponent(engineId)}/fill`, fill);
  }

  park(engineId: string, keepWeights: boolean): Promise<EngineInfo> {
    return this.#post(`/fleet/v1/engines/${encodeURIComponent(engineId)}/park`, { keepWeights });
  }

  close(): Promise<void> {
    return this.#http.close();
  }

  #post(path: string, body: unknown): Promise<EngineInfo> {
    return this.#http.call({
      method: 'POST',
      path,
      body,
      answer: engineInfoSchema,
      timeoutMs: this.#operationTimeoutMs,
    });
  }
}
