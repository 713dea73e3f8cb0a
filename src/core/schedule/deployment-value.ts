// How many times the arrivals a given deployment could carry (θ), and what one more replica of each class would be worth.
//
//   maximise θ   subject to   Σ_k n_kj t_jk ≥ θ λ_j   (every type j),   Σ_j t_jk ≤ x_k   (every class k)
//
// t_jk is the time that replicas of class k spend on type j. Let w_j be the dual of type j's row, scaled so that
// Σ_j λ_j w_j = 1. Then p_k = max_j w_j n_kj prices a replica of class k, and Σ_k p_k x_k bounds θ for *any* counts x:
// most deployments are refused by such a bound and need no program of their own.
import { solveLp } from '../math/index.ts';

/** Price vectors kept for bounds; the newest ones are the most telling. */
const PRICES_KEPT = 24;

export class DeploymentValue {
  readonly #arrivalRate: Float64Array;
  /** K × J. */
  readonly #serviceRate: Float64Array;
  readonly #prices: Float64Array[] = [];
  evaluations = 0;

  /** @param arrivalRate - all positive: only the types that count. */
  constructor(arrivalRate: Float64Array, serviceRate: Float64Array) {
    this.#arrivalRate = arrivalRate;
    this.#serviceRate = serviceRate;
  }

  /** θ of these counts; 0 when some type is served by none. */
  of(counts: ArrayLike<number>): number {
    this.evaluations++;
    const types = this.#arrivalRate.length;
    const used: number[] = [];
    for (let k = 0; k < counts.length; k++) if (counts[k]! > 0) used.push(k);
    const classes = used.length;
    if (classes === 0) return 0;
    if (classes === 1) return this.#ofOneClass(used[0]!, counts[used[0]!]!);
    // Columns: t_jk class by class, then θ. Rows: types, then classes.
    const columns = types * classes + 1;
    const matrix = new Float64Array((types + classes) * columns);
    const rightHandSide = new Float64Array(types + classes);
    for (let c = 0; c < classes; c++) {
      for (let j = 0; j < types; j++) {
        const column = c * types + j;
        matrix[j * columns + column] = -this.#serviceRate[used[c]! * types + j]! / this.#arrivalRate[j]!;
        matrix[(types + c) * columns + column] = 1;
      }
      rightHandSide[types + c] = counts[used[c]!]!;
    }
    for (let j = 0; j < types; j++) matrix[j * columns + columns - 1] = 1;
    const objective = new Float64Array(columns);
    objective[columns - 1] = 1;
    const relations = new Array<'<='>(types + classes).fill('<=');
    const solution = solveLp({ objective, matrix, relations, rightHandSide });
    if (solution.status !== 'optimal') return 0;
    this.#keepPrices(solution.duals);
    return solution.objective;
  }

  /** No deployment with these counts carries more; +∞ when nothing is known yet. */
  bound(counts: ArrayLike<number>): number {
    let least = Number.POSITIVE_INFINITY;
    for (const prices of this.#prices) {
      let sum = 0;
      for (let k = 0; k < prices.length; k++) sum += prices[k]! * counts[k]!;
      if (sum < least) least = sum;
    }
    return least;
  }

  /** What one more replica of each class is worth at the deployment evaluated last (K), or null before the first. */
  get prices(): Float64Array | null {
    return this.#prices.at(-1) ?? null;
  }

  /** How many types that these counts leave unserved class k would serve. */
  missingServed(counts: ArrayLike<number>, k: number): number {
    const types = this.#arrivalRate.length;
    let missing = 0;
    for (let j = 0; j < types; j++) {
      if (!(this.#serviceRate[k * types + j]! > 0)) continue;
      let served = false;
      for (let other = 0; other < counts.length && !served; other++) {
        served = counts[other]! > 0 && this.#serviceRate[other * types + j]! > 0;
      }
      if (!served) missing++;
    }
    return missing;
  }

  #ofOneClass(k: number, count: number): number {
    const types = this.#arrivalRate.length;
    const duals = new Float64Array(types);
    let time = 0;
    for (let j = 0; j < types; j++) {
      const rate = this.#serviceRate[k * types + j]!;
      if (rate <= 0) return 0;
      time += this.#arrivalRate[j]! / rate;
      duals[j] = this.#arrivalRate[j]! / rate;
    }
    for (let j = 0; j < types; j++) duals[j] = duals[j]! / time;
    this.#keepPrices(duals);
    return count / time;
  }

  /** @param duals - of the type rows, which are scaled by 1 / λ_j: λ_j w_j. */
  #keepPrices(duals: Float64Array): void {
    const types = this.#arrivalRate.length;
    let scale = 0;
    for (let j = 0; j < types; j++) scale += Math.max(0, duals[j]!);
    if (!(scale > 0)) return;
    const classes = this.#serviceRate.length / types;
    const prices = new Float64Array(classes);
    for (let k = 0; k < classes; k++) {
      let price = 0;
      for (let j = 0; j < types; j++) {
        const worth = (Math.max(0, duals[j]!) / scale / this.#arrivalRate[j]!) * this.#serviceRate[k * types + j]!;
        if (worth > price) price = worth;
      }
      prices[k] = price;
    }
    this.#prices.push(prices);
    if (this.#prices.length > PRICES_KEPT) this.#prices.shift();
  }
}
