import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Curve, DenseGrid, locate } from './interpolation.ts';

test('a place on an axis lies between its neighbours and is clamped at the ends', () => {
  const axis = [1, 4, 16];
  expect(locate(axis, 4)).toEqual({ index: 1, weight: 0 });
  expect(locate(axis, 2)).toEqual({ index: 0, weight: 0.5 });
  expect(locate(axis, 0.1)).toEqual({ index: 0, weight: 0 });
  expect(locate(axis, 99)).toEqual({ index: 1, weight: 1 });
  expect(locate([7], 3)).toEqual({ index: 0, weight: 0 });
});

test('a curve goes through its points, follows power laws between them and proportion beyond', () => {
  const curve = new Curve([
    [100, 10],
    [1, 1],
    [10_000, 100],
    [100, 12],
    [100, 9],
  ]);
  expect(curve.at(100)).toBeCloseTo(10, 12);
  expect(curve.at(1000)).toBeCloseTo(10 ** 1.5, 9);
  expect(curve.at(20_000)).toBeCloseTo(200, 9);
  expect(curve.at(0.5)).toBe(1);
});

test('a dense grid reproduces smooth functions within one percent', () => {
  const f = (a: number, b: number) => 3 + a * b + 0.1 * b;
  const grid = new DenseGrid(f, 512, 4096);
  fc.assert(
    fc.property(fc.double({ min: 1, max: 512, noNaN: true }), fc.double({ min: 1, max: 4096, noNaN: true }), (a, b) => {
      expect(Math.abs(grid.at(a, b) / f(a, b) - 1)).toBeLessThan(0.01);
    }),
  );
  expect(grid.at(0.01, 0.01)).toBe(grid.at(1, 1));
});
