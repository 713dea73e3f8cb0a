import { expect, test } from 'vitest';
import type { RequestView } from '../domain/index.ts';
import { LeastLoadedRouter, RoundRobinRouter } from './baselines.ts';
import type { RouterReplica } from './router.ts';

const view = (inputTokens = 10, model = 'm'): RequestView => ({ arrivalSeconds: 0, model, inputTokens, maxTokens: 10 });
const replicas: RouterReplica[] = ['m', 'm', 'n', 'm'].map((model, i) => ({
  id: `r${i}`,
  classKey: 'c',
  model,
  gpuCount: 4,
  maxModelLen: i === 1 ? 100 : 1000,
  kvTokens: 1000,
}));
const loads = (...requests: number[]) => ({ requests, tokens: requests });

test('round robin takes the replicas of a model in turn and passes over those that do not fit', () => {
  const router = new RoundRobinRouter(replicas);
  const chosen = (input: number) => router.choose(view(input), [], loads(0, 0, 0, 0));
  expect([chosen(10), chosen(10), chosen(10), chosen(10)]).toEqual([0, 1, 3, 0]);
  expect([chosen(500), chosen(500), chosen(500)]).toEqual([3, 0, 3]);
  expect(router.choose(view(10, 'n'), [], loads(0, 0, 0, 0))).toBe(2);
  expect(chosen(991)).toBe(-1);
});

test('least loaded takes the fewest outstanding requests, and goes round among equals', () => {
  const router = new LeastLoadedRouter(replicas);
  expect(router.choose(view(), [], loads(3, 1, 0, 2))).toBe(1);
  expect(router.choose(view(500), [], loads(3, 1, 0, 2))).toBe(3);
  const equal = () => router.choose(view(), [], loads(1, 1, 1, 1));
  expect(new Set([equal(), equal(), equal()])).toEqual(new Set([0, 1, 3]));
  expect(router.choose(view(10, 'unknown'), [], loads(0, 0, 0, 0))).toBe(-1);
});
