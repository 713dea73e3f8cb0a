import { expect, test } from 'vitest';
import { pairedLowerBound, tailMean } from './statistics.ts';

test('the paired lower bound follows Student and needs two pairs', () => {
  expect(pairedLowerBound([1])).toBe(Number.NEGATIVE_INFINITY);
  expect(pairedLowerBound([2, 2, 2])).toBe(2);
  expect(pairedLowerBound([1, 2, 3])).toBeCloseTo(2 - 1.886 / Math.sqrt(3), 9);
});

test('the tail mean is the mean of the slowest share, of one value at least', () => {
  expect(tailMean([5, 1, 2, 3, 4, 6, 7, 8, 9, 10], 0.2)).toBe(9.5);
  expect(tailMean([3, 1], 0.01)).toBe(3);
  expect(tailMean([], 0.1)).toBe(0);
});
