// Which kinds of replica the search may choose from: every legal strategy that fits the memory of a kind of GPU there is.
import {
  type Cluster,
  compareClasses,
  type EngineOptions,
  gpuKind,
  gpusOf,
  InfeasibleError,
  illegalBecause,
  type ModelSpec,
  type ReplicaClass,
  replicaMemory,
} from '../domain/index.ts';

export interface CandidateClassOptions {
  /** Default 1, 2, 4, 8. */
  readonly tensorParallel?: readonly number[];
  /** Default 1, 2, 4, 8. */
  readonly pipelineParallel?: readonly number[];
  /** Default: the largest node, since engines that span nodes are not part of the fleet protocol yet. */
  readonly mostGpusPerReplica?: number;
  /** Replicas that hold less than this are of no use; input + output tokens of one request, default 2048. */
  readonly leastModelLen?: number;
  /** What parked layouts hold on each GPU. */
  readonly parkedBytes?: number;
}

const POWERS = [1, 2, 4, 8] as const;

/**
 * Legal and fitting classes of all models on all kinds of GPU, sorted by {@link compareClasses}.
 *
 * @throws {@link InfeasibleError} when a model has none.
 */
export function candidateClasses(
  models: readonly ModelSpec[],
  cluster: Cluster,
  engine: EngineOptions,
  options: CandidateClassOptions = {},
): ReplicaClass[] {
  const { tensorParallel = POWERS, pipelineParallel = POWERS, leastModelLen = 2048, parkedBytes = 0 } = options;
  const kinds = [...new Set(cluster.nodes.map((node) => node.gpuKind))];
  const found = models.flatMap((model) => {
    const own = kinds.flatMap((kind) => {
      const nodeSizes = cluster.nodes.filter((node) => node.gpuKind === kind).map((node) => node.gpuCount);
      const nodeSize = Math.max(...nodeSizes);
      const total = nodeSizes.reduce((sum, size) => sum + size, 0);
      const most = Math.min(options.mostGpusPerReplica ?? nodeSize, total);
      return tensorParallel.flatMap((tp) =>
        pipelineParallel.flatMap((pp): ReplicaClass[] => {
          const strategy = { tensorParallel: tp, pipelineParallel: pp };
          const gpus = gpusOf(strategy);
          // Tensor parallelism stays inside a node; a larger replica takes whole nodes.
          if (gpus > most || tp > nodeSize || (gpus > nodeSize && gpus % nodeSize !== 0)) return [];
          if (illegalBecause(model, strategy) !== null) return [];
          const memory = replicaMemory(model, strategy, gpuKind(kind), engine, parkedBytes);
          if (memory.maxModelLen < Math.min(leastModelLen, model.maxModelLen)) return [];
          return [{ model: model.name, gpuKind: kind, strategy }];
        }),
      );
    });
    if (own.length === 0) {
      throw new InfeasibleError(`No legal strategy of ${model.name} fits on ${kinds.join(', ')}.`, {
        hint: 'Use GPUs with more memory, more GPUs per node, or a smaller model.',
      });
    }
    return own;
  });
  return found.sort(compareClasses);
}
