import { expect, test } from 'vitest';
import { jackknifeLowerBound, tailMean } from './statistics.ts';

test('the jackknife of a mean is Student’s bound, and one group says nothing', () => {
  expect(jackknifeLowerBound(1, [1])).toBe(Number.NEGATIVE_INFINITY);
  const values = [1, 2, 3, 6];
  const whole = 3;
  const without = values.map((left) => (12 - left) / 3);
  const standardError = Math.sqrt(values.reduce((sum, value) => sum + (value - whole) ** 2, 0) / 3 / 4);
  expect(jackknifeLowerBound(whole, without)).toBeCloseTo(whole - 1.638 * standardError, 9);
});

test('the tail mean is the mean of the slowest share, of one value at least', () => {
  expect(tailMean([5, 1, 2, 3, 4, 6, 7, 8, 9, 10], 0.2)).toBe(9.5);
  expect(tailMean([3, 1], 0.01)).toBe(3);
  expect(tailMean([], 0.1)).toBe(0);
});
