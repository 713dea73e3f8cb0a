// Every deployment that nothing can be added to, one after the other: slow, obvious, and refused for large pools.
import { InfeasibleError, OserveError } from '../domain/index.ts';
import type { CandidatePool } from './candidates.ts';
import type { FoundDeployment } from './deployment-rounding.ts';
import type { DeploymentSpace } from './deployment-space.ts';
import type { DeploymentValue } from './deployment-value.ts';

/** More deployments than this are refused: some seconds at most. */
const MOST_DEPLOYMENTS = 1_000_000;

export function bruteForce(
  space: DeploymentSpace,
  value: DeploymentValue,
  pool: CandidatePool,
): { best: FoundDeployment; nodes: number } {
  refuseTooMany(space);
  const counts = space.lower.slice();
  let best: FoundDeployment | null = null;
  let nodes = 0;

  const visit = (k: number): void => {
    if (k === space.classCount) {
      if (!space.isAllowed(counts) || canGrow(space, counts)) return;
      nodes++;
      const reached = value.of(counts);
      if (best === null || reached > best.value * (1 + 1e-9)) {
        best = { counts: counts.slice(), value: reached };
        pool.offer(counts, reached, 'mixed');
      }
      return;
    }
    const least = counts[k]!;
    let most = least;
    for (; most <= space.upper[k]!; most++) {
      counts[k] = most;
      if (!space.fits(counts)) break;
    }
    for (let count = most - 1; count >= least; count--) {
      counts[k] = count;
      visit(k + 1);
    }
    counts[k] = least;
  };
  visit(0);
  const found = best as FoundDeployment | null;
  if (found === null) {
    throw new InfeasibleError('No deployment satisfies the limits, the pinned replicas and the nodes.', {
      hint: 'Lower minReplicas, unpin replicas, or add GPUs.',
    });
  }
  return { best: found, nodes };
}

function canGrow(space: DeploymentSpace, counts: Int32Array): boolean {
  for (let k = 0; k < counts.length; k++) {
    if (counts[k]! >= space.upper[k]!) continue;
    counts[k] = counts[k]! + 1;
    const fits = space.fits(counts);
    counts[k] = counts[k]! - 1;
    if (fits) return true;
  }
  return false;
}

/** Counts the ways to spend the GPUs of each kind, small remainders included, without listing them. */
function refuseTooMany(space: DeploymentSpace): void {
  const { classes, nodes } = space.problem;
  let deployments = 1;
  for (const kind of new Set(classes.map(({ gpuKind }) => gpuKind))) {
    const usable = nodes.reduce((sum, node) => (node.gpuKind === kind ? sum + node.usableCount : sum), 0);
    // ways[n]: choices of counts that spend exactly n GPUs.
    const ways = new Float64Array(usable + 1);
    ways[0] = 1;
    classes.forEach(({ gpuKind }, k) => {
      if (gpuKind !== kind) return;
      const g = space.gpus[k]!;
      for (let n = g; n <= usable; n++) ways[n] = ways[n]! + ways[n - g]!;
    });
    deployments *= ways.reduce((sum, value) => sum + value, 0);
  }
  if (deployments <= MOST_DEPLOYMENTS) return;
  const usable = nodes.reduce((sum, node) => sum + node.usableCount, 0);
  throw new OserveError(
    'search_too_large',
    `Brute force over ${space.classCount} kinds of replica on ${usable} GPUs means ${deployments.toExponential(1)} deployments; at most ${MOST_DEPLOYMENTS} are tried.`,
    { hint: 'Use the solver "exact": it proves the same optimum.' },
  );
}
