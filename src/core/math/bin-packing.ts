// Do these items fit into these bins? Exact for the small cases that nodes of GPUs are: bins of at most a few dozen units.
//
// When each size divides the next larger one, the order does not matter: an item of size s uses s / d units of any smaller
// size d wherever it lies, so filling greedily, largest first, fails only when nothing works. For other sizes greedy is
// tried first, then bins are filled one after the other with every maximal choice, remembering what failed.

/** Choices tried before giving up; far beyond what nodes of 8 GPUs need. */
const MOST_CHOICES = 50_000;

/**
 * @param sizes - distinct, positive.
 * @param counts - items of each size.
 * @param capacities - of each bin.
 * @returns items of each size by bin, bins in the order given; null when they do not fit (or when no packing was found
 *   within a fixed number of choices).
 */
export function packIntoBins(
  sizes: readonly number[],
  counts: ArrayLike<number>,
  capacities: readonly number[],
): Int32Array[] | null {
  const order = [...sizes.keys()].filter((i) => counts[i]! > 0).sort((a, b) => sizes[b]! - sizes[a]!);
  const units = order.reduce((sum, i) => sum + sizes[i]! * counts[i]!, 0);
  if (units > capacities.reduce((sum, capacity) => sum + capacity, 0)) return null;
  const greedy = fillGreedily(sizes, counts, capacities, order);
  if (greedy !== null || formChain(sizes, order)) return greedy;
  return new Packer(sizes, counts, capacities, order).run();
}

/** Best fit, largest first. */
function fillGreedily(
  sizes: readonly number[],
  counts: ArrayLike<number>,
  capacities: readonly number[],
  order: readonly number[],
): Int32Array[] | null {
  const left = Float64Array.from(capacities);
  const packed = capacities.map(() => new Int32Array(sizes.length));
  for (const item of order) {
    const size = sizes[item]!;
    for (let copy = 0; copy < counts[item]!; copy++) {
      let best = -1;
      for (let bin = 0; bin < left.length; bin++) {
        if (left[bin]! >= size && (best < 0 || left[bin]! < left[best]!)) best = bin;
      }
      if (best < 0) return null;
      left[best] = left[best]! - size;
      packed[best]![item] = packed[best]![item]! + 1;
    }
  }
  return packed;
}

const formChain = (sizes: readonly number[], order: readonly number[]): boolean =>
  order.every((item, i) => i === 0 || sizes[order[i - 1]!]! % sizes[item]! === 0);

class Packer {
  readonly #sizes: readonly number[];
  readonly #capacities: readonly number[];
  readonly #order: readonly number[];
  readonly #left: Int32Array;
  /** Bins by rising capacity: what does not fit the small ones must fit the large ones. */
  readonly #bins: readonly number[];
  readonly #packed: Int32Array[];
  readonly #failed = new Set<string>();
  #choices = 0;

  constructor(
    sizes: readonly number[],
    counts: ArrayLike<number>,
    capacities: readonly number[],
    order: readonly number[],
  ) {
    this.#sizes = sizes;
    this.#capacities = capacities;
    this.#order = order;
    this.#left = Int32Array.from({ length: sizes.length }, (_, i) => counts[i]!);
    this.#bins = [...capacities.keys()].sort((a, b) => capacities[a]! - capacities[b]! || a - b);
    this.#packed = capacities.map(() => new Int32Array(sizes.length));
  }

  run(): Int32Array[] | null {
    return this.#fill(0) ? this.#packed : null;
  }

  #fill(step: number): boolean {
    if (this.#left.every((count) => count === 0)) return true;
    if (step === this.#bins.length) return false;
    const key = `${step}:${this.#left.join()}`;
    if (this.#failed.has(key)) return false;
    const bin = this.#bins[step]!;
    if (this.#choose(step, bin, 0, this.#capacities[bin]!)) return true;
    this.#failed.add(key);
    return false;
  }

  /** Adds items from `order[from]` on to the bin; a bin is left only when nothing that remains would still fit. */
  #choose(step: number, bin: number, from: number, room: number): boolean {
    if (++this.#choices > MOST_CHOICES) return false;
    if (from === this.#order.length) {
      const more = this.#order.some((item) => this.#left[item]! > 0 && this.#sizes[item]! <= room);
      return !more && this.#fill(step + 1);
    }
    const item = this.#order[from]!;
    const most = Math.min(this.#left[item]!, Math.floor(room / this.#sizes[item]!));
    for (let copies = most; copies >= 0; copies--) {
      this.#left[item] = this.#left[item]! - copies;
      this.#packed[bin]![item] = copies;
      if (this.#choose(step, bin, from + 1, room - copies * this.#sizes[item]!)) return true;
      this.#left[item] = this.#left[item]! + copies;
      this.#packed[bin]![item] = 0;
    }
    return false;
  }
}
