// Several models in one pool: each keeps replicas and types of its own, whether it has traffic or not.
import { expect, test } from 'vitest';
import { firstDeployment, makeController } from '../src/core/control/index.ts';
import { type Controller, modelByName, type Observation, type TraceRequest } from '../src/core/domain/index.ts';
import { constantLoad, contestOf, controllerConfig, LLAMA2, runLoop } from './support/contest.ts';

const LLAMA3 = modelByName('llama3-8b');
const models = [LLAMA3, LLAMA2];
const config = { models, maxPipelineParallel: 1, candidateCount: 3 };
const budget = { searchNodes: 500, simulatedRequests: 4000 };

const of = (model: string, seed: number, minutes: number, rate: number, from = 0): TraceRequest[] =>
  constantLoad(seed, minutes, rate, { chat: 1 }).map((request) => ({
    ...request,
    model,
    arrivalSeconds: request.arrivalSeconds + from * 60,
  }));
const merged = (...traces: TraceRequest[][]) => traces.flat().sort((a, b) => a.arrivalSeconds - b.arrivalSeconds);

test('a model whose traffic comes late keeps its prior type and its replicas until then, and is served at once', async () => {
  const trace = merged(of(LLAMA2.name, 1, 6, 8), of(LLAMA3.name, 2, 3, 10, 3));
  const contest = contestOf(trace, { config, contest: { budget } });
  const seen: Observation[] = [];
  const inner = makeController(contest.config);
  const spy: Controller = {
    tick(observation, work) {
      seen.push(observation);
      return inner.tick(observation, work);
    },
  };
  const { records, outcomes } = await runLoop(contest, { controller: spy });
  const slow = records.filter(({ kind }) => kind === 'slow');
  // Two minutes in, only one of them has been seen.
  expect(slow[1]!.types.filter(({ model }) => model === LLAMA2.name).length).toBeGreaterThan(1);
  expect(slow[1]!.types.filter(({ model }) => model === LLAMA3.name).map(({ id }) => id)).toEqual([
    `${LLAMA3.name}/prior`,
  ]);
  // In the end both have fitted types.
  for (const { name } of models) {
    const types = slow.at(-1)!.types.filter(({ model }) => model === name);
    expect(types.length).toBeGreaterThan(1);
    expect(types.map(({ id }) => id)).not.toContain(`${name}/prior`);
  }
  for (const { replicas, switchInProgress } of seen) {
    if (switchInProgress !== null) continue;
    expect(new Set(replicas.map(({ model }) => model)).size).toBe(2);
  }
  expect(outcomes.every(({ completed }) => completed)).toBe(true);
});

test('each type is shared out over replicas of its own model, in proportion to what they carry', async () => {
  const trace = merged(of(LLAMA2.name, 3, 4, 8), of(LLAMA3.name, 4, 4, 20));
  const { records } = await runLoop(contestOf(trace, { config, contest: { budget } }));
  const routed = records.flatMap(({ decision }) => (decision.kind === 'none' ? [] : [decision.routing]));
  expect(routed.length).toBeGreaterThan(0);
  for (const { workload, assignment } of routed) {
    workload.types.forEach((type, j) => {
      assignment.classKeys.forEach((key, k) => {
        if (!key.startsWith(`${type.model}:`)) expect(assignment.share[j]![k]).toBe(0);
      });
      expect(assignment.share[j]!.reduce((sum, share) => sum + share, 0)).toBeCloseTo(1, 6);
    });
  }
});

test('the first deployment holds every model', () => {
  const deployment = firstDeployment(controllerConfig(config), contestOf([], { config }).cluster);
  expect(new Set(deployment.map(({ model }) => model))).toEqual(new Set(models.map(({ name }) => name)));
});
