// Lower level of the schedule: which share of each workload type goes to which class of replicas.
//
// A type-j request takes 1 / n_kj of a replica of class k, so this is a flow with gains, which a small linear program
// solves exactly. Replicas of one class are alike and may share their load evenly, so the program has one column per
// (type, class), however many GPUs there are. The objective is lexicographic:
//   1. the smallest served share over types, divided by priority, as large as possible; then the next smallest, and so on
//      (total flow instead would starve the expensive types in overload);
//   2. the highest utilisation over classes as low as possible; then the next highest;
//   3. as little change as possible from the previous shares.
// Types and classes that no rate connects (two models, say) do not touch each other and are solved apart.
import { invariant, OserveError } from '../domain/index.ts';
import { type Relation, solveLp } from '../math/index.ts';

export type AssignmentMethod = 'exact' | 'preflow-push';

export interface AssignmentProblem {
  /** requests/s by type (J). */
  readonly arrivalRate: ArrayLike<number>;
  /** requests/s that one replica serves of one type alone; row-major K × J, 0 where it cannot. */
  readonly serviceRate: ArrayLike<number>;
  /** Replicas of each class (K). */
  readonly counts: ArrayLike<number>;
  /** Weight of each type's served share (J), positive; all equal when left out. A type of twice the weight is owed twice the share. */
  readonly priorities?: ArrayLike<number>;
  /** share[j][k] to stay close to. */
  readonly previousShare?: readonly (readonly number[])[];
  /** How much utilisation may exceed its optimum to stay closer to the previous shares, relative; default 0. */
  readonly utilisationSlackShare?: number;
  readonly method?: AssignmentMethod;
}

export interface AssignmentResult {
  /** share[j][k], 0..1; J × K. A row sums to what is served of the type; rows of types without arrivals sum to 1. */
  readonly share: readonly (readonly number[])[];
  /** Smallest served share over the types that have arrivals, 0..1; 1 when there are none. */
  readonly servedShare: number;
  readonly servedShareByType: readonly number[];
  /** Highest utilisation over classes, 0..1. */
  readonly utilisation: number;
  readonly utilisationByClass: readonly number[];
}

/**
 * Splits each workload type's arrivals over the classes of replicas.
 *
 * A type with arrivals that no replica can serve has an empty row and served share 0; the others are not held back by it.
 * A type without arrivals gets the shares that one request more would be given, since one may come.
 *
 * @throws OserveError for a method that this version does not have.
 */
export function assign(problem: AssignmentProblem): AssignmentResult {
  if (problem.method === 'preflow-push') {
    throw new OserveError('not_available', 'The assignment "preflow-push" is not available in this version.', {
      hint: 'Available: exact.',
    });
  }
  const { arrivalRate, serviceRate, counts } = problem;
  const typeCount = arrivalRate.length;
  const classCount = counts.length;
  invariant(serviceRate.length === typeCount * classCount, 'service rates are classes × types');
  const share = Array.from({ length: typeCount }, () => new Array<number>(classCount).fill(0));
  const served = new Array<number>(typeCount).fill(1);
  const utilisation = new Array<number>(classCount).fill(0);

  for (const part of connectedParts(problem)) {
    const servedShare = largestServedShares(part);
    const load = lowestUtilisations(part, servedShare.served, servedShare.share);
    const found =
      problem.previousShare === undefined ? load.share : leastChange(part, servedShare.served, load, problem);
    part.types.forEach((type, t) => {
      served[type] = servedShare.served[t]!;
      part.classes.forEach((k, c) => {
        share[type]![k] = found[t * part.classes.length + c]!;
      });
    });
    part.classes.forEach((k) => {
      utilisation[k] = part.types.reduce(
        (sum, type) => (share[type]![k]! > 0 ? sum + loadOf(problem, type, k) * share[type]![k]! : sum),
        0,
      );
    });
  }

  let smallest = 1;
  for (let type = 0; type < typeCount; type++) {
    if (arrivalRate[type]! > 0) {
      if (!canServe(problem, type)) served[type] = 0;
      smallest = Math.min(smallest, served[type]!);
    } else {
      share[type] = sharesOfOneMore(problem, type, utilisation);
    }
  }
  return {
    share,
    servedShare: smallest,
    servedShareByType: served,
    utilisation: utilisation.reduce((most, value) => Math.max(most, value), 0),
    utilisationByClass: utilisation,
  };
}

/** Utilisation of class k if all of type j went there: λ_j / (n_kj × replicas). */
const loadOf = ({ arrivalRate, serviceRate, counts }: AssignmentProblem, type: number, k: number): number =>
  arrivalRate[type]! / (serviceRate[k * arrivalRate.length + type]! * counts[k]!);

const serves = ({ arrivalRate, serviceRate, counts }: AssignmentProblem, type: number, k: number): boolean =>
  counts[k]! > 0 && serviceRate[k * arrivalRate.length + type]! > 0;

const canServe = (problem: AssignmentProblem, type: number): boolean =>
  Array.from(problem.counts).some((_, k) => serves(problem, type, k));

/** Types with arrivals and classes with replicas that are linked, directly or through others. */
interface Part {
  readonly types: readonly number[];
  readonly classes: readonly number[];
  /** Utilisation per share, T × C row-major; +∞ where the class cannot serve the type. */
  readonly load: Float64Array;
  /** Weight of each type's share, largest 1. */
  readonly weight: Float64Array;
}

function connectedParts(problem: AssignmentProblem): Part[] {
  const typeCount = problem.arrivalRate.length;
  const classCount = problem.counts.length;
  const seen = new Uint8Array(typeCount);
  const parts: Part[] = [];
  for (let first = 0; first < typeCount; first++) {
    if (seen[first] || !(problem.arrivalRate[first]! > 0) || !canServe(problem, first)) continue;
    const types = [first];
    const classes = new Set<number>();
    seen[first] = 1;
    for (const type of types) {
      for (let k = 0; k < classCount; k++) {
        if (classes.has(k) || !serves(problem, type, k)) continue;
        classes.add(k);
        for (let other = 0; other < typeCount; other++) {
          if (seen[other] || !(problem.arrivalRate[other]! > 0) || !serves(problem, other, k)) continue;
          seen[other] = 1;
          types.push(other);
        }
      }
    }
    types.sort((a, b) => a - b);
    const sorted = [...classes].sort((a, b) => a - b);
    const weight = Float64Array.from(types, (type) => problem.priorities?.[type] ?? 1);
    const heaviest = Math.max(...weight);
    invariant(
      weight.every((value) => value > 0),
      'priorities are positive',
    );
    parts.push({
      types,
      classes: sorted,
      load: Float64Array.from({ length: types.length * sorted.length }, (_, i) => {
        const type = types[Math.floor(i / sorted.length)]!;
        const k = sorted[i % sorted.length]!;
        return serves(problem, type, k) ? loadOf(problem, type, k) : Number.POSITIVE_INFINITY;
      }),
      weight: weight.map((value) => value / heaviest),
    });
  }
  return parts;
}

/** Rows are collected one by one: the programs are tiny, and reading them matters more than building them fast. */
class Rows {
  readonly columnCount: number;
  readonly matrix: number[] = [];
  readonly relations: Relation[] = [];
  readonly rightHandSide: number[] = [];

  constructor(columnCount: number) {
    this.columnCount = columnCount;
  }

  add(relation: Relation, rightHandSide: number, fill: (row: number[], offset: number) => void): void {
    const offset = this.matrix.length;
    for (let i = 0; i < this.columnCount; i++) this.matrix.push(0);
    fill(this.matrix, offset);
    this.relations.push(relation);
    this.rightHandSide.push(rightHandSide);
  }
}

/** Room for rounding when the optimum of one stage becomes a constraint of the next. */
const ROOM = 1e-9;
const TIGHT = 1e-9;

/**
 * Stage 1. Columns: the T × C shares, then the common level t. Types that cannot rise with the level any more are those
 * whose row has a positive dual; they stay where they are while the level of the others goes on rising.
 */
function largestServedShares(part: Part): { served: number[]; share: Float64Array } {
  const { types, classes, load, weight } = part;
  const cells = types.length * classes.length;
  const served = new Array<number>(types.length).fill(-1);
  const upper = Float64Array.from({ length: cells + 1 }, (_, i) =>
    i < cells && load[i] === Number.POSITIVE_INFINITY ? 0 : Number.POSITIVE_INFINITY,
  );
  const objective = new Float64Array(cells + 1);
  objective[cells] = 1;
  for (;;) {
    const rows = new Rows(cells + 1);
    addLoadRows(rows, part, () => 1);
    types.forEach((_, t) => {
      const fixed = served[t]!;
      rows.add('<=', fixed >= 0 ? -fixed + ROOM : 0, (row, offset) => {
        for (let c = 0; c < classes.length; c++) row[offset + t * classes.length + c] = -1;
        if (fixed < 0) row[offset + cells] = weight[t]!;
      });
    });
    // Nobody is served more than fully: the level stops where the heaviest of the rising types reaches 1.
    upper[cells] = 1 / Math.max(...weight.filter((_, t) => served[t]! < 0));
    const solution = solveLp({ objective, upper, ...rows });
    invariant(solution.status === 'optimal', `served shares have an optimum (${solution.status})`);
    const level = solution.values[cells]!;
    let stuck = 0;
    types.forEach((_, t) => {
      if (served[t]! >= 0) return;
      const reached = Math.min(1, level * weight[t]!);
      if (solution.duals[classes.length + t]! > TIGHT || reached >= 1 - ROOM) {
        served[t] = reached >= 1 - ROOM ? 1 : reached;
        stuck++;
      }
    });
    invariant(stuck > 0, 'each round settles a type');
    if (served.every((value) => value >= 0)) return { served, share: solution.values.slice(0, cells) };
  }
}

/**
 * Stage 2, with served shares given. Columns: shares, then the common utilisation u. Classes whose row has a positive
 * dual cannot be lower; the others go on.
 */
function lowestUtilisations(
  part: Part,
  served: readonly number[],
  fallback: Float64Array,
): { limit: number[]; share: Float64Array } {
  const { types, classes, load } = part;
  const cells = types.length * classes.length;
  const limit = new Array<number>(classes.length).fill(-1);
  const upper = Float64Array.from({ length: cells + 1 }, (_, i) =>
    i < cells && load[i] === Number.POSITIVE_INFINITY ? 0 : Number.POSITIVE_INFINITY,
  );
  const objective = new Float64Array(cells + 1);
  objective[cells] = -1;
  let share = fallback;
  for (;;) {
    const rows = new Rows(cells + 1);
    classes.forEach((_, c) => {
      const fixed = limit[c]!;
      rows.add('<=', fixed >= 0 ? fixed + ROOM : 0, (row, offset) => {
        fillLoad(row, offset, part, c);
        if (fixed < 0) row[offset + cells] = -1;
      });
    });
    addServedRows(rows, part, served);
    const solution = solveLp({ objective, upper, ...rows });
    // Rounding may leave no room at all; the shares of the round before are then the answer.
    if (solution.status !== 'optimal') break;
    share = solution.values.slice(0, cells);
    const level = solution.values[cells]!;
    let stuck = 0;
    classes.forEach((_, c) => {
      if (limit[c]! >= 0 || !(solution.duals[c]! > TIGHT)) return;
      limit[c] = level;
      stuck++;
    });
    if (stuck === 0 || limit.every((value) => value >= 0)) break;
  }
  return { limit, share: cleaned(part, served, share) };
}

/** Stage 3. Columns: shares, then |share − previous| of each cell, weighted by the type's arrivals served. */
function leastChange(
  part: Part,
  served: readonly number[],
  found: { limit: readonly number[]; share: Float64Array },
  { previousShare, utilisationSlackShare = 0 }: AssignmentProblem,
): Float64Array {
  const { types, classes, load } = part;
  const cells = types.length * classes.length;
  const before = Float64Array.from({ length: cells }, (_, i) => {
    const row = previousShare![types[Math.floor(i / classes.length)]!];
    return row?.[classes[i % classes.length]!] ?? 0;
  });
  const rows = new Rows(2 * cells);
  classes.forEach((_, c) => {
    let now = 0;
    for (let t = 0; t < types.length; t++) {
      const cell = t * classes.length + c;
      if (found.share[cell]! > 0) now += load[cell]! * found.share[cell]!;
    }
    rows.add('<=', now * (1 + utilisationSlackShare) + ROOM, (row, offset) => fillLoad(row, offset, part, c));
  });
  addServedRows(rows, part, served);
  for (let cell = 0; cell < cells; cell++) {
    if (load[cell] === Number.POSITIVE_INFINITY) continue;
    for (const sign of [1, -1]) {
      rows.add('<=', sign * before[cell]!, (row, offset) => {
        row[offset + cell] = sign;
        row[offset + cells + cell] = -1;
      });
    }
  }
  const upper = Float64Array.from({ length: 2 * cells }, (_, i) =>
    i < cells && load[i] === Number.POSITIVE_INFINITY ? 0 : Number.POSITIVE_INFINITY,
  );
  const objective = Float64Array.from({ length: 2 * cells }, (_, i) => (i < cells ? 0 : -1));
  const solution = solveLp({ objective, upper, ...rows });
  return solution.status === 'optimal' ? cleaned(part, served, solution.values.slice(0, cells)) : found.share;
}

function fillLoad(row: number[], offset: number, { types, classes, load }: Part, c: number): void {
  for (let t = 0; t < types.length; t++) {
    const cell = t * classes.length + c;
    if (load[cell] !== Number.POSITIVE_INFINITY) row[offset + cell] = load[cell]!;
  }
}

function addLoadRows(rows: Rows, part: Part, limit: (c: number) => number): void {
  part.classes.forEach((_, c) => {
    rows.add('<=', limit(c), (row, offset) => fillLoad(row, offset, part, c));
  });
}

function addServedRows(rows: Rows, { types, classes }: Part, served: readonly number[]): void {
  types.forEach((_, t) => {
    rows.add('=', served[t]!, (row, offset) => {
      for (let c = 0; c < classes.length; c++) row[offset + t * classes.length + c] = 1;
    });
  });
}

/** Removes rounding dust and scales each row back to what it serves. */
function cleaned({ types, classes }: Part, served: readonly number[], share: Float64Array): Float64Array {
  const out = share.map((value) => (value < 1e-7 ? 0 : value));
  types.forEach((_, t) => {
    const from = t * classes.length;
    let sum = 0;
    for (let c = 0; c < classes.length; c++) sum += out[from + c]!;
    if (sum > 0) for (let c = 0; c < classes.length; c++) out[from + c] = (out[from + c]! * served[t]!) / sum;
  });
  return out;
}

/**
 * Where one request of a type without arrivals would go: to the classes that have most room for it, in proportion to
 * the room, and not to those where it would take more than twice as long.
 */
function sharesOfOneMore(problem: AssignmentProblem, type: number, utilisation: readonly number[]): number[] {
  const { arrivalRate, serviceRate, counts } = problem;
  const spare = utilisation.map((value) => Math.max(0, 1 - value));
  const idle = spare.some((value, k) => value > ROOM && serves(problem, type, k));
  const free = spare.map((value, k) =>
    serves(problem, type, k) ? serviceRate[k * arrivalRate.length + type]! * (idle ? value : 1) : 0,
  );
  const most = free.reduce((best, value) => Math.max(best, value), 0);
  const room = free.map((value, k) => (value > 0 && value >= most / 2 ? value * counts[k]! : 0));
  const total = room.reduce((sum, value) => sum + value, 0);
  return room.map((value) => (total > 0 ? value / total : 0));
}
