import { expect, test } from 'vitest';
import { nelderMead } from './nelder-mead.ts';

test("finds the bottom of Rosenbrock's valley", () => {
  const { x, value } = nelderMead(([a, b]) => (1 - a!) ** 2 + 100 * (b! - a! ** 2) ** 2, [-1.2, 1]);
  expect(value).toBeLessThan(1e-8);
  expect(x[0]).toBeCloseTo(1, 3);
  expect(x[1]).toBeCloseTo(1, 3);
});

test('finds the medians that minimise a sum of absolute differences', () => {
  const { x } = nelderMead(([a]) => [1, 2, 10].reduce((sum, v) => sum + Math.abs(v - a!), 0), [7]);
  expect(x[0]).toBeCloseTo(2, 4);
});

test('stops at its budget', () => {
  let calls = 0;
  nelderMead(
    ([a]) => {
      calls++;
      return a! ** 2;
    },
    [5],
    { maxEvaluations: 10 },
  );
  expect(calls).toBeLessThanOrEqual(12);
});
