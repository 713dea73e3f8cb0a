// Who holds how many bytes of which GPU. What does not fit is refused with numbers before anything happens: an agent
// never overcommits, whatever it is told to do.
import {
  type EngineOptions,
  formatGib,
  type GpuKind,
  InfeasibleError,
  invariant,
  kvBytesPerTokenOnRank,
  layersByStage,
  type ModelSpec,
  type ReplicaMemory,
  type Strategy,
  weightBytesByStage,
} from '../core/domain/index.ts';

export class MemoryLedger {
  readonly #capacity: ReadonlyMap<number, number>;
  /** Bytes by holder, then by GPU. */
  readonly #held = new Map<string, ReadonlyMap<number, number>>();

  constructor(gpus: readonly { readonly gpu: number; readonly kind: GpuKind }[]) {
    this.#capacity = new Map(gpus.map(({ gpu, kind }) => [gpu, kind.memoryBytes]));
  }

  capacityBytes(gpu: number): number {
    const bytes = this.#capacity.get(gpu);
    invariant(bytes !== undefined, `the ledger knows GPU ${gpu}`);
    return bytes;
  }

  usedBytes(gpu: number): number {
    let used = 0;
    for (const bytes of this.#held.values()) used += bytes.get(gpu) ?? 0;
    return used;
  }

  /**
   * Makes `bytesByGpu` all that `holder` holds, in place of what it held before.
   *
   * @throws {@link InfeasibleError} when a GPU cannot give that much; nothing has changed then.
   */
  take(holder: string, bytesByGpu: ReadonlyMap<number, number>, purpose: string): void {
    const before = this.#held.get(holder);
    for (const [gpu, bytes] of bytesByGpu) {
      const others = this.usedBytes(gpu) - (before?.get(gpu) ?? 0);
      const capacity = this.capacityBytes(gpu);
      if (others + bytes > capacity) {
        throw new InfeasibleError(
          `GPU ${gpu} cannot give ${formatGib(bytes)} to ${purpose}: ${formatGib(others)} of its ${formatGib(capacity)} are held by ${this.#holdersOf(gpu, holder)}, ${formatGib(capacity - others)} are free.`,
          { hint: 'Park or release an engine on this GPU first.' },
        );
      }
    }
    this.#held.set(holder, bytesByGpu);
  }

  free(holder: string): void {
    this.#held.delete(holder);
  }

  #holdersOf(gpu: number, except: string): string {
    const holders: string[] = [];
    for (const [holder, bytes] of this.#held) if (holder !== except && (bytes.get(gpu) ?? 0) > 0) holders.push(holder);
    return holders.join(', ') || 'nobody';
  }
}

/** Bytes of a layout that is parked: the same on each of its GPUs. */
export const parkedBytesByGpu = (gpus: readonly number[], parkedBytes: number): Map<number, number> =>
  new Map(gpus.map((gpu) => [gpu, parkedBytes]));

/**
 * Bytes of an engine that is awake: weights + KV pool + activations, by GPU.
 *
 * @param gpus - `gpus[p × TP + t]` is the GPU of (stage p, slice t).
 */
export function awakeBytesByGpu(
  model: ModelSpec,
  strategy: Strategy,
  gpus: readonly number[],
  engine: EngineOptions,
  { kvTokens }: ReplicaMemory,
): Map<number, number> {
  const { tensorParallel, pipelineParallel } = strategy;
  const layers = layersByStage(model.layerCount, pipelineParallel);
  const bytes = weightBytesByStage(model, strategy).map(
    (weights, stage) =>
      weights + engine.activationBytes + kvTokens * kvBytesPerTokenOnRank(model, layers[stage]!, tensorParallel),
  );
  return new Map(gpus.map((gpu, rank) => [gpu, bytes[Math.floor(rank / tensorParallel)]!]));
}
