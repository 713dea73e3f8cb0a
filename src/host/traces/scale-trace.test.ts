import fc from 'fast-check';
import { expect, test } from 'vitest';
import { random } from '../../core/math/index.ts';
import { scaleTrace } from './index.ts';

const trace = Array.from({ length: 4000 }, (_, i) => ({
  arrivalSeconds: 10 + i * 0.25 + (i % 3) * 0.01,
  inputTokens: 1 + (i % 100),
  outputTokens: 1 + (i % 37),
  tenant: i % 2 === 0 ? 'a' : 'b',
}));

test('any scale gives its share of the requests, sorted, within the span of the trace, of the same lengths', () => {
  fc.assert(
    fc.property(fc.double({ min: 0.05, max: 5, noNaN: true }), fc.integer(), (scale, seed) => {
      const scaled = scaleTrace(trace, scale, random(seed));
      // The number of copies is a sum of independent roundings: standard deviation at most √n / 2.
      expect(Math.abs(scaled.length - scale * trace.length)).toBeLessThan(6 * Math.sqrt(trace.length) * 0.5);
      for (let i = 0; i < scaled.length; i++) {
        if (i > 0 && scaled[i]!.arrivalSeconds < scaled[i - 1]!.arrivalSeconds) expect.fail(`unsorted at ${i}`);
      }
      expect(scaled[0]!.arrivalSeconds).toBeGreaterThanOrEqual(trace[0]!.arrivalSeconds);
      expect(scaled.at(-1)!.arrivalSeconds).toBeLessThanOrEqual(trace.at(-1)!.arrivalSeconds);
    }),
    { numRuns: 30 },
  );
});

test('scale 1 is the trace itself, whole scales hold each request that often', () => {
  expect(scaleTrace(trace, 1, random(1))).toEqual(trace);
  const tripled = scaleTrace(trace, 3, random(1));
  expect(tripled).toHaveLength(3 * trace.length);
  expect(tripled.filter((r) => r.inputTokens === 7)).toHaveLength(3 * trace.filter((r) => r.inputTokens === 7).length);
});

test('for one seed, a larger scale holds all requests of a smaller one', () => {
  const keys = (scale: number) => new Set(scaleTrace(trace, scale, random(5)).map((r) => JSON.stringify(r)));
  const large = keys(2.4);
  for (const scale of [0.3, 0.9, 1, 1.7, 2.3]) for (const key of keys(scale)) expect(large.has(key)).toBe(true);
});

test('equal seeds scale equally, other seeds otherwise', () => {
  expect(scaleTrace(trace, 1.7, random(1))).toEqual(scaleTrace(trace, 1.7, random(1)));
  expect(scaleTrace(trace, 1.7, random(1))).not.toEqual(scaleTrace(trace, 1.7, random(2)));
});

test('copies do not coincide with their originals, and stay in their minute', () => {
  const original = [{ arrivalSeconds: 0, inputTokens: 1, outputTokens: 1 }];
  const sparse = Array.from({ length: 100 }, (_, i) => ({
    ...original[0]!,
    arrivalSeconds: i * 60,
    inputTokens: i + 1,
  }));
  const doubled = scaleTrace(sparse, 2, random(9));
  for (const request of sparse) {
    const times = doubled.filter((r) => r.inputTokens === request.inputTokens).map((r) => r.arrivalSeconds);
    expect(times).toHaveLength(2);
    expect(times[0]).not.toBe(times[1]);
    expect(Math.abs(times[0]! - times[1]!)).toBeLessThanOrEqual(5);
  }
});
