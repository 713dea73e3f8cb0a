// Which nested confinements are worth trying for a mix of prompts: the longest 20, 15 and 10 % of the requests, each on no
// fewer replicas than their share of the work needs. One replica too few makes the slowest requests several times slower.
import type { RoutingVariant } from '../domain/index.ts';

/** One observed request. */
export interface PromptSample {
  readonly inputTokens: number;
  /** Work that it causes, in any unit, for example seconds of a replica (1 / service rate of its type). */
  readonly work: number;
}

/** Confined prompts may load their part of the replicas to this utilisation when all replicas are loaded fully. */
const MOST_LOAD_SHARE = 0.85;
const PERCENTILES = [0.8, 0.85, 0.9] as const;

/**
 * @param samples - prompts of the coming minutes, in any order.
 * @param replicas - GPU counts of the replicas that will serve them.
 * @returns one variant per percentile that leaves the others a real choice, and one with two steps; none for fewer than
 *   two replicas or when the longest prompts do nearly all of the work. Equal variants are given once.
 */
export function nestedVariants(
  samples: readonly PromptSample[],
  replicas: readonly { readonly gpuCount: number }[],
): RoutingVariant[] {
  if (replicas.length < 2 || samples.length === 0) return [];
  const sorted = [...samples].sort((a, b) => a.inputTokens - b.inputTokens);
  const work = sorted.reduce((sum, sample) => sum + sample.work, 0);
  if (!(work > 0)) return [];
  const gpus = replicas.reduce((sum, replica) => sum + replica.gpuCount, 0);
  const largest = Math.max(...replicas.map((replica) => replica.gpuCount));

  const steps: { longerThan: number; share: number }[] = [];
  for (const percentile of PERCENTILES) {
    const longerThan = sorted[Math.min(sorted.length - 1, Math.floor(percentile * sorted.length))]!.inputTokens;
    const long = sorted.reduce((sum, sample) => (sample.inputTokens > longerThan ? sum + sample.work : sum), 0);
    if (long === 0) continue;
    // Whole replicas of the largest size, so that the part is never smaller than asked for in any order.
    const needed = Math.ceil((long / work / MOST_LOAD_SHARE) * (gpus / largest) - 1e-9) * largest;
    if (needed >= gpus) continue;
    if (steps.at(-1)?.longerThan === longerThan) continue;
    steps.push({ longerThan, share: needed / gpus });
  }
  const variants: RoutingVariant[] = steps.map(({ longerThan, share }) => ({
    kind: 'nested',
    longerThanTokens: [longerThan],
    replicaShares: [share],
  }));
  const [first, last] = [steps[0], steps.at(-1)];
  if (first && last && last.share < first.share) {
    variants.push({
      kind: 'nested',
      longerThanTokens: [first.longerThan, last.longerThan],
      replicaShares: [first.share, last.share],
    });
  }
  return variants;
}
