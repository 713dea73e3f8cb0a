import { expect, test } from 'vitest';
import type { RoutingTable, WorkloadType } from '../domain/index.ts';
import { makeRequestRouter, type RequestRouter } from './request-router.ts';

const typeOf = (model: string, inputTokens: number): WorkloadType => ({
  id: `${model}/${inputTokens}`,
  model,
  inputTokens,
  outputTokens: 100,
  logInput: Math.log(inputTokens),
  logOutput: Math.log(100),
  samples: [],
});
const replica = (id: string, model: string, classKey: string) => ({
  id,
  classKey,
  model,
  gpuCount: 4,
  maxModelLen: 16_384,
  kvTokens: 1e5,
});
const view = (model: string) => ({ arrivalSeconds: 0, model, inputTokens: 500, maxTokens: 100 });
const idle = (replicas: number) => ({
  requests: new Float64Array(replicas),
  tokens: new Float64Array(replicas),
});

test('a router that is replaced at every request still keeps the shares, since credits are inherited', () => {
  const table: RoutingTable = {
    version: 1,
    workload: { version: 1, fittedToSeconds: 0, types: [typeOf('m', 500)], posteriorCounts: {} },
    assignment: { typeIds: ['m/500'], classKeys: ['a', 'b'], share: [[0.75, 0.25]], variant: { kind: 'plain' } },
  };
  const replicas = [replica('r0', 'm', 'a'), replica('r1', 'm', 'b')];
  const served = (inherits: boolean): number[] => {
    const counts = [0, 0];
    let router: RequestRouter | undefined;
    for (let i = 0; i < 100; i++) {
      router = makeRequestRouter(table, replicas, inherits ? router : undefined);
      counts[router.route(view('m'), idle(2))]! += 1;
    }
    return counts;
  };
  expect(served(true)).toEqual([75, 25]);
  expect(served(false)).toEqual([100, 0]);
});

test('credits go on when a replica leaves and comes back', () => {
  const table: RoutingTable = {
    version: 1,
    workload: { version: 1, fittedToSeconds: 0, types: [typeOf('m', 500)], posteriorCounts: {} },
    assignment: { typeIds: ['m/500'], classKeys: ['a', 'b'], share: [[0.5, 0.5]], variant: { kind: 'plain' } },
  };
  const both = [replica('r0', 'm', 'a'), replica('r1', 'm', 'b')];
  const router = makeRequestRouter(table, both);
  const first = router.route(view('m'), idle(2));
  router.setReplicas([...both]);
  expect(router.route(view('m'), idle(2))).toBe(1 - first);
  router.setReplicas([both[1]!]);
  expect(router.route(view('m'), idle(1))).toBe(0);
});

test('a request goes only to replicas of its own model, also of one without types', () => {
  const table: RoutingTable = {
    version: 1,
    workload: { version: 1, fittedToSeconds: 0, types: [typeOf('m', 500)], posteriorCounts: {} },
    assignment: { typeIds: ['m/500'], classKeys: ['a'], share: [[1]], variant: { kind: 'plain' } },
  };
  const router = makeRequestRouter(table, [replica('r0', 'm', 'a'), replica('r1', 'other', 'b')]);
  expect(router.route(view('m'), idle(2))).toBe(0);
  expect(router.route(view('other'), idle(2))).toBe(1);
  expect(router.route(view('unknown'), idle(2))).toBe(-1);
});
