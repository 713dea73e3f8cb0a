// A small dense simplex with native bounds on variables, for linear programs of at most a few hundred columns.
//
//   maximise c·x   subject to   a_i·x (≤ | = | ≥) b_i ,   lower ≤ x ≤ upper
//
// Each row gets a slack, a_i·x + s_i = b_i, and one of n + m variables is basic in each row. The tableau keeps the
// columns of the n nonbasic variables only; a pivot exchanges one of them with one basic variable. Bounds live outside
// the tableau: a nonbasic variable rests at its lower or its upper bound. Hence a solved program whose bounds are
// tightened is still dual feasible, and the dual simplex repairs it in a few pivots: this is what makes branch and bound
// cheap. A cold start uses the same two parts: the dual simplex under a zero objective finds a feasible basis, the primal
// simplex then optimises. Largest coefficients first; after a run of steps without progress Bland's rule (lowest index)
// takes over, which cannot cycle.

import type { LinearProgram, LpSolution, LpStatus, SimplexState } from './linear-program.ts';

export type { LinearProgram, LpSolution, LpStatus, Relation, SimplexState } from './linear-program.ts';

const FEASIBLE = 1e-9;
const OPTIMAL = 1e-9;
const PIVOT = 1e-9;
/** Steps in a row without progress before Bland's rule takes over. */
const PATIENCE = 30;

/** Solves one program from scratch. */
export function solveLp(program: LinearProgram): LpSolution {
  const solver = new Simplex(program);
  const status = solver.solve();
  return {
    status,
    objective: solver.objective,
    values: Float64Array.from({ length: solver.columnCount }, (_, variable) => solver.value(variable)),
    duals: Float64Array.from({ length: solver.rowCount }, (_, row) => solver.dual(row)),
    pivots: solver.pivots,
  };
}

export class Simplex {
  readonly rowCount: number;
  readonly columnCount: number;
  /** Steps since the solver was made. */
  pivots = 0;

  readonly #cost: Float64Array;
  /** All floating-point state in one block, so that a copy is one memory move; the views below lie in it. */
  readonly #numbers: Float64Array;
  /** m × n, row-major: basic variable i = constant − Σ_q table[i, q] × nonbasic variable q. */
  readonly #table: Float64Array;
  /** Gain of the objective per unit of nonbasic variable q. */
  readonly #gain: Float64Array;
  readonly #basicValue: Float64Array;
  readonly #lower: Float64Array;
  readonly #upper: Float64Array;
  /** One entry: the objective now. */
  readonly #total: Float64Array;
  readonly #indices: Int32Array;
  readonly #basic: Int32Array;
  readonly #nonbasic: Int32Array;
  /** 1 where nonbasic variable q rests at its upper bound. */
  readonly #atUpper: Int32Array;
  /** Where each variable is: row when basic, −1 − column when not. */
  readonly #place: Int32Array;

  constructor({ objective, matrix, relations, rightHandSide, lower, upper }: LinearProgram) {
    const m = relations.length;
    const n = objective.length;
    if (matrix.length !== m * n || rightHandSide.length !== m) {
      throw new RangeError(`A program of ${m} rows and ${n} columns has ${matrix.length} coefficients.`);
    }
    this.rowCount = m;
    this.columnCount = n;
    this.#cost = Float64Array.from(objective);

    const numbers = new Float64Array(m * n + n + m + 2 * (n + m) + 1);
    let numbersUsed = 0;
    const take = (length: number) => {
      numbersUsed += length;
      return numbers.subarray(numbersUsed - length, numbersUsed);
    };
    this.#numbers = numbers;
    this.#table = take(m * n);
    this.#gain = take(n);
    this.#basicValue = take(m);
    this.#lower = take(n + m);
    this.#upper = take(n + m);
    this.#total = take(1);
    const indices = new Int32Array(m + 2 * n + (n + m));
    this.#indices = indices;
    this.#basic = indices.subarray(0, m);
    this.#nonbasic = indices.subarray(m, m + n);
    this.#atUpper = indices.subarray(m + n, m + 2 * n);
    this.#place = indices.subarray(m + 2 * n);

    this.#table.set(matrix);
    this.#gain.set(objective);
    for (let variable = 0; variable < n; variable++) {
      this.#lower[variable] = lower?.[variable] ?? 0;
      this.#upper[variable] = upper?.[variable] ?? Number.POSITIVE_INFINITY;
      if (!Number.isFinite(this.#lower[variable]!)) throw new RangeError('Lower bounds are finite.');
      this.#nonbasic[variable] = variable;
      this.#place[variable] = -1 - variable;
      this.#total[0] = this.#total[0]! + objective[variable]! * this.#lower[variable]!;
    }
    for (let row = 0; row < m; row++) {
      this.#lower[n + row] = relations[row] === '>=' ? Number.NEGATIVE_INFINITY : 0;
      this.#upper[n + row] = relations[row] === '<=' ? Number.POSITIVE_INFINITY : 0;
      this.#basic[row] = n + row;
      this.#place[n + row] = row;
      let value = rightHandSide[row]!;
      for (let q = 0; q < n; q++) value -= this.#table[row * n + q]! * this.#lower[q]!;
      this.#basicValue[row] = value;
    }
  }

  get objective(): number {
    return this.#total[0]!;
  }

  /** Value of a variable (column of the program) at the present vertex. */
  value(variable: number): number {
    const place = this.#place[variable]!;
    return place >= 0 ? this.#basicValue[place]! : this.#restingValue(-1 - place);
  }

  /** Gain of the optimum per unit of the row's right-hand side; ≥ 0 for `<=` rows. */
  dual(row: number): number {
    const place = this.#place[this.columnCount + row]!;
    return place >= 0 ? 0 : -this.#gain[-1 - place]!;
  }

  /** Gain of the optimum per unit by which a variable is forced away from the bound it rests at; 0 when basic. */
  reducedGain(variable: number): number {
    const place = this.#place[variable]!;
    return place >= 0 ? 0 : this.#gain[-1 - place]!;
  }

  lowerBound(variable: number): number {
    return this.#lower[variable]!;
  }

  upperBound(variable: number): number {
    return this.#upper[variable]!;
  }

  save(): SimplexState {
    return { numbers: this.#numbers.slice(), indices: this.#indices.slice() };
  }

  restore(state: SimplexState): void {
    this.#numbers.set(state.numbers);
    this.#indices.set(state.indices);
  }

  /** Changes the bounds of a variable. Call {@link resolve} before reading values again. */
  setBounds(variable: number, lower: number, upper: number): void {
    const place = this.#place[variable]!;
    if (place >= 0) {
      this.#lower[variable] = lower;
      this.#upper[variable] = upper;
      return;
    }
    const q = -1 - place;
    const before = this.#restingValue(q);
    this.#lower[variable] = lower;
    this.#upper[variable] = upper;
    if (upper === Number.POSITIVE_INFINITY) this.#atUpper[q] = 0;
    this.#moveNonbasic(q, this.#restingValue(q) - before);
  }

  /** From any basis: makes it feasible, then optimal. */
  solve(): LpStatus {
    if (!this.#isFeasible()) {
      this.#gain.fill(0);
      const status = this.#dualSimplex(Number.NEGATIVE_INFINITY);
      this.#price();
      if (status !== 'optimal') return status;
    }
    return this.#primalSimplex();
  }

  /**
   * After bounds were tightened: the dual simplex, then the primal one for what rounding left.
   *
   * @param cutoff - give up with `cutoff` once the optimum is proven to be at most this.
   */
  resolve(cutoff = Number.NEGATIVE_INFINITY): LpStatus {
    const status = this.#dualSimplex(cutoff);
    return status === 'optimal' ? this.#primalSimplex() : status;
  }

  #restingValue(q: number): number {
    const variable = this.#nonbasic[q]!;
    return this.#atUpper[q] === 1 ? this.#upper[variable]! : this.#lower[variable]!;
  }

  #isFeasible(): boolean {
    for (let row = 0; row < this.rowCount; row++) {
      const variable = this.#basic[row]!;
      const value = this.#basicValue[row]!;
      if (value < this.#lower[variable]! - FEASIBLE || value > this.#upper[variable]! + FEASIBLE) return false;
    }
    return true;
  }

  /** Gains and total from the costs, for the present basis. */
  #price(): void {
    const n = this.columnCount;
    const gain = this.#gain;
    const cost = this.#cost;
    let total = 0;
    for (let q = 0; q < n; q++) {
      const variable = this.#nonbasic[q]!;
      gain[q] = variable < n ? cost[variable]! : 0;
      total += gain[q]! * (gain[q] === 0 ? 0 : this.#restingValue(q));
    }
    for (let row = 0; row < this.rowCount; row++) {
      const variable = this.#basic[row]!;
      const unit = variable < n ? cost[variable]! : 0;
      if (unit === 0) continue;
      total += unit * this.#basicValue[row]!;
      const offset = row * n;
      for (let q = 0; q < n; q++) gain[q] = gain[q]! - unit * this.#table[offset + q]!;
    }
    this.#total[0] = total;
  }

  /** Moves nonbasic variable q by `delta` along its column. */
  #moveNonbasic(q: number, delta: number): void {
    if (delta === 0) return;
    const n = this.columnCount;
    for (let row = 0; row < this.rowCount; row++) {
      this.#basicValue[row] = this.#basicValue[row]! - this.#table[row * n + q]! * delta;
    }
    this.#total[0] = this.#total[0]! + this.#gain[q]! * delta;
  }

  #primalSimplex(): LpStatus {
    const { rowCount: m, columnCount: n } = this;
    const table = this.#table;
    const limit = this.pivots + 200 + 50 * (m + n);
    let withoutProgress = 0;
    for (;;) {
      if (this.pivots >= limit) return 'stalled';
      const bland = withoutProgress > PATIENCE;
      const q = this.#entering(bland);
      if (q < 0) return 'optimal';
      const direction = this.#gain[q]! > 0 ? 1 : -1;

      // Ratio test: how far the entering variable may move before it or a basic variable meets a bound.
      const entering = this.#nonbasic[q]!;
      let step = this.#upper[entering]! - this.#lower[entering]!;
      let leaving = -1;
      let leavingPivot = 0;
      for (let row = 0; row < m; row++) {
        const coefficient = table[row * n + q]!;
        const rate = -coefficient * direction;
        if (rate < PIVOT && rate > -PIVOT) continue;
        const variable = this.#basic[row]!;
        const room =
          rate < 0
            ? (this.#basicValue[row]! - this.#lower[variable]!) / -rate
            : (this.#upper[variable]! - this.#basicValue[row]!) / rate;
        if (room === Number.POSITIVE_INFINITY) continue;
        const reach = Math.max(room, 0);
        const size = rate < 0 ? -rate : rate;
        const closer = reach < step - 1e-12;
        const equal = !closer && reach <= step + 1e-12 && leaving >= 0;
        const preferred = equal && (bland ? variable < this.#basic[leaving]! : size > leavingPivot);
        if (closer || preferred) {
          step = closer ? reach : Math.min(step, reach);
          leaving = row;
          leavingPivot = size;
        }
      }
      if (step === Number.POSITIVE_INFINITY) return 'unbounded';
      withoutProgress = step > 1e-12 ? 0 : withoutProgress + 1;
      this.pivots++;
      if (leaving < 0) {
        this.#moveNonbasic(q, direction * step);
        this.#atUpper[q] = 1 - this.#atUpper[q]!;
      } else {
        const toUpper = -table[leaving * n + q]! * direction > 0;
        this.#exchange(leaving, q, direction * step, toUpper);
      }
    }
  }

  /** Column that gains most (or, under Bland's rule, the lowest variable that gains); −1 at the optimum. */
  #entering(bland: boolean): number {
    let chosen = -1;
    let most = OPTIMAL;
    for (let q = 0; q < this.columnCount; q++) {
      const gain = this.#atUpper[q] === 1 ? -this.#gain[q]! : this.#gain[q]!;
      if (gain <= OPTIMAL) continue;
      const variable = this.#nonbasic[q]!;
      if (this.#upper[variable]! - this.#lower[variable]! <= 0) continue;
      if (bland) {
        if (chosen < 0 || variable < this.#nonbasic[chosen]!) chosen = q;
      } else if (gain > most) {
        most = gain;
        chosen = q;
      }
    }
    return chosen;
  }

  #dualSimplex(cutoff: number): LpStatus {
    const { rowCount: m, columnCount: n } = this;
    const table = this.#table;
    const limit = this.pivots + 200 + 50 * (m + n);
    let withoutProgress = 0;
    for (;;) {
      if (this.#total[0]! <= cutoff) return 'cutoff';
      if (this.pivots >= limit) return 'stalled';
      const bland = withoutProgress > PATIENCE;

      // The basic variable that is furthest outside its bounds leaves.
      let leaving = -1;
      let worst = FEASIBLE;
      for (let row = 0; row < m; row++) {
        const variable = this.#basic[row]!;
        const value = this.#basicValue[row]!;
        const below = this.#lower[variable]! - value;
        const above = value - this.#upper[variable]!;
        const outside = Math.max(below, above);
        if (outside <= FEASIBLE) continue;
        if (bland ? leaving < 0 || variable < this.#basic[leaving]! : outside > worst) {
          leaving = row;
          worst = outside;
        }
      }
      if (leaving < 0) return 'optimal';
      const variable = this.#basic[leaving]!;
      const tooLow = this.#basicValue[leaving]! < this.#lower[variable]!;

      // Ratio test: the column whose gain reaches 0 first keeps all other gains on their right side.
      let q = -1;
      let smallest = Number.POSITIVE_INFINITY;
      let size = 0;
      for (let column = 0; column < n; column++) {
        const coefficient = table[leaving * n + column]!;
        const rise = this.#atUpper[column] === 1 ? coefficient : -coefficient;
        const helps = tooLow ? rise : -rise;
        if (helps <= PIVOT) continue;
        const other = this.#nonbasic[column]!;
        if (this.#upper[other]! - this.#lower[other]! <= 0) continue;
        const slope = this.#atUpper[column] === 1 ? this.#gain[column]! : -this.#gain[column]!;
        const ratio = Math.max(slope, 0) / helps;
        const closer = ratio < smallest - 1e-12;
        const equal = !closer && ratio <= smallest + 1e-12;
        const preferred = equal && (bland ? q < 0 || other < this.#nonbasic[q]! : helps > size);
        if (closer || preferred) {
          smallest = Math.min(ratio, smallest);
          q = column;
          size = helps;
        }
      }
      if (q < 0) return 'infeasible';
      withoutProgress = smallest > 1e-12 ? 0 : withoutProgress + 1;
      this.pivots++;
      const bound = tooLow ? this.#lower[variable]! : this.#upper[variable]!;
      const delta = (this.#basicValue[leaving]! - bound) / table[leaving * n + q]!;
      this.#exchange(leaving, q, delta, !tooLow);
    }
  }

  /** The entering variable of column q moves by `delta` and takes the place of the basic variable of `row`. */
  #exchange(row: number, q: number, delta: number, leavesAtUpper: boolean): void {
    const { rowCount: m, columnCount: n } = this;
    const table = this.#table;
    const gain = this.#gain;
    const value = this.#restingValue(q) + delta;
    this.#moveNonbasic(q, delta);
    this.#basicValue[row] = value;

    const entering = this.#nonbasic[q]!;
    const leaving = this.#basic[row]!;
    this.#basic[row] = entering;
    this.#nonbasic[q] = leaving;
    this.#place[entering] = row;
    this.#place[leaving] = -1 - q;
    this.#atUpper[q] = leavesAtUpper ? 1 : 0;

    const offset = row * n;
    const inverse = 1 / table[offset + q]!;
    table[offset + q] = 1;
    for (let k = 0; k < n; k++) table[offset + k] = table[offset + k]! * inverse;
    for (let i = 0; i < m; i++) {
      if (i === row) continue;
      const base = i * n;
      const factor = table[base + q]!;
      if (factor === 0) continue;
      table[base + q] = 0;
      for (let k = 0; k < n; k++) table[base + k] = table[base + k]! - factor * table[offset + k]!;
    }
    const factor = gain[q]!;
    if (factor !== 0) {
      gain[q] = 0;
      for (let k = 0; k < n; k++) gain[k] = gain[k]! - factor * table[offset + k]!;
    }
  }
}
