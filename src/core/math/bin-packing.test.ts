import fc from 'fast-check';
import { expect, test } from 'vitest';
import { packIntoBins } from './bin-packing.ts';

/** The slow and obvious way: every item in every bin. */
function fits(items: readonly number[], capacities: number[]): boolean {
  const [first, ...rest] = items;
  if (first === undefined) return true;
  return capacities.some((capacity, bin) => {
    if (capacity < first) return false;
    capacities[bin] = capacity - first;
    const ok = fits(rest, capacities);
    capacities[bin] = capacity;
    return ok;
  });
}

const instances = fc.record({
  sizes: fc.uniqueArray(fc.integer({ min: 1, max: 8 }), { minLength: 1, maxLength: 4 }),
  counts: fc.array(fc.integer({ min: 0, max: 3 }), { minLength: 4, maxLength: 4 }),
  capacities: fc.array(fc.integer({ min: 0, max: 9 }), { minLength: 1, maxLength: 4 }),
});

test('finds a packing exactly when there is one', () => {
  const seen = { yes: 0, no: 0 };
  fc.assert(
    fc.property(instances, ({ sizes, counts, capacities }) => {
      const items = sizes.flatMap((size, i) => new Array<number>(counts[i]!).fill(size)).sort((a, b) => b - a);
      const packed = packIntoBins(sizes, counts, capacities);
      expect(packed !== null).toBe(fits(items, [...capacities]));
      seen[packed === null ? 'no' : 'yes']++;
      if (packed === null) return;
      sizes.forEach((_, i) => {
        expect(packed.reduce((sum, bin) => sum + bin[i]!, 0)).toBe(counts[i]);
      });
      packed.forEach((bin, b) => {
        expect(bin.reduce((sum, count, i) => sum + count * sizes[i]!, 0)).toBeLessThanOrEqual(capacities[b]!);
      });
    }),
    { numRuns: 500 },
  );
  expect(seen.yes).toBeGreaterThan(20);
  expect(seen.no).toBeGreaterThan(20);
});

test('finds what greedy filling misses', () => {
  // Largest first puts 4 with 3 and strands a 3; 4 + 2 + 2 and 3 + 3 + 2 fill both nodes.
  expect(packIntoBins([4, 3, 2], [1, 2, 3], [8, 8])).not.toBeNull();
});
