// A pool without processes, for unit tests: agents and a gateway that keep the rules of the protocol in memory, and a
// clock that jumps to the next timer as soon as everything waits. Faults can be put in by name.
import { type Cluster, firstGpuByNode, gpusOf, type Strategy, uniformCluster } from '../../src/core/domain/index.ts';
import {
  type AgentPort,
  type EngineVerb,
  type GatewayPort,
  type Layout,
  RefusedError,
  UnreachableError,
} from '../../src/host/live/index.ts';
import type {
  CreateEngine,
  EngineInfo,
  EngineState,
  Evacuated,
  Fill,
  GatewayObservation,
  GatewayStatus,
  Inventory,
  RoutingUpdate,
} from '../../src/wire/index.ts';

/** Time that stands still while there is something to do and then jumps to the next timer. */
export class VirtualClock {
  #now = 0;
  #timers: { at: number; sequence: number; wake: () => void }[] = [];
  #sequence = 0;
  #pumping = false;

  nowSeconds(): number {
    return this.#now;
  }

  delay(seconds: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const abort = () => reject(signal?.reason);
      const wake = () => {
        signal?.removeEventListener('abort', abort);
        resolve();
      };
      this.#timers.push({ at: this.#now + seconds, sequence: this.#sequence++, wake });
      signal?.addEventListener('abort', abort, { once: true });
      this.#pump();
    });
  }

  #pump(): void {
    if (this.#pumping || this.#timers.length === 0) return;
    this.#pumping = true;
    setImmediate(() => {
      this.#pumping = false;
      this.#timers.sort((a, b) => a.at - b.at || a.sequence - b.sequence);
      const next = this.#timers.shift();
      if (next) {
        this.#now = Math.max(this.#now, next.at);
        next.wake();
      }
      this.#pump();
    });
  }
}

const AWAKE: ReadonlySet<EngineState> = new Set(['waking', 'filled', 'serving', 'draining']);
const RANK: Readonly<Record<EngineState, number>> = {
  failed: -1,
  starting: 0,
  parked: 0,
  waking: 1,
  filled: 2,
  serving: 3,
  draining: 4,
};

/** Durations of the operations, seconds. */
const SECONDS = { create: 1, wake: 2.6, verify: 0.5, admit: 0, drain: 0, park: 0.5, release: 0 };

export class FakeAgent implements AgentPort {
  readonly name: string;
  readonly engines = new Map<string, EngineInfo>();
  /** Everything that was asked of it and done, in order: `wake llama2-70b.TP4.g0-3`. */
  readonly log: string[] = [];
  /** `gone`: its port is closed. `mute`: it accepts and never answers. */
  reach: 'ok' | 'gone' | 'mute' = 'ok';
  /** Operations that fail the next time, by `verb engine` or `verb`; each is used once. */
  readonly failOnce = new Set<string>();
  readonly #clock: VirtualClock;
  readonly #node: number;
  readonly #firstGpu: number;
  readonly #gpuCount: number;

  constructor(cluster: Cluster, node: number, clock: VirtualClock) {
    this.name = `agent ${node}`;
    this.#clock = clock;
    this.#node = node;
    this.#firstGpu = firstGpuByNode(cluster)[node]!;
    this.#gpuCount = cluster.nodes[node]!.gpuCount;
  }

  async inventory(): Promise<Inventory> {
    this.#answerable();
    return {
      agent: this.name,
      nodeIndex: this.#node,
      emulated: true,
      speed: 1,
      gpus: Array.from({ length: this.#gpuCount }, (_, i) => ({
        gpu: this.#firstGpu + i,
        gpuKind: 'H100-80GB',
        memoryBytes: 80e9,
        usedBytes: 0,
        lost: false,
      })),
      engines: [...this.engines.values()].map((engine) => ({ ...engine })),
      capabilities: { rungs: ['keep', 'parked-fill'], partialRelease: false, hostCache: true, kvTransfer: false },
      lastEvent: 0,
    };
  }

  async create(engine: CreateEngine): Promise<EngineInfo> {
    await this.#begin('create', engine.id);
    const known = this.engines.get(engine.id);
    if (known) return { ...known };
    const made: EngineInfo = {
      ...engine,
      state: 'parked',
      url: `http://127.0.0.1:1/${engine.id}`,
      pid: null,
      runningCount: 0,
      waitingCount: 0,
      kvUsedShare: 0,
      kvTokens: 100_000,
      maxModelLen: 16_384,
      failure: null,
    };
    this.engines.set(engine.id, made);
    return { ...made };
  }

  async tell(id: string, verb: Exclude<EngineVerb, 'fill' | 'park'>): Promise<EngineInfo> {
    const engine = await this.#begin(verb, id);
    switch (verb) {
      case 'wake':
        if (RANK[engine.state] >= RANK.waking) break;
        for (const other of this.engines.values()) {
          if (other.id !== id && AWAKE.has(other.state) && other.gpus.some((gpu) => engine.gpus.includes(gpu)))
            throw new RefusedError(`${id} does not fit beside ${other.id}`, 409, 'memory');
        }
        engine.state = 'waking';
        break;
      case 'verify':
        this.#needs(engine, 'filled');
        break;
      case 'admit':
        this.#needs(engine, 'filled');
        engine.state = 'serving';
        break;
      case 'drain':
        if (engine.state === 'serving') engine.state = 'draining';
        break;
      case 'release':
        this.engines.delete(id);
        break;
    }
    return { ...engine };
  }

  async fill(id: string, { seconds }: Fill): Promise<EngineInfo> {
    const engine = await this.#begin('fill', id, seconds);
    this.#needs(engine, 'waking');
    if (engine.state === 'waking') engine.state = 'filled';
    return { ...engine };
  }

  async park(id: string): Promise<EngineInfo> {
    const engine = await this.#begin('park', id);
    engine.state = 'parked';
    engine.runningCount = 0;
    return { ...engine };
  }

  /** The agent process dies and its engines with it; it comes back without any. */
  die(): void {
    this.reach = 'gone';
    this.engines.clear();
  }

  async #begin(verb: keyof typeof SECONDS | 'fill', id: string, seconds?: number): Promise<EngineInfo> {
    this.#answerable();
    if (this.failOnce.delete(verb) || this.failOnce.delete(`${verb} ${id}`))
      throw new RefusedError(`${verb} ${id} fails as told`, 500, 'told');
    if (verb !== 'create' && !this.engines.has(id)) throw new RefusedError(`no engine ${id}`, 404, 'engine_unknown');
    await this.#clock.delay(seconds ?? SECONDS[verb as keyof typeof SECONDS]);
    this.#answerable();
    const engine = this.engines.get(id);
    if (verb !== 'create' && !engine) throw new RefusedError(`no engine ${id}`, 404, 'engine_unknown');
    this.log.push(`${verb} ${id}`);
    return engine as EngineInfo;
  }

  #needs(engine: EngineInfo, state: EngineState): void {
    if (RANK[engine.state] < RANK[state])
      throw new RefusedError(`${engine.id} is ${engine.state}, not ${state}`, 409, 'state');
  }

  #answerable(): void {
    if (this.reach !== 'ok') throw new UnreachableError(`${this.name} does not answer`, this.reach === 'gone', null);
  }
}

export class FakeGateway implements GatewayPort {
  incarnation = 'first';
  version = 0;
  reachable = true;
  readonly updates: RoutingUpdate[] = [];
  /** Requests still running by replica: those that can be moved and those that cannot. */
  readonly movable = new Map<string, number>();
  readonly fixed = new Map<string, number>();
  /** `wait ID`, `cut ID`, in order. */
  readonly evacuations: string[] = [];
  arrivals: GatewayObservation['arrivals'] = [];
  cursorsAsked: number[] = [];

  get routedIds(): string[] {
    return (this.updates.at(-1)?.replicas ?? []).map((replica) => replica.id);
  }

  async putRouting(update: RoutingUpdate): Promise<{ version: number }> {
    this.#answerable();
    if (update.version <= this.version) throw new RefusedError(`version ${update.version} is old`, 409, 'old');
    this.version = update.version;
    this.updates.push(update);
    return { version: update.version };
  }

  async evacuate(id: string, mode: 'wait' | 'cut'): Promise<Evacuated> {
    this.#answerable();
    this.evacuations.push(`${mode} ${id}`);
    const moved = mode === 'cut' ? (this.movable.get(id) ?? 0) : 0;
    if (mode === 'cut') this.movable.delete(id);
    return { runningCount: (this.movable.get(id) ?? 0) + (this.fixed.get(id) ?? 0), movedCount: moved };
  }

  async observation(cursor: number, incarnation: string | null): Promise<GatewayObservation> {
    this.#answerable();
    const after = incarnation === null || incarnation === this.incarnation ? cursor : 0;
    this.cursorsAsked.push(after);
    return {
      incarnation: this.incarnation,
      cursor: after + this.arrivals.length,
      routingVersion: this.version,
      arrivals: this.arrivals,
      finished: [],
      running: [],
      queuedCount: 0,
    };
  }

  async status(): Promise<GatewayStatus> {
    this.#answerable();
    return {
      ready: true,
      emulated: true,
      speed: 1,
      routingVersion: this.version,
      runningByReplica: {},
      queuedCount: 0,
    };
  }

  /** Another process in its place: it knows nothing. */
  restart(): void {
    this.incarnation = `${this.incarnation}+`;
    this.version = 0;
  }

  #answerable(): void {
    if (!this.reachable) throw new UnreachableError('gateway does not answer', true, null);
  }
}

/** Two nodes of eight H100. */
export function fakePool(nodes = 2) {
  const cluster = uniformCluster(8 * nodes);
  const clock = new VirtualClock();
  const agents = cluster.nodes.map((_, node) => new FakeAgent(cluster, node, clock));
  const gateway = new FakeGateway();
  return { cluster, clock, agents, gateway };
}

/** Each strategy side by side on each node, from its first GPU. */
export function tiledLayouts(cluster: Cluster, model: string, strategies: readonly Strategy[]): Layout[] {
  const firstGpu = firstGpuByNode(cluster);
  return cluster.nodes.flatMap((node, index) =>
    strategies.flatMap((strategy) =>
      Array.from({ length: Math.floor(node.gpuCount / gpusOf(strategy)) }, (_, slot) => ({
        model,
        gpuKind: node.gpuKind,
        strategy,
        gpus: Array.from({ length: gpusOf(strategy) }, (_, i) => firstGpu[index]! + slot * gpusOf(strategy) + i),
      })),
    ),
  );
}
