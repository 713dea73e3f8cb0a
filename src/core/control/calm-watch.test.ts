import { expect, test } from 'vitest';
import { CalmWatch } from './calm-watch.ts';

const looks = (watch: CalmWatch, loads: readonly number[]): number[] => loads.map((load) => watch.look(load));

test('a small gain may be found in ten looks at unchanged traffic, and no later', () => {
  const factors = looks(new CalmWatch(), new Array<number>(15).fill(0.5));
  expect(factors.slice(0, 10)).toEqual(new Array(10).fill(1));
  for (const factor of factors.slice(10)) expect(factor).toBeGreaterThan(1);
});

test('slow drift adds up to a change, noise around a level does not', () => {
  const drifting = looks(
    new CalmWatch(),
    Array.from({ length: 60 }, (_, i) => 0.3 * 1.03 ** i),
  );
  expect(drifting.every((factor) => factor === 1)).toBe(true);
  const noisy = looks(
    new CalmWatch(),
    Array.from({ length: 30 }, (_, i) => 0.5 + (i % 2 === 0 ? 0.05 : -0.05)),
  );
  expect(noisy.slice(10).every((factor) => factor > 1)).toBe(true);
});

test('lost GPUs and traffic that comes up from nothing are changes', () => {
  const watch = new CalmWatch();
  looks(watch, new Array<number>(12).fill(0.5));
  watch.changed();
  expect(watch.look(0.5)).toBe(1);
  const idle = new CalmWatch();
  looks(idle, new Array<number>(12).fill(0));
  expect(idle.look(0.2)).toBe(1);
});
