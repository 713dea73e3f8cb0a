import { expect, test } from 'vitest';
import {
  DEFAULT_ENGINE_OPTIONS,
  InfeasibleError,
  modelByName,
  onTimeGrid,
  type StepTimeOf,
  uniformCluster,
} from '../domain/index.ts';
import { type PlanRequest, planOnce } from './plan.ts';
import { workloadOfLengths } from './workload-of-trace.ts';

const llama2 = modelByName('llama2-70b');
const llama3 = modelByName('llama3-8b');

/** Tensor parallelism pays less and less, pipelines do not pay at all for latency but cost nothing in capacity. */
const stepTimeOf: StepTimeOf = ({ strategy: { tensorParallel, pipelineParallel } }) => ({
  stageSeconds: (prefillTokens, _pairs, decodeSequences) =>
    onTimeGrid((0.01 + 4e-4 * prefillTokens + 1e-4 * decodeSequences) / tensorParallel ** 0.7 / pipelineParallel),
});

const request = (
  types: readonly { model: string; inputTokens: number; outputTokens: number }[],
  arrivalRate: readonly number[],
  config: Partial<PlanRequest['config']> = {},
): PlanRequest => ({
  config: { models: [llama2], engine: DEFAULT_ENGINE_OPTIONS, stepTimeOf, ...config },
  cluster: uniformCluster(16),
  workload: workloadOfLengths(types),
  arrivalRate,
  solver: 'exact',
  method: 'exact',
  searchNodes: 5000,
});
const chat = { model: llama2.name, inputTokens: 1000, outputTokens: 100 };

test('a type with arrivals that fits on no replica is refused with its numbers, one without arrivals is not', () => {
  const huge = { model: llama2.name, inputTokens: 60_000, outputTokens: 500 };
  const plan = () => planOnce(request([chat, huge], [1, 0.25]));
  expect(plan).toThrow(InfeasibleError);
  expect(plan).toThrow(/60000 input and 500 output tokens, 0\.25 requests\/s.*holds 16384 tokens/);
  expect(planOnce(request([chat, huge], [1, 0])).servedShare).toBe(1);
});

test('pipelines are no longer than allowed', () => {
  const longest = (maxPipelineParallel: number) =>
    planOnce(request([chat], [5], { maxPipelineParallel })).deployment.reduce(
      (most, { strategy }) => Math.max(most, strategy.pipelineParallel),
      0,
    );
  expect(longest(8)).toBeGreaterThan(1);
  expect(longest(1)).toBe(1);
});

test('two models share the pool, each type goes to its own model only', () => {
  const small = { model: llama3.name, inputTokens: 1000, outputTokens: 100 };
  const { deployment, assignment, servedShare } = planOnce(
    request([chat, small], [2, 2], { models: [llama2, llama3] }),
  );
  expect(servedShare).toBe(1);
  expect(new Set(deployment.map(({ model }) => model))).toEqual(new Set([llama2.name, llama3.name]));
  deployment.forEach(({ model }, k) => {
    const foreign = model === llama2.name ? 1 : 0;
    expect(assignment.share[foreign]![k]).toBe(0);
  });
});
