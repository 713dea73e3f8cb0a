// The replicas that may take requests, what is outstanding at each, and the choice among them. The router decides; where
// its choice is down, busy or full at this moment, the least loaded replica that fits takes its place, so that a dead
// engine costs nobody an answer while the controller is still finding out.
import type { RequestView } from '../core/domain/index.ts';
import type { RoutableReplica, RoutingUpdate } from '../wire/index.ts';
import type { RequestRouter, RouterFactory, ServedModel } from './options.ts';
import { Replica, type ReplicaGuest } from './replica.ts';

export type Choice<Guest extends ReplicaGuest> =
  | { readonly kind: 'replica'; readonly replica: Replica<Guest> }
  /** `blocked`: no replica of the model takes anything now. `does-not-fit`: none of those that do is large enough. */
  | { readonly kind: 'blocked' | 'does-not-fit' };

export interface ReplicaSetOptions {
  readonly makeRouter: RouterFactory;
  readonly models: readonly ServedModel[];
  readonly maxRequestsPerReplica: number;
  readonly nowSeconds: () => number;
  /** A replica can take requests that could not a moment ago. */
  readonly onAvailable: () => void;
  /** The router threw: a bug of ours, to be reported. */
  readonly onRouterBug: (error: unknown) => void;
}

/** Real milliseconds between probes of a dead engine, doubling. */
const SHORTEST_PROBE_MS = 25;
const LONGEST_PROBE_MS = 2000;
const PROBE_TIMEOUT_MS = 2000;

export class ReplicaSet<Guest extends ReplicaGuest> {
  readonly #options: ReplicaSetOptions;
  readonly #timers = new Set<NodeJS.Timeout>();
  /** Longest request that a replica of each model ever took here, or that was configured; tokens. */
  readonly #longest = new Map<string, number>();
  /** Admitted replicas, in the router's order. */
  #admitted: Replica<Guest>[] = [];
  /** No longer admitted, still answering. */
  readonly #leaving = new Set<Replica<Guest>>();
  #router: RequestRouter | null = null;
  #loads = { requests: new Float64Array(0), tokens: new Float64Array(0) };
  #update: RoutingUpdate | null = null;
  #closed = false;

  constructor(options: ReplicaSetOptions) {
    this.#options = options;
    for (const { name, maxModelLen } of options.models) this.#longest.set(name, maxModelLen);
  }

  get update(): RoutingUpdate | null {
    return this.#update;
  }

  get admitted(): readonly Replica<Guest>[] {
    return this.#admitted;
  }

  get models(): string[] {
    return [...this.#longest.keys()].sort();
  }

  /** Longest request of a model, tokens; undefined: no such model. */
  longest(model: string): number | undefined {
    return this.#longest.get(model);
  }

  /** Longest request that an admitted replica of the model takes, tokens; without one, that any took. */
  longestAdmitted(model: string): number {
    let longest = 0;
    for (const { info } of this.#admitted) if (info.model === model) longest = Math.max(longest, info.maxModelLen);
    return longest || (this.#longest.get(model) ?? 0);
  }

  /** Every served model has a replica that takes requests. */
  get ready(): boolean {
    const nowMs = performance.now();
    const served = new Set(this.#admitted.filter((r) => r.available(nowMs, 0)).map((r) => r.info.model));
    return this.#longest.size > 0 && this.models.every((model) => served.has(model));
  }

  find(id: string): Replica<Guest> | undefined {
    return this.#admitted.find((r) => r.info.id === id) ?? [...this.#leaving].find((r) => r.info.id === id);
  }

  all(): Replica<Guest>[] {
    return [...this.#admitted, ...this.#leaving];
  }

  /**
   * Replaces the table and the list of replicas. Replicas with an unchanged id and address keep their connections and
   * requests; those that are not listed finish what they have.
   *
   * @throws whatever the router's factory throws on a table that it cannot use; nothing has changed then.
   */
  replace(update: RoutingUpdate): void {
    const router = this.#routerFor(update);
    const known = new Map(this.all().map((replica) => [keyOf(replica.info), replica]));
    const admitted = update.replicas.map((info) => {
      const same = known.get(keyOf(info));
      if (same === undefined || !sameShape(same.info, info)) return new Replica<Guest>(info);
      known.delete(keyOf(info));
      return same;
    });
    for (const replica of known.values()) {
      replica.index = -1;
      replica.retired = true;
      this.#leaving.add(replica);
    }
    admitted.forEach((replica, index) => {
      replica.index = index;
      replica.retired = false;
      replica.evacuating = false;
      this.#leaving.delete(replica);
    });
    this.#admitted = admitted;
    this.#router = router;
    this.#update = update;
    this.#loads = {
      requests: Float64Array.from(admitted, (replica) => replica.guests.size),
      tokens: Float64Array.from(admitted, (replica) => replica.tokens),
    };
    for (const { model, maxModelLen } of update.replicas) {
      this.#longest.set(model, Math.max(this.#longest.get(model) ?? 0, maxModelLen));
    }
    for (const replica of this.#leaving) this.#dropIfEmpty(replica);
    this.#options.onAvailable();
  }

  /** The router so far where only replicas come and go: its credits even out shares over thousands of requests. */
  #routerFor(update: RoutingUpdate): RequestRouter {
    const last = this.#update;
    if (
      this.#router?.setReplicas !== undefined &&
      last !== null &&
      last.workload.version === update.workload.version &&
      JSON.stringify([last.assignment, last.workload]) === JSON.stringify([update.assignment, update.workload])
    ) {
      this.#router.setReplicas(update.replicas);
      return this.#router;
    }
    return this.#options.makeRouter(update, update.replicas, this.#router ?? undefined);
  }

  /**
   * @param avoid - replicas that failed this request already; taken again only when no other is left.
   */
  choose(view: RequestView, avoid: ReadonlySet<Replica<Guest>>): Choice<Guest> {
    const nowMs = performance.now();
    const cap = this.#options.maxRequestsPerReplica;
    const first = this.#admitted[this.#routed(view)];
    if (first?.available(nowMs, cap) && !avoid.has(first)) return { kind: 'replica', replica: first };

    let best: Replica<Guest> | null = null;
    let anyAvailable = false;
    for (const replica of this.#admitted) {
      if (replica.info.model !== view.model || !replica.available(nowMs, cap)) continue;
      anyAvailable = true;
      if (view.inputTokens + view.maxTokens > replica.info.maxModelLen) continue;
      if (best === null || isBetter(replica, best, avoid)) best = replica;
    }
    if (best !== null) return { kind: 'replica', replica: best };
    return { kind: anyAvailable ? 'does-not-fit' : 'blocked' };
  }

  /** The router's choice. One that throws is not asked again under this table: least loaded serves until the next. */
  #routed(view: RequestView): number {
    try {
      return this.#router?.route(view, this.#loads, this.#options.nowSeconds()) ?? -1;
    } catch (error) {
      this.#router = null;
      this.#options.onRouterBug(error);
      return -1;
    }
  }

  enter(replica: Replica<Guest>, guest: Guest, tokens: number): void {
    replica.guests.add(guest);
    replica.tokens += tokens;
    if (replica.index < 0) return;
    this.#loads.requests[replica.index]! += 1;
    this.#loads.tokens[replica.index]! += tokens;
  }

  /** More tokens of a request at a replica. */
  grow(replica: Replica<Guest>, tokens: number): void {
    replica.tokens += tokens;
    if (replica.index >= 0) this.#loads.tokens[replica.index]! += tokens;
  }

  /** @param tokens - all tokens that were counted for the guest. */
  leave(replica: Replica<Guest>, guest: Guest, tokens: number): void {
    if (!replica.guests.delete(guest)) return;
    replica.tokens -= tokens;
    if (replica.index >= 0) {
      this.#loads.requests[replica.index]! -= 1;
      this.#loads.tokens[replica.index]! -= tokens;
    }
    this.#dropIfEmpty(replica);
    if (this.#options.maxRequestsPerReplica > 0) this.#options.onAvailable();
  }

  /** The engine could not be reached, or broke an answer off: nothing goes there until it answers /health. */
  failed(replica: Replica<Guest>, kind: 'connection' | 'status'): void {
    const waitMs = replica.failed(kind);
    if (waitMs !== null) this.#later(waitMs, () => void this.#probe(replica, waitMs));
  }

  busyFor(replica: Replica<Guest>, ms: number): void {
    replica.busyFor(ms, performance.now());
    this.#later(ms + 1, () => this.#options.onAvailable());
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const timer of this.#timers) clearTimeout(timer);
    await Promise.all(this.all().map((replica) => replica.close()));
  }

  async #probe(replica: Replica<Guest>, waitedMs: number): Promise<void> {
    if (this.#closed || replica.retired) return;
    const healthy = await replica.isHealthy(PROBE_TIMEOUT_MS);
    if (this.#closed) return;
    if (healthy) {
      replica.recovered();
      this.#options.onAvailable();
    } else {
      const waitMs = Math.min(LONGEST_PROBE_MS, Math.max(SHORTEST_PROBE_MS, 2 * waitedMs));
      this.#later(waitMs, () => void this.#probe(replica, waitMs));
    }
  }

  #later(ms: number, action: () => void): void {
    if (this.#closed) return;
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      action();
    }, ms);
    timer.unref();
    this.#timers.add(timer);
  }

  #dropIfEmpty(replica: Replica<Guest>): void {
    if (!replica.retired || replica.guests.size > 0) return;
    this.#leaving.delete(replica);
    void replica.close();
  }
}

const keyOf = ({ id, url }: RoutableReplica): string => `${id} ${url}`;

/** Routing facts are replaced with the replica object; a changed one under the same id and address is another replica. */
const sameShape = (a: RoutableReplica, b: RoutableReplica): boolean =>
  a.model === b.model &&
  a.classKey === b.classKey &&
  a.gpuCount === b.gpuCount &&
  a.maxModelLen === b.maxModelLen &&
  a.kvTokens === b.kvTokens;

/** Not avoided before avoided, then fewest requests per GPU, then first in the list. */
function isBetter<Guest extends ReplicaGuest>(
  a: Replica<Guest>,
  b: Replica<Guest>,
  avoid: ReadonlySet<Replica<Guest>>,
): boolean {
  if (avoid.has(a) !== avoid.has(b)) return avoid.has(b);
  return a.guests.size / a.info.gpuCount < b.guests.size / b.info.gpuCount;
}
