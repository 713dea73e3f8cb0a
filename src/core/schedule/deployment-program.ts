// The search for counts as a mixed-integer program. Identical replicas are one whole column, so its size does not grow
// with the number of GPUs, and its relaxation gets tighter with it.
//
//   maximise θ
//   Σ_k (n_kj / λ_j) t_jk ≥ θ          every type j            t_jk: replica-time of class k spent on type j
//   Σ_j t_jk ≤ x_k                     every class k
//   Σ_k units_k x_k ≤ units of nodes   packing rows (deployment-space.ts)
//   least ≤ Σ_{k of a model} x_k ≤ most, at least one replica of full length
//   lower_k ≤ x_k ≤ upper_k, whole     upper_k = most replicas of class k alone: without it branching would never end
//                                      where the size of a class does not divide the GPUs
import { type BranchAndBoundResult, branchAndBound, type Relation, type WholePoint } from '../math/index.ts';
import { roundRelaxed } from './deployment-rounding.ts';
import type { DeploymentSpace } from './deployment-space.ts';
import type { DeploymentValue } from './deployment-value.ts';

export interface ProgramInput {
  readonly space: DeploymentSpace;
  readonly value: DeploymentValue;
  /** All positive (J'). */
  readonly arrivalRate: Float64Array;
  /** K × J'. */
  readonly serviceRate: Float64Array;
  /** Bounds on counts (K); inside those of the space. */
  readonly lower: Int32Array;
  readonly upper: Int32Array;
  readonly incumbent: Int32Array | null;
  readonly nodeBudget: number;
  readonly relativeGap: number;
  /** Sees every deployment that was evaluated on the way. */
  readonly onFound: (counts: Int32Array, value: number) => void;
}

/** The best counts (K) with the proven bound. */
export function solveDeploymentProgram(input: ProgramInput): BranchAndBoundResult {
  const { space, value, arrivalRate, serviceRate, lower, upper } = input;
  const types = arrivalRate.length;
  // Classes that cannot occur leave the program.
  const active: number[] = [];
  for (let k = 0; k < space.classCount; k++) if (upper[k]! > 0) active.push(k);
  const cells: { readonly type: number; readonly place: number; readonly rate: number }[] = [];
  active.forEach((k, place) => {
    for (let type = 0; type < types; type++) {
      const rate = serviceRate[k * types + type]!;
      if (rate > 0) cells.push({ type, place, rate });
    }
  });

  const first = cells.length;
  const theta = first + active.length;
  const columns = theta + 1;
  const matrix: number[] = [];
  const relations: Relation[] = [];
  const rightHandSide: number[] = [];
  const addRow = (relation: Relation, limit: number): number => {
    for (let i = 0; i < columns; i++) matrix.push(0);
    relations.push(relation);
    rightHandSide.push(limit);
    return matrix.length - columns;
  };

  for (let type = 0; type < types; type++) {
    const row = addRow('<=', 0);
    matrix[row + theta] = 1;
    cells.forEach((cell, column) => {
      if (cell.type === type) matrix[row + column] = -cell.rate / arrivalRate[type]!;
    });
  }
  active.forEach((_, place) => {
    const row = addRow('<=', 0);
    cells.forEach((cell, column) => {
      if (cell.place === place) matrix[row + column] = 1;
    });
    matrix[row + first + place] = -1;
  });
  for (const { coefficients, limit } of space.packingRows) {
    if (!active.some((k) => coefficients[k]! > 0)) continue;
    const row = addRow('<=', limit);
    active.forEach((k, place) => {
      matrix[row + first + place] = coefficients[k]!;
    });
  }
  for (const { classes, lower: least, upper: most } of space.countRows) {
    for (const [relation, limit] of [
      ['>=', least],
      ['<=', most],
    ] as const) {
      if (limit === 0 || limit === Number.POSITIVE_INFINITY) continue;
      const row = addRow(relation, limit);
      active.forEach((k, place) => {
        if (classes.includes(k)) matrix[row + first + place] = 1;
      });
    }
  }

  const objective = new Float64Array(columns);
  objective[theta] = 1;
  const lowerBounds = new Float64Array(columns);
  const upperBounds = new Float64Array(columns).fill(Number.POSITIVE_INFINITY);
  active.forEach((k, place) => {
    lowerBounds[first + place] = lower[k]!;
    upperBounds[first + place] = upper[k]!;
  });

  const spread = (values: ArrayLike<number>): Int32Array => {
    const counts = new Int32Array(space.classCount);
    active.forEach((k, place) => {
      counts[k] = values[place]!;
    });
    return counts;
  };
  const gather = (counts: Int32Array, objectiveValue: number): WholePoint => ({
    values: Int32Array.from(active, (k) => counts[k]!),
    objective: objectiveValue,
  });
  const relaxedCounts = new Float64Array(space.classCount);
  const incumbent =
    input.incumbent?.every((count, k) => count >= lower[k]! && count <= upper[k]!) === true ? input.incumbent : null;

  const result = branchAndBound(
    {
      program: { objective, matrix, relations, rightHandSide, lower: lowerBounds, upper: upperBounds },
      integers: active.map((_, place) => first + place),
      accepts: (values) => space.packs(spread(values)),
      round: (relaxed) => {
        relaxedCounts.fill(0);
        active.forEach((k, place) => {
          relaxedCounts[k] = relaxed[place]!;
        });
        const found = roundRelaxed(space, value, relaxedCounts, lower, upper);
        if (found === null) return null;
        input.onFound(found.counts, found.value);
        return gather(found.counts, found.value);
      },
    },
    {
      nodeBudget: input.nodeBudget,
      relativeGap: input.relativeGap,
      ...(incumbent === null ? {} : { incumbent: gather(incumbent, value.of(incumbent)) }),
    },
  );
  if (result.best === null) return result;
  const counts = spread(result.best.values);
  input.onFound(counts, result.best.objective);
  return { ...result, best: { values: counts, objective: result.best.objective } };
}
