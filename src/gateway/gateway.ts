// The gateway's parts put together: what a request meets on arrival, what the admin port may ask, and an orderly end.
import type { IncomingMessage, ServerResponse } from 'node:http';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { RequestView } from '../core/domain/index.ts';
import type { Logger } from '../host/index.ts';
import type {
  Evacuated,
  GatewayObservation,
  GatewayStatus,
  ModelList,
  PublicStatus,
  RoutingUpdate,
} from '../wire/index.ts';
import { AdmissionQueue } from './admission-queue.ts';
import { Exchange } from './exchange.ts';
import type { ExchangeHost } from './exchange-host.ts';
import { failures, type HttpFailure } from './http-errors.ts';
import { type Api, type InferenceRequest, readInferenceRequest } from './inference-request.ts';
import { LengthEstimate } from './length-estimate.ts';
import { GatewayMetrics } from './metrics.ts';
import { Observations } from './observations.ts';
import type { GatewayClock, GatewayOptions } from './options.ts';
import { roomWithoutLimit } from './placement.ts';
import { ReplicaSet } from './replica-set.ts';
import { RoutingStateFile } from './state-file.ts';

/** Streams that are cut before other work gets a turn. */
const CUTS_PER_TURN = 32;
/** Arrival times are told apart by at least this: they name requests in observations. */
const TICK_SECONDS = 1e-6;

export class Gateway implements ExchangeHost<Exchange> {
  readonly options: GatewayOptions;
  readonly clock: GatewayClock;
  readonly log: Logger;
  readonly replicas: ReplicaSet<Exchange>;
  readonly queue: AdmissionQueue<Exchange>;
  readonly observations = new Observations();
  readonly lengths = new LengthEstimate();
  readonly metrics: GatewayMetrics;
  readonly #exchanges = new Set<Exchange>();
  readonly #stateFile: RoutingStateFile;
  readonly #idleCheck: NodeJS.Timeout;
  readonly #createdSeconds = Math.floor(Date.now() / 1000);
  #heldBytes = 0;
  #lastArrivalSeconds = 0;
  #closing = false;
  readonly #onEmpty: (() => void)[] = [];

  constructor(options: GatewayOptions) {
    this.options = options;
    this.clock = options.clock;
    this.log = options.log;
    this.#stateFile = new RoutingStateFile(options.stateFile, options.log);
    this.queue = new AdmissionQueue<Exchange>(options.maxQueuedRequests);
    this.replicas = new ReplicaSet<Exchange>({
      makeRouter: options.makeRouter,
      models: options.models,
      maxRequestsPerReplica: options.maxRequestsPerReplica,
      nowSeconds: () => options.clock.nowSeconds(),
      onAvailable: () => this.queue.pump(),
      onRouterBug: (error) =>
        options.log.error({ err: error }, 'the router failed; routing by load until the next table'),
    });
    this.metrics = new GatewayMetrics({
      inFlight: () => this.#exchanges.size - this.queue.length,
      queued: () => this.queue.length,
      heldBytes: () => this.#heldBytes,
      routingVersion: () => this.replicas.update?.version ?? 0,
      observationsDropped: () => this.observations.dropped,
      replicas: () =>
        this.replicas.all().map((replica) => ({
          id: replica.info.id,
          running: replica.guests.size,
          available: replica.available(performance.now(), 0),
        })),
    });
    this.#idleCheck = setInterval(() => this.#endSilentStreams(), 1000);
    this.#idleCheck.unref();
  }

  get ready(): boolean {
    return !this.#closing && this.replicas.ready;
  }

  get isClosing(): boolean {
    return this.#closing;
  }

  /** Routes as before the restart, until a controller says otherwise. */
  async restore(): Promise<void> {
    const update = await this.#stateFile.load();
    if (update === null) return;
    const why = this.#useRouting(update);
    if (why === null) this.log.info({ version: update.version }, 'routing on the last assignment');
    else this.log.warn({ why }, 'the last routing cannot be used; waiting for the controller');
  }

  // ── requests ────────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * Takes a request in.
   *
   * @returns why it is refused at once, or null when the exchange will answer.
   * @throws RequestError when the body cannot be read as a request.
   */
  accept(
    api: Api,
    req: IncomingMessage,
    res: ServerResponse,
    body: Buffer,
    requestId: string,
    engineHeaders: readonly string[],
  ): HttpFailure | null {
    const request = readInferenceRequest(api, body);
    const longest = this.replicas.longest(request.model);
    if (longest === undefined) return failures.unknownModel(request.model, this.replicas.models);
    const view = this.#viewOf(request, req, longest);
    if (typeof view === 'number') return failures.tooLong(view, request.maxTokens ?? 1, longest);
    this.observations.arrived(view);
    if (this.#heldBytes + body.length > this.options.maxHeldBytes) {
      this.metrics.ended(null, request.model, api, 'refused');
      return failures.buffersFull();
    }
    const exchange = new Exchange(this, { req, res, request, requestId, engineHeaders, view });
    this.#exchanges.add(exchange);
    this.hold(request.body.length);
    exchange.start();
    return null;
  }

  /** What policies may see of the request; a number, its input tokens, when it fits no replica of its model. */
  #viewOf(request: InferenceRequest, req: IncomingMessage, longest: number): RequestView | number {
    const { prompt, maxTokens, model } = request;
    const least = maxTokens ?? 1;
    let inputTokens = prompt.kind === 'tokens' ? prompt.count : this.lengths.tokens(model, prompt.bytes);
    if (prompt.kind === 'tokens' ? inputTokens + least > longest : least + 1 > longest) return inputTokens;
    // An estimate refuses nobody: the largest replica's engine counts exactly.
    inputTokens = Math.min(inputTokens, longest - least);
    const arrivalSeconds = Math.max(this.clock.nowSeconds(), this.#lastArrivalSeconds + TICK_SECONDS);
    this.#lastArrivalSeconds = arrivalSeconds;
    const tenant = req.headers['x-oserve-tenant'] ?? req.headers['openai-organization'];
    return {
      arrivalSeconds,
      model,
      inputTokens,
      maxTokens: maxTokens ?? roomWithoutLimit(inputTokens, this.replicas.longestAdmitted(model)),
      ...(typeof tenant === 'string' && tenant !== '' ? { tenant } : {}),
      ...(Number(req.headers['x-stainless-retry-count']) > 0 ? { isRetry: true } : {}),
    };
  }

  hold(bytes: number): void {
    this.#heldBytes += bytes;
  }

  ended(exchange: Exchange): void {
    if (!this.#exchanges.delete(exchange)) return;
    this.hold(-exchange.request.body.length);
    if (this.#exchanges.size === 0) for (const tell of this.#onEmpty.splice(0)) tell();
  }

  #endSilentStreams(): void {
    const limitMs = Math.max(this.options.shortestIdleMs, this.clock.realMs(this.options.idleTimeoutSeconds));
    const nowMs = performance.now();
    for (const exchange of this.#exchanges) {
      if (exchange.isStreaming && nowMs - exchange.lastDataMs > limitMs) exchange.engineHangs();
    }
  }

  // ── admin ───────────────────────────────────────────────────────────────────────────────────────────────────────

  /** @returns why the update cannot be used, or null; the last good one stays. */
  setRouting(update: RoutingUpdate): string | null {
    const why = this.#useRouting(update);
    if (why === null) this.#stateFile.save(update);
    return why;
  }

  #useRouting(update: RoutingUpdate): string | null {
    const ids = new Set(update.replicas.map((replica) => replica.id));
    if (ids.size !== update.replicas.length) return 'two replicas have the same id';
    const bad = update.replicas.find((replica) => !/^https?:$/.test(protocolOf(replica.url)));
    if (bad !== undefined) return `the address of replica ${bad.id} is no http URL`;
    try {
      this.replicas.replace(update);
    } catch (error) {
      this.log.warn({ err: error, version: update.version }, 'a routing update was refused');
      return (error as Error).message;
    }
    return null;
  }

  /** Empties a replica: no new requests there, and with `cut` what can go on elsewhere does so now. */
  async evacuate(id: string, mode: 'wait' | 'cut'): Promise<Evacuated> {
    const replicas = this.replicas.all().filter((replica) => replica.info.id === id);
    let movedCount = 0;
    for (const replica of replicas) {
      replica.evacuating = true;
      if (mode === 'wait') continue;
      let turn = 0;
      for (const exchange of [...replica.guests]) {
        if (replica.guests.has(exchange) && exchange.cut()) movedCount++;
        if (++turn % CUTS_PER_TURN === 0) await nextTurn();
      }
    }
    return { runningCount: replicas.reduce((sum, replica) => sum + replica.guests.size, 0), movedCount };
  }

  observation(after: number, incarnation: string | null = null): GatewayObservation {
    const known = incarnation === null || incarnation === this.observations.incarnation ? after : 0;
    return {
      incarnation: this.observations.incarnation,
      ...this.observations.read(known),
      routingVersion: this.replicas.update?.version ?? 0,
      running: [...this.#exchanges].filter((exchange) => exchange.isRunning).map((exchange) => exchange.running),
      queuedCount: this.queue.length,
    };
  }

  status(): GatewayStatus {
    return {
      ready: this.ready,
      emulated: this.options.emulated,
      speed: this.clock.speed,
      routingVersion: this.replicas.update?.version ?? 0,
      runningByReplica: Object.fromEntries(this.replicas.all().map((r) => [r.info.id, r.guests.size])),
      queuedCount: this.queue.length,
    };
  }

  // ── public facts ────────────────────────────────────────────────────────────────────────────────────────────────

  publicStatus(): PublicStatus {
    const counts = new Map<string, number>();
    for (const { info } of this.replicas.admitted) counts.set(info.classKey, (counts.get(info.classKey) ?? 0) + 1);
    // A class key is `model:TP4@GPU`; the deployment's notation has the count after the colon.
    const groups = [...counts].sort().map(([key, count]) => key.replace(/:|^(?!.*:)/, (colon) => `${colon}${count}x`));
    return {
      emulated: this.options.emulated,
      speed: this.clock.speed,
      models: this.replicas.models,
      deployment: groups.join(',') || 'empty',
      routingVersion: this.replicas.update?.version ?? 0,
    };
  }

  modelCards(): ModelList['data'] {
    return this.replicas.models.map((id) => ({
      id,
      object: 'model',
      created: this.#createdSeconds,
      owned_by: 'oserve',
      max_model_len: this.replicas.longest(id) ?? 0,
    }));
  }

  // ── the end ─────────────────────────────────────────────────────────────────────────────────────────────────────

  /** No new requests; resolves when the running ones have ended, or are ended at the deadline. */
  async drain(deadlineMs: number): Promise<void> {
    this.#closing = true;
    if (this.#exchanges.size > 0) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, deadlineMs);
        this.#onEmpty.push(() => {
          clearTimeout(timer);
          resolve();
        });
      });
    }
    for (const exchange of [...this.#exchanges]) exchange.terminate();
  }

  async close(): Promise<void> {
    clearInterval(this.#idleCheck);
    await this.replicas.close();
    await this.#stateFile.flush();
  }
}

function protocolOf(url: string): string {
  try {
    return new URL(url).protocol;
  } catch {
    return '';
  }
}
