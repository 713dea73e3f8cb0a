// One suite for all predictors, as they come out of makePredictor; below it what is special to each.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ConfigError } from '../domain/index.ts';
import { poissonCount, poissonQuantile, random } from '../math/index.ts';
import { evaluatePredictor, forecastRates, MOST_HORIZONS, makePredictor, PREDICTORS, type Predictor } from './index.ts';

const gap = Number.NaN;
const feed = (predictor: Predictor, rows: readonly (readonly number[])[], fromWindow = 0): Predictor => {
  rows.forEach((row, i) => {
    predictor.observe(row, (fromWindow + i + 1) * predictor.windowSeconds);
  });
  return predictor;
};
const means = (predictor: Predictor, horizons = MOST_HORIZONS): number[][] =>
  predictor.forecast(horizons).mean.map((row) => [...row]);
const someRows = fc.array(fc.tuple(fc.nat(5000), fc.nat(20)), { minLength: 1, maxLength: 80 });

describe.each(PREDICTORS)('predictor contract: %s', (name) => {
  const make = (typeCount = 2, windowSeconds = 60): Predictor =>
    makePredictor(name, { typeCount, windowSeconds, seasonSeconds: 7 * windowSeconds });

  test('has the name it was asked for, and forecasts 1 to 15 windows of J counts', () => {
    const predictor = feed(make(), [[3, 4]]);
    expect(predictor.name).toBe(name);
    for (const horizons of [1, 15]) {
      const forecast = predictor.forecast(horizons);
      expect(forecast.mean.map((row) => row.length)).toEqual(new Array(horizons).fill(2));
      expect(forecast.quantile(0.9).map((row) => row.length)).toEqual(new Array(horizons).fill(2));
    }
    for (const horizons of [0, 16, 1.5]) expect(() => predictor.forecast(horizons)).toThrow(/horizons are 1..15/);
  });

  test('expects nothing before it has seen anything', () => {
    const forecast = make().forecast(2);
    for (const rows of [forecast.mean, forecast.quantile(0.9)])
      expect(rows.flatMap((row) => [...row])).toEqual([0, 0, 0, 0]);
  });

  test('learns a constant, for every horizon', () => {
    const predictor = feed(
      make(),
      Array.from({ length: 40 }, () => [120, 7]),
    );
    expect(means(predictor)).toEqual(new Array(MOST_HORIZONS).fill([120, 7]));
  });

  test('means lie within what was seen, quantiles grow with their share and are never negative', () => {
    fc.assert(
      fc.property(someRows, (rows) => {
        const forecast = feed(make(), rows).forecast(MOST_HORIZONS);
        const quantiles = [0.1, 0.5, 0.9, 0.99].map((share) => forecast.quantile(share));
        for (let h = 0; h < MOST_HORIZONS; h++) {
          for (const j of [0, 1]) {
            const seen = rows.map((row) => row[j]!);
            expect(forecast.mean[h]![j]!).toBeGreaterThanOrEqual(Math.min(...seen) - 1e-9);
            expect(forecast.mean[h]![j]!).toBeLessThanOrEqual(Math.max(...seen) + 1e-9);
            const row = quantiles.map((byHorizon) => byHorizon[h]![j]!);
            expect(row).toEqual([...row].sort((a, b) => a - b));
            expect(row[0]).toBeGreaterThanOrEqual(0);
          }
        }
      }),
      { numRuns: 60 },
    );
  });

  test('high quantiles are never below those of Poisson noise around the mean, however lucky it was so far', () => {
    const forecast = feed(
      make(1),
      Array.from({ length: 60 }, () => [50]),
    ).forecast(1);
    expect(forecast.quantile(0.9)[0]![0]).toBe(poissonQuantile(50, 0.9));
    expect(forecast.quantile(0.1)[0]![0]).toBe(poissonQuantile(50, 0.1));
  });

  test('the 0.9 quantile covers nine tenths of stationary Poisson counts, at near and far horizons', () => {
    const stream = random(`coverage ${name}`);
    const predictor = make(1);
    const covered = new Map([1, 5, 15].map((horizon) => [horizon, { hits: 0, of: 0 }]));
    const promised: { window: number; horizon: number; high: number }[] = [];
    for (let window = 0; window < 4000; window++) {
      const value = poissonCount(stream, 80);
      for (const promise of promised.filter((p) => p.window === window)) {
        const score = covered.get(promise.horizon)!;
        score.of++;
        if (value <= promise.high) score.hits++;
      }
      if (window % 5 === 0) promised.splice(0, promised.length, ...promised.filter((p) => p.window > window));
      predictor.observe([value], (window + 1) * 60);
      if (window < 300 || window % 5 !== 0) continue;
      const high = predictor.forecast(15).quantile(0.9);
      for (const horizon of covered.keys())
        promised.push({ window: window + horizon, horizon, high: high[horizon - 1]![0]! });
    }
    for (const { hits, of } of covered.values()) {
      expect(of).toBeGreaterThan(600);
      expect(hits / of).toBeGreaterThan(0.87);
      expect(hits / of).toBeLessThan(0.95);
    }
  });

  test('unknown entries and left-out windows are passed over: a hole is not learnt as zeros', () => {
    const steady = Array.from({ length: 30 }, () => [100, 10]);
    const holed = steady.map(([a, b], i) => (i >= 20 && i < 25 ? [gap, b!] : [a!, b!]));
    expect(means(feed(make(), holed))).toEqual(means(feed(make(), steady)));
    const skipped = feed(feed(make(), steady.slice(0, 20)), steady.slice(25), 25);
    expect(means(skipped)).toEqual(means(feed(make(), steady)));
    // A hole longer than every ring: the level survives, nothing breaks.
    const late = feed(feed(make(), steady), [[gap, gap]], 5000);
    expect(means(late)).toEqual(new Array(MOST_HORIZONS).fill([100, 10]));
    expect(late.forecast(1).quantile(0.9)[0]!.every(Number.isFinite)).toBe(true);
  });

  test('types do not disturb each other', () => {
    fc.assert(
      fc.property(someRows, someRows, (rows, others) => {
        const mixed = rows.map((row, i) => [row[0], others[i % others.length]![1]]);
        const first = (predictor: Predictor) => means(predictor).map((row) => row[0]);
        expect(first(feed(make(), mixed))).toEqual(first(feed(make(), rows)));
      }),
      { numRuns: 30 },
    );
  });

  test('equal histories give equal forecasts, and asking changes nothing', () => {
    fc.assert(
      fc.property(someRows, (rows) => {
        const asked = make();
        rows.forEach((row, i) => {
          asked.observe(row, (i + 1) * 60);
          asked.forecast(3).quantile(0.9);
        });
        const silent = feed(make(), rows);
        expect(asked.forecast(15).quantile(0.9)).toEqual(silent.forecast(15).quantile(0.9));
      }),
      { numRuns: 20 },
    );
  });

  test('what comes later cannot change a forecast that was read, and its quantiles cannot be read late', () => {
    const predictor = feed(make(1), [[5], [6], [7]]);
    const forecast = predictor.forecast(3);
    const before = forecast.mean.map((row) => [...row]);
    predictor.observe([1000], 4 * 60);
    expect(forecast.mean.map((row) => [...row])).toEqual(before);
    expect(() => forecast.quantile(0.9)).toThrow(/before the next observation/);
  });

  test('refuses counts that are not counts, windows out of order, and the wrong number of types', () => {
    const predictor = feed(make(1), [[5]]);
    expect(() => predictor.observe([-1], 120)).toThrow(/a count is 0 or more/);
    expect(() => predictor.observe([Number.POSITIVE_INFINITY], 120)).toThrow(/a count is 0 or more/);
    expect(() => predictor.observe([1], 60)).toThrow(/windows come in order/);
    expect(() => predictor.observe([1, 2], 120)).toThrow(/1 types have 1 counts/);
  });

  test('rates are counts over seconds, whatever the window', () => {
    const predictor = feed(
      make(2, 10),
      Array.from({ length: 30 }, () => [40, 5]),
    );
    const forecast = forecastRates(predictor, 3, 300);
    expect(forecast.predictor).toBe(name);
    expect(forecast.seenToSeconds).toBe(300);
    expect(forecast.arrivalRate).toEqual(new Array(3).fill([4, 0.5]));
    expect(forecast.arrivalRateQuantile90[0]![0]).toBeCloseTo(poissonQuantile(40, 0.9) / 10, 12);
  });
});

describe('what is special to each', () => {
  const one = (name: (typeof PREDICTORS)[number], values: readonly number[], options = {}) =>
    feed(
      makePredictor(name, { typeCount: 1, windowSeconds: 60, ...options }),
      values.map((value) => [value]),
    );

  test('last-value repeats the last known count', () => {
    expect(means(one('last-value', [1, 2, 30, gap]), 2)).toEqual([[30], [30]]);
  });

  test('moving-average is the mean of its last known windows', () => {
    expect(means(one('moving-average', [9, 1, gap, 2, 3], { movingAverageWindows: 3 }), 1)).toEqual([[2]]);
    expect(means(one('moving-average', [4, 6]), 1)).toEqual([[5]]);
  });

  test('seasonal-naive repeats the season, also across gaps, and falls back to the last value before there is one', () => {
    const week = [10, 20, 30, 40];
    const options = { seasonSeconds: 240 };
    expect(means(one('seasonal-naive', [...week, 11, 21], options), 4)).toEqual([[30], [40], [11], [21]]);
    expect(means(one('seasonal-naive', [10, 20], options), 3)).toEqual([[20], [20], [10]]);
    const holed = one('seasonal-naive', [...week, gap, gap], options);
    expect(means(holed, 4)).toEqual([[30], [40], [10], [20]]);
    holed.observe([99], 9 * 60); // two windows left out
    expect(means(holed, 4)).toEqual([[20], [30], [40], [99]]);
  });

  test('ewma fits its alpha to each type: slow for noise around a level, fast for a random walk', () => {
    const stream = random('alpha');
    const noise: number[] = [];
    const walk: number[] = [];
    let level = 5000;
    for (let i = 0; i < 1500; i++) {
      level = Math.max(1000, level + (stream.next() - 0.5) * 600);
      walk.push(level);
      noise.push(poissonCount(stream, 400));
    }
    const score = (predictor: string, values: number[]) =>
      evaluatePredictor({ predictor, types: ['x'], counts: values.map((v) => [v]), windowSeconds: 60 }).rrmse;
    // On noise: nearly the level itself, far better than the last value. On a walk: as good as the last value.
    expect(score('ewma', noise)).toBeLessThan(1.05 / Math.sqrt(400));
    expect(score('last-value', noise)).toBeGreaterThan(1.3 / Math.sqrt(400));
    expect(score('ewma', walk)).toBeLessThan(1.05 * score('last-value', walk));
    expect(score('moving-average', walk)).toBeGreaterThan(1.5 * score('ewma', walk));
  });

  test('ewma fits another alpha for a far horizon when near and far differ', () => {
    // A wave of 20 windows: the next window is best told by the last one, half a wave ahead by the long mean.
    const values = Array.from({ length: 2995 }, (_, i) => 1000 + 400 * Math.sin((2 * Math.PI * i) / 20));
    const { mean } = one('ewma', values).forecast(10);
    expect(values.at(-1)).toBeCloseTo(620, 0);
    expect(Math.abs(mean[0]![0]! - 620)).toBeLessThan(20);
    expect(Math.abs(mean[9]![0]! - 1000)).toBeLessThan(20);
  });

  test('a name that is not there, or not there yet, is a clear error with the names that are', () => {
    for (const name of ['lstm', 'EWMA', '', 'toString']) {
      const attempt = () => makePredictor(name, { typeCount: 1, windowSeconds: 60 });
      expect(attempt).toThrow(ConfigError);
      expect(attempt).toThrow(`There is no predictor "${name}".`);
      try {
        attempt();
      } catch (error) {
        expect((error as ConfigError).hint).toContain(PREDICTORS.join(', '));
      }
    }
  });
});
