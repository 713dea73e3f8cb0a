// Room for replicas on nodes: whether a deployment can fit at all, and who makes way most cheaply where there is none.
import {
  type Deployment,
  gpusOf,
  InfeasibleError,
  illegalBecause,
  type PlacedReplica,
  strategyName,
} from '../domain/index.ts';
import type { ShardBook } from './holdings.ts';

/**
 * @param nodes - GPUs that work, by node.
 * @throws {@link InfeasibleError} when a strategy is illegal, or a kind of GPU is too few.
 */
export function checkDemand(
  to: Deployment,
  nodes: readonly { readonly gpuKind: string; readonly gpus: readonly number[] }[],
  book: ShardBook,
  lostCount: number,
): void {
  for (const { model, strategy } of to) {
    const why = illegalBecause(book.model(model), strategy);
    if (why) {
      throw new InfeasibleError(`${strategyName(strategy)} is illegal: ${why}.`, {
        hint: 'Choose a strategy that divides the heads and layers of the model.',
      });
    }
  }
  for (const kind of new Set(to.map(({ gpuKind }) => gpuKind))) {
    const wanted = to
      .filter(({ gpuKind }) => gpuKind === kind)
      .reduce((sum, { count, strategy }) => sum + count * gpusOf(strategy), 0);
    const have = nodes.filter(({ gpuKind }) => gpuKind === kind).reduce((sum, { gpus }) => sum + gpus.length, 0);
    if (wanted > have) {
      throw new InfeasibleError(
        `The deployment needs ${wanted} GPUs of kind ${kind}; the cluster has ${have}${lostCount > 0 ? ` that work (${lostCount} GPUs are lost)` : ''}.`,
        { hint: 'Ask for fewer or smaller replicas, or for more GPUs (--gpus).' },
      );
    }
  }
}

/**
 * The fewest GPUs' worth of replicas, each smaller than `below`, that frees at least `need` of these GPUs; null when
 * they are not enough. At most 8 or so replicas live in a node, so all subsets are tried.
 */
export function cheapestEviction(
  kept: readonly PlacedReplica[],
  nodeGpus: readonly number[],
  need: number,
  below: number,
): readonly PlacedReplica[] | null {
  const movable = kept.filter(({ gpus }) => gpus.length < below && gpus.every((gpu) => nodeGpus.includes(gpu)));
  let best: readonly PlacedReplica[] | null = null;
  let bestSum = Number.POSITIVE_INFINITY;
  for (let subset = 1; subset < 2 ** Math.min(movable.length, 16); subset++) {
    const chosen = movable.filter((_, i) => subset & (1 << i));
    const sum = chosen.reduce((total, { gpus }) => total + gpus.length, 0);
    if (sum >= need && (sum < bestSum || (sum === bestSum && chosen.length < best!.length))) {
      best = chosen;
      bestSum = sum;
    }
  }
  return best;
}
