import fc from 'fast-check';
import { expect, test } from 'vitest';
import { hungarian } from './hungarian.ts';

function cheapest(cost: Float64Array, n: number): number {
  const search = (row: number, taken: number): number => {
    if (row === n) return 0;
    let best = Number.POSITIVE_INFINITY;
    for (let column = 0; column < n; column++) {
      if (taken & (1 << column)) continue;
      best = Math.min(best, cost[row * n + column]! + search(row + 1, taken | (1 << column)));
    }
    return best;
  };
  return search(0, 0);
}

test('the assignment is a permutation and no permutation is cheaper', () => {
  const matrix = fc
    .integer({ min: 1, max: 6 })
    .chain((n) =>
      fc.tuple(fc.constant(n), fc.array(fc.integer({ min: -20, max: 20 }), { minLength: n * n, maxLength: n * n })),
    );
  fc.assert(
    fc.property(matrix, ([n, values]) => {
      const cost = Float64Array.from(values);
      const columns = hungarian(cost, n);
      expect([...columns].sort((a, b) => a - b)).toEqual(Array.from({ length: n }, (_, i) => i));
      const total = columns.reduce((sum, column, row) => sum + cost[row * n + column]!, 0);
      expect(total).toBe(cheapest(cost, n));
    }),
  );
});

test('nothing to assign gives nothing', () => {
  expect([...hungarian(new Float64Array(0), 0)]).toEqual([]);
});

test('rows that are equal keep their order', () => {
  expect([...hungarian(new Float64Array(16), 4)]).toEqual([0, 1, 2, 3]);
});
