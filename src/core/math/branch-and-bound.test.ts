import fc from 'fast-check';
import highsLoader from 'highs';
import { expect, test } from 'vitest';
import { branchAndBound, type MixedIntegerProgram } from './branch-and-bound.ts';

// The package is CommonJS: what Node gives as default is the loader itself, which its types do not say.
const highs = await (highsLoader as unknown as typeof highsLoader.default)();

/** Multi-dimensional knapsacks with one continuous column in front. */
const knapsacks = fc.tuple(fc.integer({ min: 2, max: 7 }), fc.integer({ min: 1, max: 4 })).chain(([n, m]) =>
  fc.record({
    gains: fc.array(fc.integer({ min: -2, max: 20 }), { minLength: n + 1, maxLength: n + 1 }),
    weights: fc.array(fc.integer({ min: 0, max: 9 }), { minLength: m * (n + 1), maxLength: m * (n + 1) }),
    room: fc.array(fc.integer({ min: 0, max: 40 }), { minLength: m, maxLength: m }),
    most: fc.array(fc.integer({ min: 0, max: 6 }), { minLength: n, maxLength: n }),
  }),
);
type Knapsack = typeof knapsacks extends fc.Arbitrary<infer T> ? T : never;

const asProgram = ({ gains, weights, room, most }: Knapsack): MixedIntegerProgram => ({
  program: {
    objective: gains,
    matrix: weights,
    relations: room.map(() => '<=' as const),
    rightHandSide: room,
    upper: [3.5, ...most],
  },
  integers: most.map((_, i) => i + 1),
});

function judge({ gains, weights, room, most }: Knapsack): number {
  const n = gains.length;
  const sum = (at: number, all: readonly number[]) => gains.map((_, v) => `+ ${all[at + v]} x${v}`).join(' ');
  const text = `Maximize\n obj: ${gains.map((g, v) => `${g < 0 ? '-' : '+'} ${Math.abs(g)} x${v}`).join(' ')}\nSubject To\n${room
    .map((b, r) => ` r${r}: ${sum(r * n, weights)} <= ${b}`)
    .join('\n')}\nBounds\n x0 <= 3.5\n${most.map((u, i) => ` x${i + 1} <= ${u}`).join('\n')}\nGeneral\n${most
    .map((_, i) => `x${i + 1}`)
    .join(' ')}\nEnd\n`;
  return highs.solve(text).ObjectiveValue;
}

test('finds the optimum that an independent solver proves', () => {
  fc.assert(
    fc.property(knapsacks, (knapsack) => {
      const result = branchAndBound(asProgram(knapsack), { nodeBudget: 100_000 });
      expect(result.status).toBe('optimal');
      // The judge takes values within 1e-6 of a whole number for whole.
      expect(result.best!.objective).toBeCloseTo(judge(knapsack), 3);
      expect(result.upperBound).toBeGreaterThan(result.best!.objective - 1e-9);
    }),
    { numRuns: 120 },
  );
});

test('stopped early, its bound still holds and the gap closes as the budget grows', () => {
  fc.assert(
    fc.property(knapsacks, (knapsack) => {
      const optimum = branchAndBound(asProgram(knapsack), { nodeBudget: 100_000 }).best!.objective;
      for (const nodeBudget of [0, 1, 3, 8]) {
        const result = branchAndBound(asProgram(knapsack), { nodeBudget });
        expect(result.upperBound).toBeGreaterThan(optimum - 1e-6);
        if (result.best !== null) expect(result.best.objective).toBeLessThan(optimum + 1e-6);
        if (result.status === 'optimal') expect(result.best!.objective).toBeCloseTo(optimum, 6);
      }
    }),
  );
});

test('a condition outside the rows is kept, and the best point that satisfies it is found', () => {
  fc.assert(
    fc.property(knapsacks, fc.integer({ min: 1, max: 6 }), (knapsack, most) => {
      const mip = asProgram(knapsack);
      // Equal to a row that bounds the sum of the whole columns.
      const accepts = (values: Int32Array) => values.reduce((sum, value) => sum + value, 0) <= most;
      const n = knapsack.gains.length;
      const asRow = {
        ...knapsack,
        weights: [...knapsack.weights, 0, ...new Array<number>(n - 1).fill(1)],
        room: [...knapsack.room, most],
      };
      const result = branchAndBound({ ...mip, accepts }, { nodeBudget: 100_000 });
      expect(result.best!.objective).toBeCloseTo(judge(asRow), 3);
      expect(accepts(result.best!.values)).toBe(true);
    }),
    { numRuns: 80 },
  );
});

test('a known point is kept unless something is better by more than rounding', () => {
  const mip: MixedIntegerProgram = {
    program: { objective: [1, 1], matrix: [1, 1], relations: ['<='], rightHandSide: [3], upper: [3, 3] },
    integers: [0, 1],
  };
  const incumbent = { values: Int32Array.of(1, 2), objective: 3 };
  expect(branchAndBound(mip, { nodeBudget: 100, incumbent }).best).toEqual(incumbent);
});

test('says when nothing is feasible and when there is no limit', () => {
  const infeasible = branchAndBound(
    {
      program: { objective: [1], matrix: [2], relations: ['='], rightHandSide: [3], upper: [5] },
      integers: [0],
    },
    { nodeBudget: 100 },
  );
  expect(infeasible.status).toBe('infeasible');
  const unbounded = branchAndBound(
    { program: { objective: [1], matrix: [-1], relations: ['<='], rightHandSide: [3] }, integers: [] },
    { nodeBudget: 100 },
  );
  expect(unbounded.status).toBe('unbounded');
});
