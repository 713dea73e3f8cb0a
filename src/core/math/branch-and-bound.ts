// Branch and bound over the whole-numbered columns of a linear program (maximise), anytime and with a proven bound.
//
// A node is a box of bounds. Its relaxation, warm-started from its parent by the dual simplex, bounds everything inside;
// a node whose bound does not beat the best known point is dropped. Open nodes are taken best bound first, and each is
// followed downwards to its more promising child as long as that pays, since the solver already stands there. Columns to
// branch on are chosen by pseudocosts: by how much the bound fell when they were branched on before.
import { BinaryHeap } from './binary-heap.ts';
import { type LinearProgram, Simplex, type SimplexState } from './simplex.ts';

export interface MixedIntegerProgram {
  readonly program: LinearProgram;
  /** Columns that must be whole; their bounds are finite. */
  readonly integers: readonly number[];
  /**
   * A condition that rows do not express, on whole values in the order of `integers`. If it refuses a point it must refuse
   * every point that is at least as large in all coordinates.
   */
  readonly accepts?: (values: Int32Array) => boolean;
  /** A heuristic: turns the solution of a relaxation into a point that satisfies everything, with its objective. */
  readonly round?: (relaxed: Float64Array) => WholePoint | null;
}

export interface WholePoint {
  /** In the order of `integers`. */
  readonly values: Int32Array;
  readonly objective: number;
}

export interface BranchAndBoundOptions {
  /** Relaxations solved at most, beside the first. */
  readonly nodeBudget: number;
  /** Stop when the bound is within this of the best point, relative; default 0. */
  readonly relativeGap?: number;
  /** A known feasible point. */
  readonly incumbent?: WholePoint;
}

export interface BranchAndBoundResult {
  /** `budget`: stopped early, the bound still holds. */
  readonly status: 'optimal' | 'budget' | 'infeasible' | 'unbounded';
  /** Null when no feasible point is known. */
  readonly best: WholePoint | null;
  readonly upperBound: number;
  readonly nodes: number;
  readonly pivots: number;
}

interface OpenNode {
  readonly bound: number;
  readonly state: SimplexState;
}

const WHOLE = 1e-6;
/** Improvements smaller than this, relative, are rounding. */
const SIGNIFICANT = 1e-9;
/** A rounding is tried at the root and then at every so-manieth node. */
const ROUND_EVERY = 16;

export function branchAndBound(mip: MixedIntegerProgram, options: BranchAndBoundOptions): BranchAndBoundResult {
  return new Search(mip, options).run();
}

class Search {
  readonly #mip: MixedIntegerProgram;
  readonly #options: BranchAndBoundOptions;
  readonly #solver: Simplex;
  readonly #open: (OpenNode | null)[] = [];
  readonly #queue = new BinaryHeap(64);
  readonly #relaxed: Float64Array;
  readonly #pseudocosts: Pseudocosts;
  #best: WholePoint | null;
  #nodes = 0;

  constructor(mip: MixedIntegerProgram, options: BranchAndBoundOptions) {
    this.#mip = mip;
    this.#options = options;
    this.#solver = new Simplex(mip.program);
    this.#relaxed = new Float64Array(mip.integers.length);
    this.#pseudocosts = new Pseudocosts(mip.integers.length);
    this.#best = options.incumbent ?? null;
  }

  run(): BranchAndBoundResult {
    const status = this.#solver.solve();
    if (status === 'unbounded') return this.#result('unbounded', Number.POSITIVE_INFINITY);
    if (status !== 'optimal') {
      return this.#best === null
        ? this.#result('infeasible', Number.NEGATIVE_INFINITY)
        : this.#result('optimal', this.#best.objective);
    }
    this.#push();
    while (this.#queue.size > 0) {
      const bound = -this.#queue.peekKey();
      if (bound <= this.#threshold()) break;
      if (this.#nodes >= this.#options.nodeBudget) return this.#result('budget', bound);
      const index = this.#queue.pop();
      this.#solver.restore(this.#open[index]!.state);
      this.#open[index] = null;
      this.#follow();
    }
    if (this.#best === null) return this.#result('infeasible', Number.NEGATIVE_INFINITY);
    const left = this.#queue.size > 0 ? -this.#queue.peekKey() : Number.NEGATIVE_INFINITY;
    return this.#result('optimal', Math.max(left, this.#best.objective));
  }

  #result(status: BranchAndBoundResult['status'], upperBound: number): BranchAndBoundResult {
    return { status, best: this.#best, upperBound, nodes: this.#nodes, pivots: this.#solver.pivots };
  }

  /** A relaxation must beat this to be worth a look. */
  #threshold(): number {
    if (this.#best === null) return Number.NEGATIVE_INFINITY;
    const { objective } = this.#best;
    return objective + Math.abs(objective) * Math.max(this.#options.relativeGap ?? 0, SIGNIFICANT);
  }

  #push(): void {
    const node = { bound: this.#solver.objective, state: this.#solver.save() };
    this.#open.push(node);
    this.#queue.set(this.#open.length - 1, -node.bound, this.#open.length);
  }

  /** Goes down from the node that the solver stands at, leaving the worse child open at each step. */
  #follow(): void {
    for (;;) {
      if (this.#nodes % ROUND_EVERY === 0) this.#tryRounding();
      if (this.#solver.objective <= this.#threshold()) return;
      this.#tightenByReducedGain();
      const place = this.#fractional();
      const mayGoOn = place >= 0 ? this.#branch(place) : this.#leaf();
      if (!mayGoOn) return;
      if (this.#nodes >= this.#options.nodeBudget) {
        this.#push();
        return;
      }
    }
  }

  #tryRounding(): void {
    if (this.#mip.round === undefined) return;
    this.#readRelaxed();
    this.#offer(this.#mip.round(this.#relaxed));
  }

  #offer(point: WholePoint | null): void {
    if (point === null) return;
    const least = this.#best === null ? Number.NEGATIVE_INFINITY : this.#best.objective;
    const margin = this.#best === null ? 0 : Math.abs(least) * SIGNIFICANT;
    if (point.objective > least + margin) this.#best = { values: point.values.slice(), objective: point.objective };
  }

  #readRelaxed(): void {
    this.#mip.integers.forEach((column, place) => {
      this.#relaxed[place] = this.#solver.value(column);
    });
  }

  /** A column whose reduced gain alone would sink the bound below the threshold cannot move that far from its bound. */
  #tightenByReducedGain(): void {
    const room = this.#solver.objective - this.#threshold();
    if (room === Number.POSITIVE_INFINITY) return;
    for (const column of this.#mip.integers) {
      const gain = this.#solver.reducedGain(column);
      if (gain > -SIGNIFICANT && gain < SIGNIFICANT) continue;
      const lower = this.#solver.lowerBound(column);
      const upper = this.#solver.upperBound(column);
      const steps = Math.floor(room / Math.abs(gain) + WHOLE);
      if (steps >= upper - lower) continue;
      // The solver rests at the bound that stays, so nothing moves.
      if (gain < 0) this.#solver.setBounds(column, lower, lower + steps);
      else this.#solver.setBounds(column, upper - steps, upper);
    }
  }

  /** Place of the fractional column that promises most, or −1 when all are whole. */
  #fractional(): number {
    this.#readRelaxed();
    let chosen = -1;
    let most = -1;
    for (let place = 0; place < this.#relaxed.length; place++) {
      const value = this.#relaxed[place]!;
      const fraction = value - Math.floor(value);
      if (fraction < WHOLE || fraction > 1 - WHOLE) continue;
      const score = this.#pseudocosts.score(place, fraction);
      if (score > most) {
        most = score;
        chosen = place;
      }
    }
    return chosen;
  }

  /** Splits at a fractional value; returns false when neither child is worth going on with. */
  #branch(place: number): boolean {
    const column = this.#mip.integers[place]!;
    const value = this.#relaxed[place]!;
    const below = Math.floor(value);
    const lower = this.#solver.lowerBound(column);
    const upper = this.#solver.upperBound(column);
    const parent = this.#solver.save();
    const bound = this.#solver.objective;

    const down = this.#child(column, lower, below);
    if (down) this.#pseudocosts.learn(place, 0, (bound - this.#solver.objective) / (value - below));
    const downBound = this.#solver.objective;
    const downState = down ? this.#solver.save() : null;
    this.#solver.restore(parent);
    const up = this.#child(column, below + 1, upper);
    if (up) this.#pseudocosts.learn(place, 1, (bound - this.#solver.objective) / (below + 1 - value));
    if (!up) {
      if (downState === null) return false;
      this.#solver.restore(downState);
      return true;
    }
    if (downState === null) return true;
    if (this.#solver.objective >= downBound) {
      this.#pushState(downBound, downState);
      return true;
    }
    this.#push();
    this.#solver.restore(downState);
    return true;
  }

  #pushState(bound: number, state: SimplexState): void {
    this.#open.push({ bound, state });
    this.#queue.set(this.#open.length - 1, -bound, this.#open.length);
  }

  /** Moves the solver to the node with these bounds; false when nothing inside beats the threshold. */
  #child(column: number, lower: number, upper: number): boolean {
    if (lower > upper) return false;
    this.#nodes++;
    this.#solver.setBounds(column, lower, upper);
    const threshold = this.#threshold();
    const status = this.#solver.resolve(threshold);
    return status === 'optimal' && this.#solver.objective > threshold;
  }

  /** All columns are whole: a new best point, or one that is refused and split away. Returns whether to go on. */
  #leaf(): boolean {
    const values = Int32Array.from(this.#relaxed, Math.round);
    const { accepts, integers } = this.#mip;
    if (accepts === undefined || accepts(values)) {
      this.#offer({ values, objective: this.#solver.objective });
      return false;
    }
    // Every point that is at least as large is refused as well. What is left lies below in some coordinate: in the first
    // one, or not in the first but in the second, and so on.
    const state = this.#solver.save();
    const lowest = Float64Array.from(integers, (column) => this.#solver.lowerBound(column));
    for (let place = 0; place < integers.length; place++) {
      if (values[place]! - 1 < lowest[place]!) continue;
      this.#solver.restore(state);
      for (let earlier = 0; earlier < place; earlier++) {
        const column = integers[earlier]!;
        this.#solver.setBounds(column, Math.max(lowest[earlier]!, values[earlier]!), this.#solver.upperBound(column));
      }
      if (this.#child(integers[place]!, lowest[place]!, values[place]! - 1)) this.#push();
    }
    return false;
  }
}

/** Mean fall of the bound per unit of fraction removed, by column and direction. */
class Pseudocosts {
  readonly #sum: Float64Array;
  readonly #times: Float64Array;
  #allSum = 0;
  #allTimes = 0;

  constructor(places: number) {
    this.#sum = new Float64Array(2 * places);
    this.#times = new Float64Array(2 * places);
  }

  learn(place: number, direction: 0 | 1, fallPerUnit: number): void {
    const i = 2 * place + direction;
    const fall = Math.max(0, fallPerUnit);
    this.#sum[i] = this.#sum[i]! + fall;
    this.#times[i] = this.#times[i]! + 1;
    this.#allSum += fall;
    this.#allTimes++;
  }

  /** Product of the falls expected on both sides; columns not seen yet count as average. */
  score(place: number, fraction: number): number {
    const usual = this.#allTimes > 0 ? this.#allSum / this.#allTimes : 1;
    const fall = (i: number) => (this.#times[i]! > 0 ? this.#sum[i]! / this.#times[i]! : usual);
    return (fall(2 * place) * fraction + SIGNIFICANT) * (fall(2 * place + 1) * (1 - fraction) + SIGNIFICANT);
  }
}
