import { expect, test } from 'vitest';
import type { Forecast, WorkloadModel } from '../domain/index.ts';
import { poissonCount, random } from '../math/index.ts';
import { burstiness, sampleScenarios, sampleTraffic, type TrafficModel } from './twin-traffic.ts';

const workload: WorkloadModel = {
  version: 1,
  fittedToSeconds: 0,
  types: [
    {
      id: 'a',
      model: 'm',
      inputTokens: 100,
      outputTokens: 20,
      logInput: Math.log(100),
      logOutput: Math.log(20),
      samples: [
        [100, 20],
        [120, 40],
      ],
    },
    {
      id: 'b',
      model: 'm',
      inputTokens: 4000,
      outputTokens: 10,
      logInput: Math.log(4000),
      logOutput: Math.log(10),
      samples: [[4000, 10]],
    },
  ],
  posteriorCounts: {},
};
const steady: Forecast = {
  predictor: 'test',
  seenToSeconds: 0,
  arrivalRate: Array.from({ length: 10 }, () => [4, 1]),
  arrivalRateQuantile90: Array.from({ length: 10 }, () => [4, 1]),
};
const model: TrafficModel = {
  workload,
  forecast: steady,
  windowSeconds: 60,
  burstCv2: [0, 0],
  running: [],
  history: Array.from({ length: 10_000 }, () => [240, 60]),
};

test('equal seeds give equal traffic, sorted, with lengths of real members', () => {
  const traffic = sampleTraffic(model, 10, 1e6, random(7));
  expect(sampleTraffic(model, 10, 1e6, random(7))).toEqual(traffic);
  for (let i = 1; i < traffic.length; i++)
    expect(traffic[i]!.arrivalSeconds).toBeGreaterThanOrEqual(traffic[i - 1]!.arrivalSeconds);
  const pairs = new Set(traffic.map((request) => `${request.inputTokens}/${request.outputTokens}`));
  expect([...pairs].sort()).toEqual(['100/20', '120/40', '4000/10']);
  // 600 s × 5 requests/s: within five standard deviations.
  expect(Math.abs(traffic.length - 3000)).toBeLessThan(5 * Math.sqrt(3000));
});

test('an uncertain forecast gives traffics of different volume, around the same mean', () => {
  const uncertain = {
    ...model,
    forecast: { ...steady, arrivalRateQuantile90: steady.arrivalRate.map(([a, b]) => [2 * a!, 2 * b!]) },
  };
  const volumes = Array.from({ length: 60 }, (_, i) => sampleTraffic(uncertain, 3, 1e6, random(i)).length);
  const mean = volumes.reduce((sum, value) => sum + value, 0) / volumes.length;
  const sd = Math.sqrt(volumes.reduce((sum, value) => sum + (value - mean) ** 2, 0) / volumes.length);
  expect(sd).toBeGreaterThan(4 * Math.sqrt(900));
  expect(mean).toBeGreaterThan(600);
  expect(mean).toBeLessThan(1300);
});

test('what runs now comes first, never longer than its limit', () => {
  const view = { arrivalSeconds: -5, model: 'm', inputTokens: 100, maxTokens: 64, generatedTokens: 30 };
  const traffic = sampleTraffic({ ...model, running: [view, { ...view, generatedTokens: 50 }] }, 1, 1e6, random(1));
  expect(traffic.slice(0, 2).map((request) => request.arrivalSeconds)).toEqual([0, 0]);
  expect(traffic[0]).toMatchObject({ inputTokens: 130, outputTokens: 10 });
  expect(traffic[1]!.inputTokens).toBe(150);
  expect(traffic[1]!.outputTokens).toBeLessThanOrEqual(14);
});

test('burstiness is about 0 for Poisson counts and finds the variance that was put in', () => {
  const dice = random(3);
  const poisson = Array.from({ length: 6000 }, () => [poissonCount(dice, 20)]);
  expect(burstiness(poisson, 1, 6)[0]).toBeLessThan(0.02);
  const uneven = Array.from({ length: 6000 }, () => [poissonCount(dice, dice.next() < 0.5 ? 10 : 30)]);
  // The rate is 10 or 30: mean 20, squared coefficient of variation 0.25.
  expect(burstiness(uneven, 1, 6)[0]).toBeGreaterThan(0.2);
  expect(burstiness(uneven, 1, 6)[0]).toBeLessThan(0.3);
});

test('odd scenarios play windows of the past, even ones the forecast with what is here now', () => {
  const history = Array.from({ length: 30 }, () => [0, 600]);
  const view = { arrivalSeconds: -5, model: 'm', inputTokens: 100, maxTokens: 64, generatedTokens: 30 };
  const [forecast, past] = sampleScenarios({ ...model, history, running: [view] }, 2, 3, 1e6, random(5));
  expect(forecast![0]).toMatchObject({ arrivalSeconds: 0, inputTokens: 130 });
  expect(past!.every((request) => request.inputTokens === 4000)).toBe(true);
  expect(Math.abs(past!.length - 1800)).toBeLessThan(5 * Math.sqrt(1800));
});
