// What a linear program is, and what a solver says of it:
//
//   maximise c·x   subject to   a_i·x (≤ | = | ≥) b_i ,   lower ≤ x ≤ upper

export type Relation = '<=' | '=' | '>=';

export interface LinearProgram {
  /** Coefficients to maximise; n entries. */
  readonly objective: ArrayLike<number>;
  /** m × n, row-major. */
  readonly matrix: ArrayLike<number>;
  readonly relations: readonly Relation[];
  /** m entries. */
  readonly rightHandSide: ArrayLike<number>;
  /** n entries, finite; 0 when left out. */
  readonly lower?: ArrayLike<number>;
  /** n entries, +Infinity allowed and the default. */
  readonly upper?: ArrayLike<number>;
}

/** `cutoff`: the optimum is proven to be no better than asked for. `stalled`: the pivot limit was reached. */
export type LpStatus = 'optimal' | 'infeasible' | 'unbounded' | 'cutoff' | 'stalled';

export interface LpSolution {
  readonly status: LpStatus;
  /** Meaningful when `status` is `optimal`. */
  readonly objective: number;
  readonly values: Float64Array;
  /** Gain of the optimum per unit of right-hand side; m entries. */
  readonly duals: Float64Array;
  readonly pivots: number;
}

/** A copy of all that a solver knows; may be restored into the solver that made it. */
export interface SimplexState {
  readonly numbers: Float64Array;
  readonly indices: Int32Array;
}
