// A pool in virtual time: the Fleet port around `core/replica`. Requests of a trace arrive, a router sends them to
// replicas, and switches are carried out step by step by the same state machine as live.
//
// Events are lived through in the order of time; at the same moment: replicas (in the order they came), then timers of
// the switch, then arrivals. Replicas do not touch each other, so an arrival looks only at the loads.
import type {
  Cluster,
  Decision,
  FinishedRequest,
  Fleet,
  Observation,
  PlacedDeployment,
  Random,
  RequestOutcome,
  RequestView,
  RoutingTable,
  SwitchCosts,
  SwitchPlan,
  SwitchStep,
  TraceRequest,
} from '../domain/index.ts';
import { RequestLog, RequestState } from './request-log.ts';
import { type ReplicaFactory, type RoutableReplica, SimulatedReplicas } from './simulated-replicas.ts';
import { type EndedSwitch, SimulatedSwitch } from './simulated-switch.ts';

/** Whoever sends requests to replicas: the planned routing, or a plain load balancer. */
export interface SimulatedRouter {
  /** @returns index into the replicas last set, or -1 when the request fits on none. */
  route(
    view: RequestView,
    loads: { readonly requests: ArrayLike<number>; readonly tokens: ArrayLike<number> },
    nowSeconds: number,
  ): number;
  setReplicas(replicas: readonly RoutableReplica[]): void;
}

export interface SimulationOptions<Router extends SimulatedRouter = SimulatedRouter> extends ReplicaFactory {
  /** Sorted by arrival. */
  readonly trace: readonly TraceRequest[];
  readonly cluster: Cluster;
  readonly initial: PlacedDeployment;
  /** `previous` is the router that is replaced; its bookkeeping may go on. */
  readonly makeRouter: (
    routing: RoutingTable | null,
    replicas: readonly RoutableReplica[],
    previous?: Router,
  ) => Router;
  readonly costs: SwitchCosts;
  readonly random: Random;
  /** How long a step of a switch really takes, and whether it fails; by default as planned, and never. */
  readonly stepOutcome?: (
    step: SwitchStep,
    random: Random,
  ) => { readonly seconds: number; readonly failure: string | null };
  /** How old the load is that the router knows (what it sent itself since then it knows too); default 0. */
  readonly stateAgeSeconds?: (random: Random) => number;
  /** Refuse a request that arrives while so many wait in the replicas' queues; default: queues are unbounded. */
  readonly admission?: number;
}

export interface SimulationResult {
  readonly outcomes: readonly RequestOutcome[];
  /** From the first arrival to the last end. */
  readonly spanSeconds: number;
  readonly switches: readonly EndedSwitch[];
}

export class SimulatedFleet<Router extends SimulatedRouter = SimulatedRouter> implements Fleet {
  readonly log: RequestLog;
  readonly #options: SimulationOptions<Router>;
  readonly #replicas: SimulatedReplicas;
  readonly #switching: SimulatedSwitch;
  readonly #ages: Random;
  #router: Router;
  #nowSeconds = 0;
  /** Requests before this have arrived. */
  #arrived = 0;
  /** All requests before this have ended. */
  #firstOpen = 0;
  #openCount = 0;
  /** Requests that wait at the gateway because no replica takes them now. */
  #queue: number[] = [];
  /** Slots of the replicas that the router knows, in its order, and what it knows of their load. */
  #routable: number[] = [];
  #loadRequests = new Float64Array(0);
  #loadTokens = new Float64Array(0);
  #loadsUntilSeconds = Number.NEGATIVE_INFINITY;
  /** What the next observation tells: requests from here on, and what ended since the last one. */
  #observedArrivals = 0;
  #finished: number[] = [];
  #endedTold = 0;

  constructor(options: SimulationOptions<Router>) {
    this.#options = options;
    const model = options.models[0]!.name;
    const lengths = new Map(options.models.map((spec) => [spec.name, spec.maxModelLen]));
    this.log = new RequestLog({
      trace: options.trace,
      model,
      maxModelLenOf: (name) => lengths.get(name) ?? Number.POSITIVE_INFINITY,
      random: options.random.fork('requests'),
    });
    this.#ages = options.random.fork('router state');
    this.#replicas = new SimulatedReplicas(options);
    for (const placed of options.initial) this.#replicas.add(placed, 'serving');
    this.#router = options.makeRouter(null, this.#routableReplicas());
    this.#switching = new SimulatedSwitch({
      replicas: this.#replicas,
      drainSeconds: options.costs.drainSeconds,
      random: options.random.fork('switches'),
      stepOutcome: options.stepOutcome ?? ((step) => ({ seconds: step.seconds, failure: null })),
      servingChanged: () => this.#servingChanged(),
      moveOut: (slot) => this.#moveOut(slot),
    });
  }

  get nowSeconds(): number {
    return this.#nowSeconds;
  }

  /** Id of the switch under way, or null. */
  get switchInProgress(): string | null {
    return this.#switching.current;
  }

  /** Nothing is left to happen, except what a decision may still start. */
  get idle(): boolean {
    return this.#arrived === this.log.count && this.#openCount === 0 && this.#switching.current === null;
  }

  /** Lives through everything up to and including `seconds`. */
  advanceTo(seconds: number): void {
    for (;;) {
      const replicaSeconds = this.#replicas.nextEventSeconds();
      const switchSeconds = this.#switching.nextSeconds();
      const arrivalSeconds =
        this.#arrived < this.log.count ? this.log.arrivalSeconds[this.#arrived]! : Number.POSITIVE_INFINITY;
      const next = Math.min(replicaSeconds, switchSeconds, arrivalSeconds);
      if (next > seconds || next === Number.POSITIVE_INFINITY) break;
      this.#nowSeconds = Math.max(this.#nowSeconds, next);
      if (replicaSeconds === next) {
        const slot = this.#replicas.step(this);
        if (this.#replicas.at(slot).state === 'draining') this.#switching.drainedMaybe(slot, this.#nowSeconds);
      } else if (switchSeconds === next) this.#switching.step(next);
      else this.#arrive();
    }
    if (Number.isFinite(seconds)) this.#nowSeconds = Math.max(this.#nowSeconds, seconds);
  }

  /** Lives on until every request has ended and no switch is under way. */
  finish(): SimulationResult {
    this.advanceTo(Number.POSITIVE_INFINITY);
    let last = 0;
    for (let i = 0; i < this.log.count; i++) if (this.log.endSeconds[i]! > last) last = this.log.endSeconds[i]!;
    const first = this.log.count > 0 ? this.log.arrivalSeconds[0]! : 0;
    return {
      outcomes: this.log.outcomes(),
      spanSeconds: Math.max(Number.EPSILON, last - first),
      switches: this.#switching.ended,
    };
  }

  async observe(kind: 'slow' | 'fast'): Promise<Observation> {
    const { log } = this;
    const arrivals: RequestView[] = [];
    for (let i = this.#observedArrivals; i < this.#arrived; i++) arrivals.push(log.view(i));
    this.#observedArrivals = this.#arrived;
    const finished = this.#finished.map((request) => this.#finishedRequest(request));
    this.#finished = [];
    const ended = this.#switching.ended[this.#endedTold] ?? null;
    if (ended) this.#endedTold += 1;
    return {
      kind,
      atSeconds: this.#nowSeconds,
      cluster: this.#options.cluster,
      lostGpus: [],
      replicas: this.#replicas.slots().map((slot) => {
        const { placed, state, engine } = this.#replicas.at(slot);
        return {
          ...placed,
          state,
          runningCount: engine.runningCount,
          waitingCount: engine.waitingCount,
          kvUsedShare: engine.kvUsedBlocks / engine.kvBlocks,
        };
      }),
      arrivals,
      finished,
      // Running requests matter to the counts of a slow tick alone.
      running: kind === 'slow' ? this.#running() : [],
      queuedCount: this.#queue.length,
      switchInProgress: this.#switching.current,
      switchEnded: ended,
    };
  }

  async apply(decision: Decision): Promise<void> {
    if (decision.kind === 'route') this.setRouting(decision.routing);
    if (decision.kind === 'switch') this.startSwitch(decision.plan, decision.routing);
  }

  setRouting(routing: RoutingTable): void {
    this.#router = this.#options.makeRouter(routing, this.#routableReplicas(), this.#router);
  }

  startSwitch(plan: SwitchPlan, routing: RoutingTable): void {
    this.setRouting(routing);
    this.#switching.start(plan, this.#nowSeconds);
  }

  // ── what replicas tell ─────────────────────────────────────────────────────────────────────────────────────────

  token(request: number, generated: number, atSeconds: number): void {
    // Only the first token is of interest; how many there are, the engine knows.
    if (generated === 1 && this.log.carriedTokens[request] === 0) this.log.firstTokenSeconds[request] = atSeconds;
  }

  finished(request: number, atSeconds: number): void {
    const { log } = this;
    log.state[request] = RequestState.done;
    log.endSeconds[request] = atSeconds;
    log.replica[request] = -1;
    this.#openCount -= 1;
    this.#finished.push(request);
  }

  #finishedRequest(request: number): FinishedRequest {
    const { log } = this;
    return {
      ...log.view(request),
      outputTokens: log.outputTokens[request]!,
      finishedSeconds: log.endSeconds[request]!,
      ttftSeconds: log.firstTokenSeconds[request]! - log.arrivalSeconds[request]!,
    };
  }

  // ── requests ───────────────────────────────────────────────────────────────────────────────────────────────────

  #arrive(): void {
    const request = this.#arrived++;
    this.#openCount += 1;
    const { admission } = this.#options;
    if (admission !== undefined && this.#waitingCount() >= admission) this.#refuse(request);
    else this.#dispatch(request);
  }

  /** Sends a request to a replica; without one it waits while a switch may bring one, and is refused otherwise. */
  #dispatch(request: number): void {
    const { log } = this;
    this.#refreshLoads();
    const index = this.#router.route(
      log.view(request),
      { requests: this.#loadRequests, tokens: this.#loadTokens },
      this.#nowSeconds,
    );
    if (index < 0) {
      if (this.#switching.current === null && this.#routable.length > 0) this.#refuse(request);
      else {
        log.state[request] = RequestState.queued;
        this.#queue.push(request);
      }
      return;
    }
    const slot = this.#routable[index]!;
    const { engine } = this.#replicas.at(slot);
    const carried = log.carriedTokens[request]!;
    const inputTokens = log.inputTokens[request]! + carried;
    log.state[request] = RequestState.running;
    log.replica[request] = slot;
    engine.add(request, inputTokens, log.outputTokens[request]! - carried, this.#nowSeconds);
    this.#loadRequests[index]! += 1;
    this.#loadTokens[index]! += inputTokens;
    this.#replicas.touch(slot);
  }

  #refuse(request: number): void {
    this.log.state[request] = RequestState.refused;
    this.#openCount -= 1;
  }

  /** All requests of a replica go on elsewhere: prompt and tokens so far are computed again there. */
  #moveOut(slot: number): void {
    const { engine } = this.#replicas.at(slot);
    const moved: number[] = [];
    for (const request of this.#open()) {
      if (this.log.replica[request] !== slot) continue;
      this.log.carriedTokens[request]! += engine.generatedTokens(request);
      engine.remove(request, this.#nowSeconds);
      this.log.replica[request] = -1;
      moved.push(request);
    }
    this.#replicas.touch(slot);
    for (const request of moved) this.#dispatch(request);
  }

  #servingChanged(): void {
    this.#router.setReplicas(this.#routableReplicas());
    const waiting = this.#queue;
    this.#queue = [];
    for (const request of waiting) this.#dispatch(request);
  }

  #routableReplicas(): RoutableReplica[] {
    this.#routable = this.#replicas.slots().filter((slot) => this.#replicas.at(slot).state === 'serving');
    this.#loadRequests = new Float64Array(this.#routable.length);
    this.#loadTokens = new Float64Array(this.#routable.length);
    this.#loadsUntilSeconds = Number.NEGATIVE_INFINITY;
    return this.#routable.map((slot) => this.#replicas.at(slot));
  }

  #refreshLoads(): void {
    if (this.#nowSeconds < this.#loadsUntilSeconds) return;
    for (let i = 0; i < this.#routable.length; i++) {
      const { engine } = this.#replicas.at(this.#routable[i]!);
      this.#loadRequests[i] = engine.runningCount + engine.waitingCount;
      this.#loadTokens[i] = engine.outstandingTokens;
    }
    const age = this.#options.stateAgeSeconds;
    this.#loadsUntilSeconds = age ? this.#nowSeconds + age(this.#ages) : Number.NEGATIVE_INFINITY;
  }

  #waitingCount(): number {
    let waiting = this.#queue.length;
    for (const slot of this.#routable) waiting += this.#replicas.at(slot).engine.waitingCount;
    return waiting;
  }

  /** Requests that have arrived and not ended. */
  *#open(): Iterable<number> {
    const { state } = this.log;
    const isOpen = (request: number) =>
      state[request] === RequestState.queued || state[request] === RequestState.running;
    while (this.#firstOpen < this.#arrived && !isOpen(this.#firstOpen)) this.#firstOpen += 1;
    for (let request = this.#firstOpen; request < this.#arrived; request++) if (isOpen(request)) yield request;
  }

  #generatedTokens(request: number): number {
    const slot = this.log.replica[request]!;
    const here = slot < 0 ? 0 : this.#replicas.at(slot).engine.generatedTokens(request);
    return this.log.carriedTokens[request]! + here;
  }

  #running(): Observation['running'] {
    return Array.from(this.#open(), (request) => ({
      ...this.log.view(request),
      generatedTokens: this.#generatedTokens(request),
    }));
  }
}
