import fc from 'fast-check';
import { expect, test } from 'vitest';
import { lowerBound, normalQuantile, poissonProbability, poissonQuantile, quantile } from './index.ts';

test('quantiles interpolate between neighbours, and their ends are the ends of the sample', () => {
  expect(quantile([1, 2, 3, 4], 0.5)).toBe(2.5);
  expect(quantile([1, 2, 3, 4], 0)).toBe(1);
  expect(quantile([1, 2, 3, 4], 1)).toBe(4);
  expect(quantile([7], 0.9)).toBe(7);
  expect(quantile([1, 2, 3, 99], 1, 3)).toBe(3);
  expect(quantile([], 0.5)).toBeNaN();
});

test('quantiles grow with their share and stay within the sample', () => {
  const values = fc.array(fc.double({ min: -1e6, max: 1e6, noNaN: true }), { minLength: 1 });
  fc.assert(
    fc.property(
      values,
      fc.double({ min: 0, max: 1, noNaN: true }),
      fc.double({ min: 0, max: 1, noNaN: true }),
      (v, a, b) => {
        const sorted = [...v].sort((x, y) => x - y);
        expect(quantile(sorted, Math.min(a, b))).toBeLessThanOrEqual(quantile(sorted, Math.max(a, b)) + 1e-9);
        expect(quantile(sorted, a)).toBeGreaterThanOrEqual(sorted[0]!);
        expect(quantile(sorted, a)).toBeLessThanOrEqual(sorted.at(-1)!);
      },
    ),
  );
});

test('lowerBound is where a value belongs', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: -9, max: 9 })), fc.integer({ min: -10, max: 10 }), (values, value) => {
      const sorted = [...values].sort((a, b) => a - b);
      expect(lowerBound(sorted, value)).toBe(sorted.filter((other) => other < value).length);
    }),
  );
});

test('normal quantiles match the table', () => {
  for (const [share, z] of [
    [0.5, 0],
    [0.9, 1.2815515655],
    [0.975, 1.9599639845],
    [0.999, 3.0902323062],
    [0.01, -2.326347874],
  ] as const)
    expect(normalQuantile(share)).toBeCloseTo(z, 7);
});

test('a Poisson quantile is the first count at which the cumulative probability reaches the share', () => {
  fc.assert(
    fc.property(
      fc.double({ min: 0.01, max: 400, noNaN: true }),
      fc.double({ min: 0.02, max: 0.98, noNaN: true }),
      (mean, share) => {
        const found = poissonQuantile(mean, share);
        let cumulative = 0;
        for (let count = 0; count <= found - 1; count++) cumulative += poissonProbability(mean, count);
        const at = cumulative + poissonProbability(mean, found);
        // Above a mean of 200 the expansion may be off by one count.
        const slack = mean < 200 ? 1e-9 : poissonProbability(mean, Math.floor(mean));
        expect(cumulative).toBeLessThan(share + slack);
        expect(at).toBeGreaterThanOrEqual(share - slack);
      },
    ),
  );
  expect(poissonQuantile(0, 0.9)).toBe(0);
});
