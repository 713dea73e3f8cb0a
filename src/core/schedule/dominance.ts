// Classes that the optimum can do without: where m replicas of another class take no more GPUs, lie wherever the one
// replica lay, and together serve every type at least as fast. They leave the exact search, not the candidates.

import type { Demand } from './demand.ts';
import type { DeploymentSpace } from './deployment-space.ts';
import type { DeploymentProblem } from './search-problem.ts';

/** Upper bounds on counts (K) with dominated classes at 0 (at what is pinned or runs now, where that is more). */
export function undominated(
  problem: DeploymentProblem,
  space: DeploymentSpace,
  demand: Demand,
  running: Int32Array | null,
): Int32Array {
  const upper = space.upper.slice();
  const gone = new Set<number>();
  for (let k = 0; k < space.classCount; k++) {
    for (let other = 0; other < space.classCount; other++) {
      if (other === k || gone.has(other) || !dominates(problem, space, demand, other, k)) continue;
      gone.add(k);
      upper[k] = Math.max(space.lower[k]!, running?.[k] ?? 0);
      break;
    }
  }
  return upper;
}

function dominates(
  { classes, holdsFullLength, limits = {}, nodes }: DeploymentProblem,
  space: DeploymentSpace,
  { serviceRate, types }: Demand,
  better: number,
  worse: number,
): boolean {
  const [a, b] = [classes[better]!, classes[worse]!];
  if (a.model !== b.model || a.gpuKind !== b.gpuKind) return false;
  if (holdsFullLength[worse] && !holdsFullLength[better]) return false;
  const copies = copiesInPlace(space.gpus[better]!, space.gpus[worse]!, nodes, a.gpuKind);
  if (copies === 0) return false;
  if (copies > 1 && limits[a.model]?.maxReplicas !== undefined) return false;
  for (let j = 0; j < types.length; j++) {
    if (copies * serviceRate[better * types.length + j]! < serviceRate[worse * types.length + j]!) return false;
  }
  // Of two that dominate each other the first stays.
  return (
    copies > 1 ||
    space.gpus[better]! < space.gpus[worse]! ||
    better < worse ||
    !mutual(space, serviceRate, types.length, better, worse, holdsFullLength)
  );
}

/** How many replicas of `small` GPUs lie wherever one of `large` GPUs lay. */
function copiesInPlace(small: number, large: number, nodes: DeploymentProblem['nodes'], gpuKind: string): number {
  if (small > large) return 0;
  const nodeSize = nodes.reduce((most, node) => (node.gpuKind === gpuKind ? Math.max(most, node.gpuCount) : most), 0);
  if (large <= nodeSize) return Math.floor(large / small);
  const wholeNodes = Math.ceil(large / nodeSize);
  return small > nodeSize
    ? Math.floor(wholeNodes / Math.ceil(small / nodeSize))
    : wholeNodes * Math.floor(nodeSize / small);
}

function mutual(
  space: DeploymentSpace,
  serviceRate: Float64Array,
  types: number,
  a: number,
  b: number,
  holdsFullLength: readonly boolean[],
): boolean {
  if (space.gpus[a] !== space.gpus[b] || holdsFullLength[a] !== holdsFullLength[b]) return false;
  for (let j = 0; j < types; j++) if (serviceRate[a * types + j] !== serviceRate[b * types + j]) return false;
  return true;
}
