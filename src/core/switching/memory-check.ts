// Does it fit? Each GPU accounts weights + KV cache + activations of engines that are awake, and what parked layouts
// hold. The same reckoning as the agents', so that a plan that passes here is not refused there.
import {
  type Cluster,
  type EngineOptions,
  formatGib,
  gpuKind,
  InfeasibleError,
  kvBytesPerTokenOnRank,
  layersByStage,
  nodeIndexByGpu,
  type PlacedReplica,
  replicaMemory,
  type SwitchCosts,
  strategyName,
  weightBytesByStage,
} from '../domain/index.ts';
import type { ShardBook } from './holdings.ts';
import type { ParkedLayout } from './switch-request.ts';

/** How old and new replicas of a component follow each other on their GPUs. */
export type Handover = 'fill-first' | 'after-fill' | 'before-wake';

interface Footprint {
  readonly weightBytes: number;
  readonly kvBytes: number;
}

export class MemoryCheck {
  readonly #cluster: Cluster;
  readonly #nodeOf: Int32Array;
  readonly #book: ShardBook;
  readonly #engine: EngineOptions;
  readonly #costs: SwitchCosts;
  readonly #parkedReserveBytes: number;
  readonly #footprints = new Map<string, readonly Footprint[]>();

  constructor(
    cluster: Cluster,
    book: ShardBook,
    engine: EngineOptions,
    costs: SwitchCosts,
    parkedReserveBytes: number,
  ) {
    this.#cluster = cluster;
    this.#nodeOf = nodeIndexByGpu(cluster);
    this.#book = book;
    this.#engine = engine;
    this.#costs = costs;
    this.#parkedReserveBytes = parkedReserveBytes;
  }

  capacityBytes(gpu: number): number {
    return gpuKind(this.#cluster.nodes[this.#nodeOf[gpu]!]!.gpuKind).memoryBytes;
  }

  /** @throws {@link InfeasibleError} when a replica has no room for weights and some KV cache. */
  checkAlone(replica: PlacedReplica): void {
    this.#footprint(replica);
  }

  /** Whether every GPU of a component can hold what this handover asks of it at its fullest. */
  fits(
    handover: Handover,
    leaving: readonly PlacedReplica[],
    arriving: readonly PlacedReplica[],
    parked: readonly ParkedLayout[],
  ): boolean {
    if (handover === 'before-wake') return true; // one after the other: fits whenever each does, see parkable()
    const { activationBytes } = this.#engine;
    return arriving.every((replica) =>
      replica.gpus.every((gpu) => {
        const fresh = this.#on(replica, gpu);
        const old = leaving.find(({ gpus }) => gpus.includes(gpu));
        if (!old) return true;
        const before = this.#on(old, gpu);
        const weights = fresh.weightBytes + before.weightBytes + 2 * activationBytes;
        const caches = handover === 'fill-first' ? fresh.kvBytes + before.kvBytes : 0;
        return weights + caches + this.#parkedBytes(gpu, parked, replica, old) <= this.capacityBytes(gpu);
      }),
    );
  }

  /**
   * Whether a leaving replica may stay as a parked layout beside the replicas that serve on its GPUs afterwards.
   *
   * @param parked - layouts parked already.
   */
  parkable(
    old: PlacedReplica,
    serving: readonly PlacedReplica[],
    parked: readonly ParkedLayout[],
    mostParkedLayouts: number,
  ): boolean {
    return old.gpus.every((gpu) => {
      const after = serving.find(({ gpus }) => gpus.includes(gpu));
      // The list may name layouts that are awake now: the old one is counted by itself, the next one by its engine.
      const others = parked.filter(
        (layout) => layout.gpus.includes(gpu) && !sameLayout(layout, old) && !(after && sameLayout(layout, after)),
      );
      const bytes = (others.length + 1) * this.#costs.parkedBytesPerLayout + (after ? this.#awake(after, gpu) : 0);
      return others.length + 1 <= mostParkedLayouts && bytes <= this.capacityBytes(gpu);
    });
  }

  /** @throws {@link InfeasibleError} with numbers when a replica does not fit beside the layouts parked on its GPUs. */
  checkBesideParked(replica: PlacedReplica, parked: readonly ParkedLayout[]): void {
    for (const gpu of replica.gpus) {
      const parkedBytes = this.#parkedBytes(gpu, parked, replica);
      const awake = this.#awake(replica, gpu);
      if (awake + parkedBytes > this.capacityBytes(gpu)) {
        throw new InfeasibleError(
          `GPU ${gpu} has ${formatGib(this.capacityBytes(gpu))}; ${replica.model} as ${strategyName(replica.strategy)} takes ${formatGib(awake)} and its parked layouts hold ${formatGib(parkedBytes)}.`,
          { hint: 'Release parked layouts, or leave more memory to them.' },
        );
      }
    }
  }

  #awake(replica: PlacedReplica, gpu: number): number {
    const { weightBytes, kvBytes } = this.#on(replica, gpu);
    return weightBytes + kvBytes + this.#engine.activationBytes;
  }

  #parkedBytes(gpu: number, parked: readonly ParkedLayout[], ...awake: readonly PlacedReplica[]): number {
    const layouts = parked.filter(
      (layout) => layout.gpus.includes(gpu) && !awake.some((replica) => sameLayout(layout, replica)),
    );
    return layouts.length * this.#costs.parkedBytesPerLayout;
  }

  #on(replica: PlacedReplica, gpu: number): Footprint {
    return this.#footprint(replica)[Math.floor(replica.gpus.indexOf(gpu) / replica.strategy.tensorParallel)]!;
  }

  /** By stage. */
  #footprint({ model: name, strategy, gpuKind: kind }: PlacedReplica): readonly Footprint[] {
    const key = `${name}:${strategyName(strategy)}@${kind}`;
    let footprint = this.#footprints.get(key);
    if (!footprint) {
      const model = this.#book.model(name);
      const memory = replicaMemory(model, strategy, gpuKind(kind), this.#engine, this.#parkedReserveBytes);
      if (memory.kvBlocks === 0) {
        throw new InfeasibleError(
          `${name} as ${strategyName(strategy)} needs ${formatGib(memory.weightBytes)} of weights on a GPU; ${kind} leaves ${formatGib(memory.weightBytes + memory.kvPoolBytes)} to weights and KV cache.`,
          { hint: 'Spread the model over more GPUs.' },
        );
      }
      const layers = layersByStage(model.layerCount, strategy.pipelineParallel);
      footprint = weightBytesByStage(model, strategy).map((weightBytes, stage) => ({
        weightBytes,
        kvBytes: memory.kvTokens * kvBytesPerTokenOnRank(model, layers[stage]!, strategy.tensorParallel),
      }));
      this.#footprints.set(key, footprint);
    }
    return footprint;
  }
}

/** Same model, strategy and GPUs, rank by rank. */
export const sameLayout = (a: Omit<ParkedLayout, 'id'>, b: Omit<ParkedLayout, 'id'>): boolean =>
  a.model === b.model &&
  strategyName(a.strategy) === strategyName(b.strategy) &&
  a.gpus.length === b.gpus.length &&
  a.gpus.every((gpu, rank) => gpu === b.gpus[rank]);
