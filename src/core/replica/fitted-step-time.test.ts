import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  DEFAULT_ENGINE_OPTIONS,
  gpuKind,
  MODELS,
  modelByName,
  replicaMemory,
  type Strategy,
  TIME_GRID_SECONDS,
} from '../domain/index.ts';
import { closedLoop } from './closed-loop.ts';
import { FittedStepTime, fittedStepTime } from './fitted-step-time.ts';
import { exampleProfile as h100 } from './testing/example-profile.ts';

const llama = modelByName('llama2-70b');
const stepTimeOf = (strategy: Strategy, model = llama) =>
  new FittedStepTime(h100, model, { model: model.name, gpuKind: h100.gpuKind, strategy });
const tp = (tensorParallel: number, pipelineParallel = 1): Strategy => ({ tensorParallel, pipelineParallel });

const strategies = fc.constantFrom(tp(1), tp(2), tp(4), tp(8), tp(2, 2), tp(4, 2), tp(2, 4), tp(8, 2), tp(1, 3));
const batches = fc.record({
  prefillTokens: fc.nat(4000),
  cachedTokens: fc.nat(8000),
  decodeSequences: fc.integer({ min: 1, max: 256 }),
  contextTokens: fc.nat(400_000),
});
type Batch = { prefillTokens: number; cachedTokens: number; decodeSequences: number; contextTokens: number };
const seconds = (time: FittedStepTime, { prefillTokens, cachedTokens, decodeSequences, contextTokens }: Batch) =>
  time.stageSeconds(
    prefillTokens,
    prefillTokens * (cachedTokens + prefillTokens / 2),
    decodeSequences,
    contextTokens,
    decodeSequences + (prefillTokens > 0 ? 1 : 0),
  );

describe('the fitted step time', () => {
  test('never falls when a batch gets more tokens, more context or more sequences', () => {
    fc.assert(
      fc.property(strategies, fc.constantFrom(...MODELS), batches, fc.nat(2000), (strategy, model, batch, more) => {
        const time = stepTimeOf(strategy, model);
        const base = seconds(time, batch);
        expect(seconds(time, { ...batch, prefillTokens: batch.prefillTokens + more })).toBeGreaterThanOrEqual(base);
        expect(seconds(time, { ...batch, cachedTokens: batch.cachedTokens + more })).toBeGreaterThanOrEqual(base);
        expect(seconds(time, { ...batch, contextTokens: batch.contextTokens + more })).toBeGreaterThanOrEqual(base);
        expect(seconds(time, { ...batch, decodeSequences: batch.decodeSequences + more })).toBeGreaterThanOrEqual(base);
      }),
    );
  });

  test('is a multiple of the time grid, so that sums are exact in any order', () => {
    fc.assert(
      fc.property(strategies, fc.array(batches, { minLength: 1, maxLength: 50 }), (strategy, list) => {
        const time = stepTimeOf(strategy);
        const each = list.map((batch) => seconds(time, batch));
        for (const value of each) expect(Number.isInteger(value / TIME_GRID_SECONDS)).toBe(true);
        const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);
        expect(sum([...each].reverse())).toBe(sum(each));
      }),
    );
  });

  test('is linear in the cached tokens of decodes: a stretch of steps can be summed at once', () => {
    const time = stepTimeOf(tp(4));
    const one = (context: number) => time.stageSeconds(0, 0, 32, context, 32);
    let stepped = 0;
    for (let step = 0; step < 1000; step++) stepped += one(50_000 + 32 * step);
    expect(stepped).toBe(1000 * one(50_000) + ((32 * 1000 * 999) / 2) * time.perContextToken);
  });

  test('does not depend on which question was asked before', () => {
    const asked = stepTimeOf(tp(4, 2));
    for (const tokens of [5000, 3, 90_000, 300]) asked.stageSeconds(tokens, 0, 0, 0, tokens);
    expect(asked.stageSeconds(300, 9, 5, 700, 6)).toBe(stepTimeOf(tp(4, 2)).stageSeconds(300, 9, 5, 700, 6));
  });

  test('has the right size: a decode step of LLaMA2-70B on 8 H100 reads 17 GB of weights a GPU in 8 to 14 ms', () => {
    const step = stepTimeOf(tp(8)).stageSeconds(0, 0, 16, 16 * 1000, 16);
    expect(step).toBeGreaterThan(0.008);
    expect(step).toBeLessThan(0.014);
    // 2048 prompt tokens are 2.8e14 operations: 36 ms at the data sheet's rate on 8 GPUs.
    const prompt = stepTimeOf(tp(8)).stageSeconds(2048, 2048 * 1024, 0, 0, 1);
    expect(prompt).toBeGreaterThan(0.045);
    expect(prompt).toBeLessThan(0.1);
  });

  test('a stage of a pipeline takes about its share of the layers', () => {
    const batch = { prefillTokens: 2000, cachedTokens: 0, decodeSequences: 20, contextTokens: 20_000 };
    const ratio = seconds(stepTimeOf(tp(4, 2)), batch) / seconds(stepTimeOf(tp(4)), batch);
    expect(ratio).toBeGreaterThan(0.45);
    expect(ratio).toBeLessThan(0.56);
  });

  test('names what is missing', () => {
    const of = fittedStepTime(h100);
    expect(() => of({ model: 'llama2-70b', gpuKind: 'A100-80GB', strategy: tp(8) }, '')).toThrow(/no profile for A100/);
    expect(() => of({ model: 'mystery', gpuKind: 'H100-80GB', strategy: tp(8) }, '')).toThrow(/Unknown model/);
    const sixteen = of({ model: 'llama2-70b', gpuKind: 'H100-80GB', strategy: tp(16) }, '');
    expect(() => sixteen.stageSeconds(1, 0, 0, 0, 1, 0)).toThrow(/no all-reduce over 16 ranks/);
  });
});

describe('eight H100 with LLaMA2-70B, offline, in the simulator', () => {
  const throughput = (strategy: Strategy, inputTokens: number, outputTokens: number) =>
    closedLoop({
      stepTime: stepTimeOf(strategy),
      pipelineParallel: strategy.pipelineParallel,
      kvBlocks: replicaMemory(llama, strategy, gpuKind(h100.gpuKind), DEFAULT_ENGINE_OPTIONS).kvBlocks,
      engine: DEFAULT_ENGINE_OPTIONS,
      inputTokens,
      outputTokens,
      concurrency: 400,
      requests: 400,
    }).outputTokensPerSecond;

  test('at long prompts with short answers pipelines carry more than TP8', () => {
    expect(throughput(tp(4, 2), 2048, 128)).toBeGreaterThan(1.05 * throughput(tp(8), 2048, 128));
    expect(throughput(tp(2, 4), 2048, 128)).toBeGreaterThan(1.05 * throughput(tp(8), 2048, 128));
  });

  test('at short prompts with long answers TP8 carries more than pipelines', () => {
    expect(throughput(tp(8), 256, 1024)).toBeGreaterThan(1.05 * throughput(tp(4, 2), 256, 1024));
    expect(throughput(tp(8), 256, 1024)).toBeGreaterThan(1.2 * throughput(tp(2, 4), 256, 1024));
  });
});
