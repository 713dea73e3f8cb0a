import fc from 'fast-check';
import highsLoader from 'highs';
import { expect, test } from 'vitest';
import { type AssignmentProblem, assign } from './assign.ts';

// The package is CommonJS: what Node gives as default is the loader itself, which its types do not say.
const highs = await (highsLoader as unknown as typeof highsLoader.default)();

const problems = fc.tuple(fc.integer({ min: 1, max: 5 }), fc.integer({ min: 1, max: 5 })).chain(([types, classes]) =>
  fc.record({
    arrivalRate: fc.array(fc.double({ min: 0.05, max: 8, noNaN: true }), { minLength: types, maxLength: types }),
    serviceRate: fc.array(
      fc.oneof(
        { weight: 1, arbitrary: fc.constant(0) },
        { weight: 4, arbitrary: fc.double({ min: 0.1, max: 4, noNaN: true }) },
      ),
      {
        minLength: types * classes,
        maxLength: types * classes,
      },
    ),
    counts: fc.array(fc.integer({ min: 0, max: 4 }), { minLength: classes, maxLength: classes }),
  }),
);

const rate = (p: AssignmentProblem, type: number, k: number) =>
  p.counts[k]! > 0 ? p.serviceRate[k * p.arrivalRate.length + type]! : 0;
const servable = (p: AssignmentProblem) =>
  Array.from(p.arrivalRate, (_, type) => Array.from(p.counts).some((_, k) => rate(p, type, k) > 0));

/** Largest common share t ≤ 1 of the types that some class serves, by the independent solver. */
function judgeServedShare(p: AssignmentProblem): number {
  const cells: string[] = [];
  const rows: string[] = [];
  servable(p).forEach((can, type) => {
    if (!can) return;
    const own = Array.from(p.counts).flatMap((_, k) => (rate(p, type, k) > 0 ? [`x${type}_${k}`] : []));
    cells.push(...own);
    rows.push(`${own.join(' + ')} - t >= 0`);
  });
  if (cells.length === 0) return 1;
  Array.from(p.counts).forEach((count, k) => {
    const load = Array.from(p.arrivalRate).flatMap((arrivals, type) =>
      rate(p, type, k) > 0 ? [`${arrivals / rate(p, type, k)} x${type}_${k}`] : [],
    );
    if (load.length > 0) rows.push(`${load.join(' + ')} <= ${count}`);
  });
  const solution = highs.solve(
    `Maximize\n obj: t\nSubject To\n${rows.map((row, i) => ` r${i}: ${row}`).join('\n')}\nBounds\n t <= 1\nEnd\n`,
  );
  return solution.ObjectiveValue;
}

function judgeUtilisation(p: AssignmentProblem, served: readonly number[]): number {
  const rows: string[] = [];
  servable(p).forEach((can, type) => {
    if (!can) return;
    const own = Array.from(p.counts).flatMap((_, k) => (rate(p, type, k) > 0 ? [`x${type}_${k}`] : []));
    rows.push(`${own.join(' + ')} = ${served[type]}`);
  });
  Array.from(p.counts).forEach((count, k) => {
    const load = Array.from(p.arrivalRate).flatMap((arrivals, type) =>
      rate(p, type, k) > 0 ? [`${arrivals / rate(p, type, k) / count} x${type}_${k}`] : [],
    );
    if (load.length > 0) rows.push(`${load.join(' + ')} - u <= 0`);
  });
  if (rows.length === 0) return 0;
  return highs.solve(`Minimize\n obj: u\nSubject To\n${rows.map((row, i) => ` r${i}: ${row}`).join('\n')}\nEnd\n`)
    .ObjectiveValue;
}

test('smallest served share and highest utilisation are the optima that an independent solver finds', () => {
  fc.assert(
    fc.property(problems, (p) => {
      const result = assign(p);
      const can = servable(p);
      const smallest = Math.min(1, ...result.servedShareByType.filter((_, type) => can[type]));
      expect(smallest).toBeCloseTo(judgeServedShare(p), 6);
      expect(result.servedShare).toBe(can.every(Boolean) ? smallest : 0);
      expect(result.utilisation).toBeCloseTo(judgeUtilisation(p, result.servedShareByType), 6);
    }),
    { numRuns: 100 },
  );
});

test('shares are shares, rows sum to what is served, and no class is loaded beyond its replicas', () => {
  fc.assert(
    fc.property(problems, (p) => {
      const { share, servedShareByType, utilisationByClass } = assign(p);
      share.forEach((row, type) => {
        expect(row.reduce((sum, x) => sum + x, 0)).toBeCloseTo(servedShareByType[type]!, 9);
        row.forEach((x, k) => {
          expect(x).toBeGreaterThanOrEqual(0);
          if (rate(p, type, k) === 0) expect(x).toBe(0);
        });
      });
      Array.from(p.counts).forEach((count, k) => {
        const load = share.reduce(
          (sum, row, type) => (row[k]! > 0 ? sum + (p.arrivalRate[type]! * row[k]!) / rate(p, type, k) : sum),
          0,
        );
        expect(load).toBeLessThan(count + 1e-6);
        if (count > 0) expect(utilisationByClass[k]).toBeCloseTo(load / count, 9);
      });
    }),
  );
});

test('a type that is better served takes nothing from the worst served one: no other split raises the minimum', () => {
  // One class; type 0 arrives far too often. Equal shares for both, not 1 for the cheap type.
  const result = assign({ arrivalRate: [10, 1], serviceRate: [1, 4], counts: [2] });
  expect(result.servedShareByType[0]).toBeCloseTo(2 / 10.25, 9);
  expect(result.servedShareByType[1]).toBeCloseTo(2 / 10.25, 9);
  expect(result.utilisation).toBeCloseTo(1, 9);
});

test('what the worst served type cannot use goes to the next', () => {
  // Class 0 serves both types, class 1 only type 1: type 0 is stuck at what class 0 gives, type 1 is served in full.
  const result = assign({ arrivalRate: [4, 1], serviceRate: [1, 1, 0, 1], counts: [1, 1] });
  expect(result.servedShareByType).toEqual([expect.closeTo(0.25, 9), 1]);
});

test('a type of twice the priority is owed twice the share', () => {
  const result = assign({ arrivalRate: [4, 4], serviceRate: [1, 1], counts: [3], priorities: [2, 1] });
  expect(result.servedShareByType[0]).toBeCloseTo(0.5, 9);
  expect(result.servedShareByType[1]).toBeCloseTo(0.25, 9);
});

test('classes that do not limit the whole are balanced too', () => {
  // Type 0 can only use class 0 and saturates it; type 1 may use classes 1 and 2, which are equal.
  const result = assign({ arrivalRate: [0.9, 0.6], serviceRate: [1, 0, 0, 1, 0, 1], counts: [1, 1, 1] });
  expect(result.utilisationByClass[0]).toBeCloseTo(0.9, 6);
  expect(result.utilisationByClass[1]).toBeCloseTo(0.3, 6);
  expect(result.utilisationByClass[2]).toBeCloseTo(0.3, 6);
});

test('equally good assignments stay as they are, and a little slack buys more rest', () => {
  fc.assert(
    fc.property(problems, (p) => {
      const first = assign(p);
      const again = assign({ ...p, previousShare: first.share });
      again.share.forEach((row, type) => {
        row.forEach((x, k) => {
          expect(x).toBeCloseTo(first.share[type]![k]!, 5);
        });
      });
      const drifted = { ...p, arrivalRate: Array.from(p.arrivalRate, (a, type) => a * (1 + 0.01 * (type % 2))) };
      const strict = assign({ ...drifted, previousShare: first.share });
      const loose = assign({ ...drifted, previousShare: first.share, utilisationSlackShare: 0.05 });
      expect(loose.servedShare).toBeCloseTo(strict.servedShare, 6);
      expect(change(loose.share, first.share)).toBeLessThan(change(strict.share, first.share) + 1e-5);
      expect(loose.utilisation).toBeLessThan(strict.utilisation * 1.05 + 1e-6);
    }),
  );
});

test('a type without arrivals goes where there is most room for one request more', () => {
  // Class 0 is nearly full with type 0; class 1 is idle; class 2 cannot serve type 1.
  const result = assign({ arrivalRate: [0.95, 0], serviceRate: [1, 1, 0, 1, 1, 0], counts: [1, 1, 0] });
  expect(result.share[1]).toEqual([0, 1, 0]);
  expect(result.servedShare).toBe(1);
});

test('a type that nobody serves has an empty row and does not hold back the others', () => {
  const result = assign({ arrivalRate: [1, 1], serviceRate: [2, 0], counts: [1] });
  expect(result.share).toEqual([[1], [0]]);
  expect(result.servedShare).toBe(0);
  expect(result.servedShareByType).toEqual([1, 0]);
});

test('names the methods there are when asked for another', () => {
  expect(() => assign({ arrivalRate: [1], serviceRate: [1], counts: [1], method: 'preflow-push' })).toThrow(
    'not available in this version',
  );
});

function change(a: readonly (readonly number[])[], b: readonly (readonly number[])[]): number {
  return a.reduce((sum, row, type) => row.reduce((all, x, k) => all + Math.abs(x - b[type]![k]!), sum), 0);
}
