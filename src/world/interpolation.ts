// Looking measured times up between their rows. Measurements lie on irregular grids over several powers of ten, so
// they are interpolated in logarithms; what is asked for in every step is first sampled onto an even grid.

/** Position on a sorted axis: the lower index and the weight (0..1, in log x) of the next one. Clamped at both ends. */
export function locate(axis: ArrayLike<number>, x: number): { readonly index: number; readonly weight: number } {
  const last = axis.length - 1;
  if (last === 0 || x <= axis[0]!) return { index: 0, weight: 0 };
  if (x >= axis[last]!) return { index: last - 1, weight: 1 };
  let low = 0;
  let high = last;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (axis[middle]! <= x) low = middle;
    else high = middle;
  }
  return { index: low, weight: Math.log(x / axis[low]!) / Math.log(axis[high]! / axis[low]!) };
}

/** Sorted values that occur in a column, among the given rows. */
export const axisOf = (column: Float64Array, rows: readonly number[]): Float64Array =>
  Float64Array.from(new Set(rows.map((row) => column[row]!))).sort();

/** A curve through points with positive x and y, in log-log; beyond its ends it goes on in proportion to x. */
export class Curve {
  readonly #x: Float64Array;
  readonly #y: Float64Array;

  /** @param points - in any order; of several with one x the median counts. */
  constructor(points: readonly (readonly [x: number, y: number])[]) {
    const byX = new Map<number, number[]>();
    for (const [x, y] of points) byX.set(x, [...(byX.get(x) ?? []), y]);
    const sorted = [...byX].sort(([a], [b]) => a - b);
    this.#x = Float64Array.from(sorted, ([x]) => x);
    this.#y = Float64Array.from(sorted, ([, ys]) => ys.sort((a, b) => a - b)[ys.length >> 1]!);
  }

  at(x: number): number {
    const xs = this.#x;
    const ys = this.#y;
    const last = xs.length - 1;
    if (x <= xs[0]!) return ys[0]!;
    if (x >= xs[last]!) return (ys[last]! * x) / xs[last]!;
    const { index, weight } = locate(xs, x);
    return ys[index]! ** (1 - weight) * ys[index + 1]! ** weight;
  }
}

/** Grid points per doubling: between them values are linear in log2, which is off by at most 0.4 % for y ~ x. */
const POINTS_PER_OCTAVE = 4;

/** A function of two numbers ≥ 1, sampled on an even grid of their logarithms: about 30 ns a look-up. */
export class DenseGrid {
  readonly #values: Float64Array;
  readonly #columns: number;
  readonly #rows: number;

  constructor(f: (a: number, b: number) => number, largestA: number, largestB: number) {
    const points = (largest: number) => Math.ceil(Math.log2(largest) * POINTS_PER_OCTAVE) + 2;
    this.#rows = points(largestA);
    this.#columns = points(largestB);
    this.#values = new Float64Array(this.#rows * this.#columns);
    for (let row = 0; row < this.#rows; row++) {
      for (let column = 0; column < this.#columns; column++) {
        this.#values[row * this.#columns + column] = f(
          2 ** (row / POINTS_PER_OCTAVE),
          2 ** (column / POINTS_PER_OCTAVE),
        );
      }
    }
  }

  /** Arguments outside the grid are clamped to it. */
  at(a: number, b: number): number {
    const columns = this.#columns;
    const row = Math.min(this.#rows - 1.000001, Math.max(0, Math.log2(a) * POINTS_PER_OCTAVE));
    const column = Math.min(columns - 1.000001, Math.max(0, Math.log2(b) * POINTS_PER_OCTAVE));
    const r = Math.floor(row);
    const c = Math.floor(column);
    const values = this.#values;
    const start = r * columns + c;
    const right = column - c;
    const here = values[start]! + right * (values[start + 1]! - values[start]!);
    const below = values[start + columns]! + right * (values[start + columns + 1]! - values[start + columns]!);
    return here + (row - r) * (below - here);
  }
}
