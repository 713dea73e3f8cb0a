import fc from 'fast-check';
import { expect, test } from 'vitest';
import { drawFromMixture, fitMixture, type PlaneNormal, random } from './index.ts';

const truth: readonly PlaneNormal[] = [
  { weight: 0.6, meanX: 0, meanY: 5, sigmaX: 0.5, sigmaY: 0.3, correlation: 0.6 },
  { weight: 0.3, meanX: 4, meanY: 1, sigmaX: 0.2, sigmaY: 0.8, correlation: -0.4 },
  { weight: 0.1, meanX: 7, meanY: 7, sigmaX: 0.3, sigmaY: 0.3, correlation: 0 },
];

function draws(components: readonly PlaneNormal[], count: number, seed: string): Float64Array {
  const stream = random(seed);
  const point = new Float64Array(2);
  const points = new Float64Array(2 * count);
  for (let i = 0; i < count; i++) {
    drawFromMixture(stream, components, point);
    points.set(point, 2 * i);
  }
  return points;
}

test('the fit finds the mixture that points were drawn from', () => {
  const fitted = fitMixture(draws(truth, 20_000, 'truth'), 3, random(1));
  expect(fitted).toHaveLength(3);
  fitted.forEach((component, k) => {
    for (const [key, value] of Object.entries(truth[k]!))
      expect(Math.abs(component[key as keyof PlaneNormal] - value), `${k} ${key}`).toBeLessThan(0.05);
  });
});

test('one component is the mean, the standard deviations and the correlation of the points', () => {
  const points = draws(truth.slice(0, 1), 5000, 'one');
  const [fitted] = fitMixture(points, 1, random(1));
  let [x, y, xx, yy, xy] = [0, 0, 0, 0, 0];
  for (let i = 0; i < 5000; i++) {
    x += points[2 * i]! / 5000;
    y += points[2 * i + 1]! / 5000;
  }
  for (let i = 0; i < 5000; i++) {
    xx += (points[2 * i]! - x) ** 2 / 5000;
    yy += (points[2 * i + 1]! - y) ** 2 / 5000;
    xy += ((points[2 * i]! - x) * (points[2 * i + 1]! - y)) / 5000;
  }
  expect(fitted!.meanX).toBeCloseTo(x, 9);
  expect(fitted!.sigmaY).toBeCloseTo(Math.sqrt(yy), 9);
  expect(fitted!.correlation).toBeCloseTo(xy / Math.sqrt(xx * yy), 9);
  expect(fitted!.weight).toBeCloseTo(1, 12);
});

test('any points give weights that sum to 1, positive deviations and no certain line, also points that repeat', () => {
  const rows = fc.array(fc.tuple(fc.integer({ min: -3, max: 3 }), fc.integer({ min: -3, max: 3 })), {
    minLength: 5,
    maxLength: 60,
  });
  fc.assert(
    fc.property(rows, fc.integer({ min: 1, max: 5 }), (points, components) => {
      const fitted = fitMixture(Float64Array.from(points.flat()), components, random(1));
      expect(fitted.reduce((sum, component) => sum + component.weight, 0)).toBeCloseTo(1, 6);
      for (const { sigmaX, sigmaY, correlation, meanX, meanY } of fitted) {
        expect(Math.min(sigmaX, sigmaY)).toBeGreaterThan(0);
        expect(Math.abs(correlation)).toBeLessThan(1);
        expect(Number.isFinite(meanX) && Number.isFinite(meanY)).toBe(true);
      }
    }),
    { numRuns: 60 },
  );
});

test('equal seeds fit equally', () => {
  const points = draws(truth, 2000, 'equal');
  expect(fitMixture(points, 3, random(4))).toEqual(fitMixture(points, 3, random(4)));
});
