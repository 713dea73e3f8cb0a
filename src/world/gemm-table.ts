// Matrix products between the measured shapes: trilinear in the logarithms of m, n and k.
import { invariant } from '../core/domain/index.ts';
import type { KernelTables } from '../core/replica/index.ts';
import { axisOf, locate } from './interpolation.ts';

export class GemmTable {
  readonly #m: Float64Array;
  readonly #n: Float64Array;
  readonly #k: Float64Array;
  /** log seconds, [n][k][m]. */
  readonly #logSeconds: Float64Array;

  constructor({ m, n, k, seconds }: KernelTables['gemm']) {
    const rows = Array.from({ length: seconds.length }, (_, row) => row);
    invariant(rows.length > 0, 'there are measured matrix products');
    this.#m = axisOf(m, rows);
    this.#n = axisOf(n, rows);
    this.#k = axisOf(k, rows);
    const place = (axis: Float64Array) => new Map(Array.from(axis, (value, index) => [value, index]));
    const [mAt, nAt, kAt] = [place(this.#m), place(this.#n), place(this.#k)];
    this.#logSeconds = new Float64Array(this.#n.length * this.#k.length * this.#m.length).fill(Number.NaN);
    for (const row of rows) {
      this.#logSeconds[this.#cell(nAt.get(n[row]!)!, kAt.get(k[row]!)!, mAt.get(m[row]!)!)] = Math.log(seconds[row]!);
    }
    this.#fillGaps();
  }

  /** Seconds of m × k times k × n. Beyond the largest measured m in proportion to m. */
  seconds(m: number, n: number, k: number): number {
    const [mi, ni, ki] = [locate(this.#m, m), locate(this.#n, n), locate(this.#k, k)];
    let sum = 0;
    for (let corner = 0; corner < 8; corner++) {
      const [dn, dk, dm] = [corner & 1, (corner >> 1) & 1, corner >> 2];
      const weight =
        (dn ? ni.weight : 1 - ni.weight) * (dk ? ki.weight : 1 - ki.weight) * (dm ? mi.weight : 1 - mi.weight);
      if (weight > 0) sum += weight * this.#logSeconds[this.#cell(ni.index + dn, ki.index + dk, mi.index + dm)]!;
    }
    return Math.exp(sum) * Math.max(1, m / this.#m.at(-1)!);
  }

  #cell(n: number, k: number, m: number): number {
    return (n * this.#k.length + k) * this.#m.length + m;
  }

  /** A shape that was not measured takes the time of the next smaller k, in proportion: only the largest are missing. */
  #fillGaps(): void {
    for (let n = 0; n < this.#n.length; n++) {
      for (let k = 0; k < this.#k.length; k++) {
        for (let m = 0; m < this.#m.length; m++) {
          const cell = this.#cell(n, k, m);
          if (!Number.isNaN(this.#logSeconds[cell]!)) continue;
          invariant(k > 0, 'the smallest k of each shape was measured');
          this.#logSeconds[cell] = this.#logSeconds[this.#cell(n, k - 1, m)]! + Math.log(this.#k[k]! / this.#k[k - 1]!);
        }
      }
    }
  }
}
