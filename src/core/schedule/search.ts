// Upper level of the schedule: how many replicas of each class. Exact by branch and bound over counts, anytime, with a
// proven bound for the linear share model; brute force as the slow and obvious judge for small pools.
import { InfeasibleError, OserveError, unreachable } from '../domain/index.ts';
import { bruteForce } from './brute-force.ts';
import { CandidatePool, pickCandidates } from './candidates.ts';
import { type Demand, demandOf, restDemand } from './demand.ts';
import { solveDeploymentProgram } from './deployment-program.ts';
import { completeModels, fillUp, tryAdd } from './deployment-rounding.ts';
import { DeploymentSpace } from './deployment-space.ts';
import { DeploymentValue } from './deployment-value.ts';
import { undominated } from './dominance.ts';
import type { DeploymentProblem, SearchOptions, SearchResult } from './search-problem.ts';

const DEFAULT_CANDIDATES = 12;

/**
 * Searches the deployment that could carry the given arrivals most times over, and good, mutually different others.
 *
 * When nothing arrives at all, equal rates of all types are planned for. Ties are broken towards the previous counts,
 * otherwise by the fixed order of the search, so equal problems give equal answers.
 *
 * @throws {@link InfeasibleError} when limits, pins and GPUs contradict each other; OserveError for a solver that this
 *   version does not have, or a pool too large for brute force.
 */
export function searchDeployments(problem: DeploymentProblem, options: SearchOptions): SearchResult {
  const solver = options.solver ?? 'exact';
  const space = new DeploymentSpace(problem);
  const { demand, unservableTypes } = demandOf(problem, space);
  const value = new DeploymentValue(demand.arrivalRate, demand.serviceRate);
  const pool = new CandidatePool(space);

  switch (solver) {
    case 'exact': {
      const found = exact(problem, space, value, demand, options, pool);
      return {
        solver,
        ...found,
        candidates: pickCandidates(space, value, demand, pool, options.candidateCount ?? DEFAULT_CANDIDATES),
        unservableTypes,
      };
    }
    case 'brute-force': {
      const { best, nodes } = bruteForce(space, value, pool);
      pool.offer(best.counts, best.value, 'best');
      return {
        solver,
        best: Array.from(best.counts),
        value: best.value,
        upperBound: best.value,
        gap: 0,
        nodes,
        candidates: pickCandidates(space, value, demand, pool, options.candidateCount ?? DEFAULT_CANDIDATES),
        unservableTypes,
      };
    }
    case 'flow-guided':
      throw new OserveError('not_available', 'The solver "flow-guided" is not available in this version.', {
        hint: 'Available: exact, brute-force.',
      });
    default:
      return unreachable(solver);
  }
}

function exact(
  problem: DeploymentProblem,
  space: DeploymentSpace,
  value: DeploymentValue,
  demand: Demand,
  options: SearchOptions,
  pool: CandidatePool,
): Pick<SearchResult, 'best' | 'value' | 'upperBound' | 'gap' | 'nodes'> {
  const previous = problem.previousCounts === undefined ? null : Int32Array.from(problem.previousCounts);
  const incumbent = previous !== null && space.isAllowed(previous) ? previous : null;
  if (incumbent !== null) pool.offer(incumbent, value.of(incumbent), 'previous');
  const upper = undominated(problem, space, demand, incumbent);
  const result = solveDeploymentProgram({
    space,
    value,
    ...demand,
    lower: space.lower,
    upper,
    incumbent,
    nodeBudget: options.searchNodes,
    relativeGap: options.relativeGap ?? 0,
    onFound: (counts, reached) => pool.offer(counts, reached, 'mixed'),
  });
  const counts = result.best?.values ?? anyAllowed(space, value);
  const reached = result.best?.objective ?? value.of(counts);
  const spread = spreadOverModels(problem, space, demand, counts, options);
  spendTheRest(space, demand, spread.counts);
  pool.offer(spread.counts, reached, 'best');
  const upperBound = Math.max(reached, result.upperBound);
  return {
    best: Array.from(spread.counts),
    value: reached,
    upperBound,
    gap: relativeGap(upperBound, reached),
    nodes: result.nodes + spread.nodes,
  };
}

/** Upper bound over value − 1; 0 when nothing can serve all types and that is proven. */
const relativeGap = (upperBound: number, value: number): number =>
  upperBound <= value ? 0 : value > 0 ? upperBound / value - 1 : Number.POSITIVE_INFINITY;

/** The first deployment that has what it must have, when the budget did not last for more. */
function anyAllowed(space: DeploymentSpace, value: DeploymentValue): Int32Array {
  const counts = space.lower.slice();
  if (!completeModels(space, counts, space.upper, new Float64Array(space.classCount))) {
    const usable = space.problem.nodes.reduce((sum, node) => sum + node.usableCount, 0);
    throw new InfeasibleError(
      `Least replicas, pinned replicas and one replica of full length for each of ${space.classesByModel.size} models do not fit on ${usable} usable GPUs.`,
      { hint: 'Lower minReplicas, unpin replicas, or add GPUs.' },
    );
  }
  fillUp(space, value, counts, space.upper);
  return counts;
}

/**
 * With several models, the value is that of the model which is worst off, and whatever the others do above it is left
 * open. So the worst one is settled and the rest is searched again with the GPUs that it leaves, model by model.
 */
function spreadOverModels(
  problem: DeploymentProblem,
  space: DeploymentSpace,
  demand: Demand,
  start: Int32Array,
  options: SearchOptions,
): { counts: Int32Array; nodes: number } {
  let counts: Int32Array = start.slice();
  let nodes = 0;
  const settled = new Set<number>();
  const open = new Set(space.classesByModel.keys());
  while (open.size > 1) {
    const worth = [...open].map((model) => ({ model, ...restDemand(space, demand, new Set([model])) }));
    const valued = worth.map(({ model, arrivalRate, serviceRate, types }) => ({
      model,
      value: types.length === 0 ? Number.POSITIVE_INFINITY : new DeploymentValue(arrivalRate, serviceRate).of(counts),
    }));
    const worst = valued.reduce((a, b) => (b.value < a.value ? b : a));
    open.delete(worst.model);
    for (const k of space.classesByModel.get(worst.model)!) settled.add(k);
    const rest = restDemand(space, demand, open);
    if (rest.types.length === 0) break;
    const lower = Int32Array.from(counts, (count, k) => (settled.has(k) ? count : space.lower[k]!));
    const free = undominated(problem, space, demand, counts);
    const upper = Int32Array.from(counts, (count, k) => (settled.has(k) ? count : free[k]!));
    const result = solveDeploymentProgram({
      space,
      value: new DeploymentValue(rest.arrivalRate, rest.serviceRate),
      ...rest,
      lower,
      upper,
      incumbent: counts,
      nodeBudget: options.searchNodes,
      relativeGap: options.relativeGap ?? 0,
      onFound: () => {},
    });
    if (result.best !== null) counts = result.best.values;
    nodes += result.nodes;
  }
  return { counts, nodes };
}

/** GPUs that cannot raise the value (the limiting type fits none of the classes that still fit) help the other types. */
function spendTheRest(space: DeploymentSpace, { types, arrivalRate, serviceRate }: Demand, counts: Int32Array): void {
  const arrivals = arrivalRate.reduce((sum, rate) => sum + rate, 0);
  const worth = Array.from(counts, (_, k) => {
    let served = 0;
    let time = 0;
    for (let j = 0; j < types.length; j++) {
      const rate = serviceRate[k * types.length + j]!;
      if (!(rate > 0)) continue;
      served += arrivalRate[j]!;
      time += arrivalRate[j]! / rate;
    }
    return time > 0 ? ((served / arrivals) * (served / time)) / space.gpus[k]! : 0;
  });
  const order = [...worth.keys()].filter((k) => worth[k]! > 0).sort((a, b) => worth[b]! - worth[a]! || a - b);
  for (const k of order) while (tryAdd(space, counts, space.upper, k));
}
