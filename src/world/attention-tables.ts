// Attention between the measured batches and lengths. Tables exist for some numbers of heads; a replica takes the one
// with the nearest grouping (query heads per key/value head) and scales the work.
import { ConfigError } from '../core/domain/index.ts';
import type { KernelTables } from '../core/replica/index.ts';
import { axisOf, DenseGrid, locate } from './interpolation.ts';

/** Heads of one rank. */
export interface Heads {
  readonly headDim: number;
  readonly heads: number;
  readonly kvHeads: number;
}

type AttentionColumns = KernelTables['decodeAttention'];

const LARGEST_BATCH = 2048;
const LARGEST_LENGTH = 131_072;

/** Seconds of one layer by (batch, length), on an even grid. */
export interface AttentionGrid {
  readonly grid: DenseGrid;
  /** What even the smallest call takes. */
  readonly kernelSeconds: number;
}

/** One token for each of `batch` sequences over `length` cached ones. Memory-bound: key/value heads count like batch. */
export function decodeGrid(table: AttentionColumns, heads: Heads): AttentionGrid {
  const measured = nearestHeads(table, heads, (candidate) => Math.log2(candidate.kvHeads / heads.kvHeads));
  const surface = new Surface(table, measured.rows, (batch, length) => batch * length);
  const scale = heads.kvHeads / measured.heads.kvHeads;
  return {
    grid: new DenseGrid((batch, length) => surface.at(batch * scale, length), LARGEST_BATCH, LARGEST_LENGTH),
    kernelSeconds: surface.smallest,
  };
}

/** `batch` prompts of `length` tokens. Compute-bound: query heads scale what exceeds the launch. */
export function prefillGrid(table: AttentionColumns, heads: Heads): AttentionGrid {
  const measured = nearestHeads(table, heads, (candidate) => Math.log2(candidate.heads / heads.heads));
  const surface = new Surface(table, measured.rows, (batch, length) => batch * length * length);
  const scale = heads.heads / measured.heads.heads;
  const { smallest } = surface;
  return {
    grid: new DenseGrid(
      (batch, length) => smallest + scale * Math.max(0, surface.at(batch, length) - smallest),
      LARGEST_BATCH,
      LARGEST_LENGTH,
    ),
    kernelSeconds: smallest,
  };
}

function nearestHeads(
  table: AttentionColumns,
  wanted: Heads,
  distance: (candidate: Heads) => number,
): { readonly heads: Heads; readonly rows: readonly number[] } {
  const groups = new Map<string, { heads: Heads; rows: number[] }>();
  for (let row = 0; row < table.seconds.length; row++) {
    if (table.headDim[row] !== wanted.headDim) continue;
    const heads = { headDim: wanted.headDim, heads: table.heads[row]!, kvHeads: table.kvHeads[row]! };
    const key = `${heads.heads}/${heads.kvHeads}`;
    const group = groups.get(key);
    if (group) group.rows.push(row);
    else groups.set(key, { heads, rows: [row] });
  }
  const cost = ({ heads }: { heads: Heads }) =>
    // A different grouping changes the kernel itself: it weighs more than a different size.
    10 * Math.abs(Math.log2(heads.heads / heads.kvHeads / (wanted.heads / wanted.kvHeads))) + Math.abs(distance(heads));
  const best = [...groups.values()].sort((a, b) => cost(a) - cost(b))[0];
  if (best === undefined) {
    throw new ConfigError(`There are no attention measurements with head dimension ${wanted.headDim}.`, {
      hint: 'Use --world fitted for this model.',
    });
  }
  return best;
}

/** Measured times over (batch, length), bilinear in logarithms. */
class Surface {
  readonly smallest: number;
  readonly #batch: Float64Array;
  readonly #length: Float64Array;
  readonly #logSeconds: Float64Array;

  constructor(table: AttentionColumns, rows: readonly number[], work: (batch: number, length: number) => number) {
    this.#batch = axisOf(table.batch, rows);
    this.#length = axisOf(table.length, rows);
    const columns = this.#length.length;
    const seconds = new Float64Array(this.#batch.length * columns).fill(Number.NaN);
    let smallest = Number.POSITIVE_INFINITY;
    for (const row of rows) {
      const b = this.#batch.indexOf(table.batch[row]!);
      const l = this.#length.indexOf(table.length[row]!);
      seconds[b * columns + l] = table.seconds[row]!;
      smallest = Math.min(smallest, table.seconds[row]!);
    }
    this.smallest = smallest;
    // The largest batches were not measured at the largest lengths: beyond its neighbours time grows with the work.
    for (let b = 0; b < this.#batch.length; b++) {
      for (let l = 0; l < columns; l++) {
        if (!Number.isNaN(seconds[b * columns + l]!)) continue;
        const from = b > 0 ? [b - 1, l] : [b, l - 1];
        const before = seconds[from[0]! * columns + from[1]!] ?? smallest;
        const ratio = work(this.#batch[b]!, this.#length[l]!) / work(this.#batch[from[0]!]!, this.#length[from[1]!]!);
        seconds[b * columns + l] = smallest + Math.max(0, before - smallest) * ratio;
      }
    }
    this.#logSeconds = seconds.map(Math.log);
  }

  at(batch: number, length: number): number {
    const b = locate(this.#batch, batch);
    const l = locate(this.#length, length);
    const columns = this.#length.length;
    const row = (index: number) => {
      const start = index * columns + l.index;
      return (1 - l.weight) * this.#logSeconds[start]! + l.weight * this.#logSeconds[start + 1]!;
    };
    const seconds = Math.exp((1 - b.weight) * row(b.index) + b.weight * row(b.index + 1));
    // Beyond the measured batches and lengths in proportion.
    return seconds * Math.max(1, batch / this.#batch.at(-1)!) * Math.max(1, length / this.#length.at(-1)!);
  }
}
