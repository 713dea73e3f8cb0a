// What all agents say about their GPUs and engines, as one picture. An agent whose port is closed has died, and its
// engines with it (they hold a lease from it): they count as failed at once. An agent that is merely slow keeps its last
// word for a while. Only after `lostAfterMs` of silence are its GPUs lost, so that a restart does not cause a re-plan.
import { type Cluster, firstGpuByNode, gpuCountOf, invariant, nodeIndexByGpu } from '../../core/domain/index.ts';
import type { EngineInfo, Inventory } from '../../wire/index.ts';
import type { AgentPort } from './fleet-client.ts';
import { UnreachableError } from './json-client.ts';

export interface PoolView {
  /** All engines by id; of a dead agent the last known ones, as `failed`. */
  readonly engines: ReadonlyMap<string, EngineInfo>;
  /** GPUs that cannot be used now: reported lost, or their agent has been silent for too long. Sorted. */
  readonly lostGpus: readonly number[];
  /** Whether the agent of each node answered the last time it was asked. */
  readonly answering: readonly boolean[];
}

interface AgentMemory {
  inventory: Inventory | null;
  /** Real time since when it has been silent, or null. */
  silentSinceMs: number | null;
  processGone: boolean;
}

export interface FleetWatchOptions {
  /** One agent per node, in node order. */
  readonly agents: readonly AgentPort[];
  readonly cluster: Cluster;
  readonly lostAfterMs?: number;
  /** Monotonic real milliseconds. */
  readonly nowMs?: () => number;
  readonly onTrouble?: (agent: string, error: Error) => void;
}

export class FleetWatch {
  readonly #options: Required<FleetWatchOptions>;
  readonly #memory: AgentMemory[];
  readonly #nodeOf: Int32Array;
  #inFlight: Promise<PoolView> | null = null;
  #view: PoolView;

  constructor(options: FleetWatchOptions) {
    invariant(options.agents.length === options.cluster.nodes.length, 'there is one agent per node');
    this.#options = { lostAfterMs: 4000, nowMs: () => performance.now(), onTrouble: () => {}, ...options };
    this.#memory = options.agents.map(() => ({ inventory: null, silentSinceMs: null, processGone: false }));
    this.#nodeOf = nodeIndexByGpu(options.cluster);
    this.#view = { engines: new Map(), lostGpus: [], answering: options.agents.map(() => false) };
  }

  /** The last picture, without asking anybody. */
  get view(): PoolView {
    return this.#view;
  }

  /** The agent of the node that holds these GPUs; an engine lives on one node. */
  agentOf(gpus: readonly number[]): AgentPort {
    const node = this.#nodeOf[gpus[0]!];
    invariant(
      node !== undefined && gpus.every((gpu) => this.#nodeOf[gpu] === node),
      'an engine has GPUs of one node alone',
    );
    return this.#options.agents[node]!;
  }

  /** Asks all agents; callers that come while they are being asked share one answer. Never rejects. */
  refresh(): Promise<PoolView> {
    this.#inFlight ??= this.#askAll().finally(() => {
      this.#inFlight = null;
    });
    return this.#inFlight;
  }

  async #askAll(): Promise<PoolView> {
    await Promise.all(this.#options.agents.map((agent, node) => this.#ask(agent, this.#memory[node]!)));
    this.#view = this.#compose();
    return this.#view;
  }

  async #ask(agent: AgentPort, memory: AgentMemory): Promise<void> {
    try {
      memory.inventory = await agent.inventory();
      memory.silentSinceMs = null;
      memory.processGone = false;
    } catch (error) {
      if (memory.silentSinceMs === null) this.#options.onTrouble(agent.name, error as Error);
      memory.silentSinceMs ??= this.#options.nowMs();
      memory.processGone = error instanceof UnreachableError && error.processGone;
    }
  }

  #compose(): PoolView {
    const { cluster, lostAfterMs, nowMs } = this.#options;
    const firstGpu = firstGpuByNode(cluster);
    const engines = new Map<string, EngineInfo>();
    const lost = new Set<number>();
    this.#memory.forEach((memory, node) => {
      const silentMs = memory.silentSinceMs === null ? 0 : nowMs() - memory.silentSinceMs;
      const gone = memory.processGone || silentMs >= lostAfterMs;
      for (const engine of memory.inventory?.engines ?? []) {
        engines.set(engine.id, gone ? { ...engine, state: 'failed', failure: 'its agent does not answer' } : engine);
      }
      for (const gpu of memory.inventory?.gpus ?? []) if (gpu.lost) lost.add(gpu.gpu);
      if (silentMs >= lostAfterMs) {
        for (let i = 0; i < cluster.nodes[node]!.gpuCount; i++) lost.add(firstGpu[node]! + i);
      }
    });
    invariant(
      [...lost].every((gpu) => gpu < gpuCountOf(cluster)),
      'an agent reports GPUs of the cluster only',
    );
    return {
      engines,
      lostGpus: [...lost].sort((a, b) => a - b),
      answering: this.#memory.map((memory) => memory.inventory !== null && memory.silentSinceMs === null),
    };
  }
}
