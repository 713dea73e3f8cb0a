import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { exponential, gamma, hashUnit, logNormal, normal, poissonCount, random, weightedIndex } from './index.ts';

const draws = (count: number, draw: () => number): Float64Array => Float64Array.from({ length: count }, draw);
const meanOf = (values: Float64Array): number => values.reduce((sum, value) => sum + value, 0) / values.length;
const varianceOf = (values: Float64Array): number => {
  const mean = meanOf(values);
  return values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length;
};

describe('random streams', () => {
  test('equal seeds give equal draws, and a fork depends on seed and name alone', () => {
    fc.assert(
      fc.property(fc.oneof(fc.integer(), fc.string()), fc.string(), fc.nat(20), (seed, name, drawnBefore) => {
        const one = random(seed);
        const other = random(seed);
        for (let i = 0; i < drawnBefore; i++) one.next();
        one.fork('something else');
        const a = one.fork(name);
        const b = other.fork(name);
        for (let i = 0; i < 5; i++) expect(a.next()).toBe(b.next());
      }),
    );
  });

  test('different seeds, names and kinds of seed give different streams', () => {
    const first = new Set<number>();
    for (let seed = 0; seed < 1000; seed++) first.add(random(seed).next());
    for (let seed = 0; seed < 1000; seed++) first.add(random(String(seed)).next());
    for (let name = 0; name < 1000; name++) first.add(random(0).fork(String(name)).next());
    expect(first.size).toBe(3000);
  });

  test('draws are uniform: each of 64 cells and each of 16 × 16 pairs of successive draws gets its share', () => {
    const stream = random('uniform');
    const cells = new Float64Array(64);
    const pairs = new Float64Array(256);
    const count = 1 << 18;
    for (let i = 0; i < count; i++) {
      const a = stream.next();
      const b = stream.next();
      cells[Math.floor(a * 64)]!++;
      pairs[Math.floor(a * 16) * 16 + Math.floor(b * 16)]!++;
    }
    const chiSquare = (counts: Float64Array): number =>
      counts.reduce((sum, n) => sum + (n - count / counts.length) ** 2 / (count / counts.length), 0);
    // 99.99 % points of chi square with 63 and 255 degrees of freedom are 112 and 349.
    expect(chiSquare(cells)).toBeLessThan(112);
    expect(chiSquare(pairs)).toBeLessThan(349);
  });
});

describe('hashUnit', () => {
  test('is a pure function of its parts, which do not run together', () => {
    expect(hashUnit('a', 1, 2)).toBe(hashUnit('a', 1, 2));
    expect(hashUnit('ab', 'c')).not.toBe(hashUnit('a', 'bc'));
    expect(hashUnit(1)).not.toBe(hashUnit('1'));
    expect(hashUnit(0)).toBe(hashUnit(-0));
  });

  test('neighbouring keys are uncorrelated and uniform', () => {
    const values = Float64Array.from({ length: 100_000 }, (_, i) => hashUnit(7, 'r1', i));
    expect(meanOf(values)).toBeCloseTo(0.5, 2);
    expect(varianceOf(values)).toBeCloseTo(1 / 12, 2);
    let product = 0;
    for (let i = 1; i < values.length; i++) product += (values[i]! - 0.5) * (values[i - 1]! - 0.5);
    expect(Math.abs(product / values.length) * 12).toBeLessThan(0.02);
    expect(Math.min(...values.subarray(0, 1000))).toBeGreaterThanOrEqual(0);
    expect(Math.max(...values.subarray(0, 1000))).toBeLessThan(1);
  });
});

describe('distributions', () => {
  const count = 100_000;

  test('the normal has mean 0 and variance 1, the log-normal the median exp(mu)', () => {
    const stream = random('normal');
    const values = draws(count, () => normal(stream));
    expect(Math.abs(meanOf(values))).toBeLessThan(0.015);
    expect(Math.abs(varianceOf(values) - 1)).toBeLessThan(0.02);
    const lengths = draws(count, () => logNormal(stream, 5, 0.7)).sort();
    expect(Math.abs(Math.log(lengths[count / 2]!) - 5)).toBeLessThan(0.015);
  });

  test.each([0.3, 1, 4.5])('the gamma of shape %d has mean shape × scale and variance shape × scale²', (shape) => {
    const stream = random(`gamma ${shape}`);
    const values = draws(count, () => gamma(stream, shape, 2));
    expect(meanOf(values) / (shape * 2)).toBeCloseTo(1, 1);
    expect(varianceOf(values) / (shape * 4)).toBeCloseTo(1, 1);
  });

  test.each([0.2, 3, 9.9, 10, 42, 5000])('Poisson counts of mean %d have that mean and that variance', (mean) => {
    const stream = random(`poisson ${mean}`);
    const values = draws(count, () => poissonCount(stream, mean));
    expect(Math.abs(meanOf(values) - mean)).toBeLessThan(5 * Math.sqrt(mean / count));
    expect(Math.abs(varianceOf(values) / mean - 1)).toBeLessThan(0.03);
    expect(values.every((value) => Number.isInteger(value) && value >= 0)).toBe(true);
  });

  test('a Poisson mean of 0 gives 0, exponentials have their mean, weights of 0 are never drawn', () => {
    const stream = random(3);
    expect(poissonCount(stream, 0)).toBe(0);
    expect(meanOf(draws(count, () => exponential(stream, 4)))).toBeCloseTo(4, 1);
    const hits = [0, 0, 0, 0];
    for (let i = 0; i < 10_000; i++) hits[weightedIndex(stream, [1, 0, 3, 0])]!++;
    expect(hits[1]! + hits[3]!).toBe(0);
    expect(hits[2]! / 10_000).toBeCloseTo(0.75, 1);
  });
});
