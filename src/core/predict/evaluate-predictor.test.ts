import { describe, expect, test } from 'vitest';
import { poissonCount, random } from '../math/index.ts';
import { evaluatePredictor, PREDICTORS } from './index.ts';

const gap = Number.NaN;

describe('evaluatePredictor', () => {
  test('scores the last tenth, one window ahead, by the formulas of its documentation', () => {
    // Last value on a step at the third of the scored windows: errors 0, 0, 10, 0 on counts 20, 20, 30, 30.
    const counts = Array.from({ length: 40 }, (_, i) => [i < 38 ? 20 : 30]);
    const score = evaluatePredictor({ predictor: 'last-value', types: ['x'], counts, windowSeconds: 60 });
    const rrmse = Math.sqrt(100 / 4) / 25;
    expect(score.rrmse).toBeCloseTo(rrmse, 12);
    expect(score.rrmseOverFloor).toBeCloseTo(rrmse * 5, 12);
    expect(score.byType.x).toMatchObject({ mean: 25, windows: 4, rrmse: score.rrmse, coverage: score.coverage });
    // Quantiles before the step: median 20 and the Poisson floor 26 above 20; the step is not covered.
    expect(score.coverage).toBe(0.75);
    const atTwenty = (0 + 0.1 * 6) / 2;
    const atStep = (0.5 * 10 + 0.9 * 4) / 2;
    const afterStep = (0 + 0.1 * 7) / 2; // 0.9 quantile of Poisson(30) is 37
    expect(score.pinball).toBeCloseTo((2 * atTwenty + atStep + afterStep) / 4, 9);
    expect(score.secondsPerPrediction).toBeNaN();
  });

  test('reaches the Poisson floor on Poisson counts of known level, and cannot beat it', () => {
    const stream = random('floor');
    const counts = Array.from({ length: 6000 }, () => [poissonCount(stream, 150)]);
    const score = evaluatePredictor({
      predictor: 'moving-average',
      types: ['x'],
      counts,
      windowSeconds: 60,
      options: { movingAverageWindows: 400 },
    });
    expect(score.rrmseOverFloor).toBeGreaterThan(0.9);
    expect(score.rrmseOverFloor).toBeLessThan(1.1);
  });

  test('each type is split over its own known windows: one that ends early is scored all the same', () => {
    const counts = Array.from({ length: 200 }, (_, i) => [i < 100 ? 10 : gap, i >= 100 ? 50 : gap]);
    const score = evaluatePredictor({ predictor: 'ewma', types: ['a', 'b'], counts, windowSeconds: 60 });
    expect(score.byType.a).toMatchObject({ mean: 10, windows: 10, rrmse: 0 });
    expect(score.byType.b).toMatchObject({ mean: 50, windows: 10, rrmse: 0 });
  });

  test('a forecast cannot see its window: shuffling the future changes no score of the past', () => {
    const stream = random('future');
    const counts = Array.from({ length: 300 }, () => [poissonCount(stream, 30)]);
    const changed = counts.map((row, i) => (i > 150 ? [row[0]! * 3 + 7] : row));
    for (const predictor of PREDICTORS) {
      const score = (rows: number[][]) =>
        evaluatePredictor({ predictor, types: ['x'], counts: rows.slice(0, 151), windowSeconds: 60, trainShare: 0.5 });
      expect(score(changed)).toEqual(score(counts));
    }
  });

  test('further horizons are scored against the windows that they were made for', () => {
    const counts = Array.from({ length: 60 }, (_, i) => [i]);
    const score = (horizon: number) =>
      evaluatePredictor({ predictor: 'last-value', types: ['x'], counts, windowSeconds: 60, horizon }).byType.x!;
    for (const horizon of [1, 4, 15]) expect(score(horizon).rrmse * score(horizon).mean).toBeCloseTo(horizon, 9);
  });

  test('seconds are what the given clock says, per window', () => {
    let now = 0;
    const clockSeconds = () => (now += 2);
    const counts = Array.from({ length: 20 }, () => [1]);
    expect(
      evaluatePredictor({ predictor: 'ewma', types: ['x'], counts, windowSeconds: 60, clockSeconds })
        .secondsPerPrediction,
    ).toBeCloseTo(2 / 20, 12);
  });
});
