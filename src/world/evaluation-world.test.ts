import { describe, expect, test } from 'vitest';
import { modelByName, type ReplicaClass, replicaId, type SwitchStep, TIME_GRID_SECONDS } from '../core/domain/index.ts';
import { random } from '../core/math/index.ts';
import { fitKernels, fittedStepTime } from '../core/replica/index.ts';
import { GemmTable } from './gemm-table.ts';
import {
  evaluationWorld,
  HOST_SECONDS,
  REPLICA_SIGMA,
  SECOND_SIGMA,
  WORLD_STATE_AGE_SECONDS,
  worldStepTime,
} from './index.ts';
import { TableStepTime, WorldTables } from './table-step-time.ts';
import {
  exampleDecodeSeconds,
  exampleGemmSeconds,
  exampleLinkSeconds,
  examplePrefillSeconds,
  exampleTables,
} from './testing/example-tables.ts';

const tables = exampleTables();
const model = modelByName('llama2-70b');
const tp4: ReplicaClass = {
  model: model.name,
  gpuKind: 'H100-80GB',
  strategy: { tensorParallel: 4, pipelineParallel: 1 },
};
/** The planner's model of this world, off by what its formulas cannot follow. */
const { coefficients, fits } = fitKernels(tables);
const fitted = fittedStepTime({
  name: 'fit of the example',
  gpuKind: 'H100-80GB',
  engine: '',
  gpusPerNode: 8,
  range: '',
  sources: [],
  fits,
  coefficients: { ...coefficients, host: { stepSeconds: 0.003, sequenceSeconds: 0 } },
});
const worldAt = (seed: number, mismatch = 1) =>
  worldStepTime({ tables: [tables], models: [model], seed, mismatch, fitted });

describe('table look-ups', () => {
  test('matrix products are exact at measured shapes and close between them', () => {
    const gemm = new GemmTable(tables.gemm);
    expect(gemm.seconds(64, 8192, 2048)).toBeCloseTo(exampleGemmSeconds(64, 8192, 2048), 12);
    for (const [m, n, k] of [
      [100, 10240, 8192],
      [3000, 7168, 3584],
      [7, 28672, 8192],
      [20_000, 8192, 8192],
    ] as const) {
      expect(Math.abs(gemm.seconds(m, n, k) / exampleGemmSeconds(m, n, k) - 1)).toBeLessThan(0.06);
    }
  });

  test('a step is the sum of its kernels over the layers', () => {
    const time = new TableStepTime(new WorldTables(tables), model, tp4);
    const layerTime = (tokens: number) =>
      exampleGemmSeconds(tokens, 2560, 8192) +
      exampleGemmSeconds(tokens, 8192, 2048) +
      exampleGemmSeconds(tokens, 14336, 8192) +
      exampleGemmSeconds(tokens, 8192, 7168) +
      2 * exampleLinkSeconds(tokens * 16384);
    const head = (sequences: number) => exampleGemmSeconds(sequences, 8000, 8192);
    const decode = time.seconds(0, 0, 64, 64 * 1024, 64);
    const decodeExpected =
      80 * (layerTime(64) + exampleDecodeSeconds(2, 64, 1024)) + head(64) + HOST_SECONDS.smallest + 0.002;
    expect(decode / decodeExpected).toBeGreaterThan(0.97);
    expect(decode / decodeExpected).toBeLessThan(1.15); // element-wise kernels come on top
    // Half of a prompt over its own first half: three quarters of the pairs of the whole.
    const chunk = time.seconds(1024, 1024 * (1024 + 512), 0, 0, 1);
    const chunkExpected =
      80 * (layerTime(1024) + examplePrefillSeconds(16, 1, 2048) * 0.75) + head(1) + HOST_SECONDS.smallest;
    expect(chunk / chunkExpected).toBeGreaterThan(0.97);
    expect(chunk / chunkExpected).toBeLessThan(1.2);
  });

  test('heads that were not measured are scaled from those with the same grouping', () => {
    const opt = modelByName('opt-30b'); // 56 heads, each with its own keys and values; measured: 8
    const at = (tensorParallel: number) =>
      new TableStepTime(new WorldTables(tables), opt, {
        ...tp4,
        model: opt.name,
        strategy: { tensorParallel, pipelineParallel: 1 },
      });
    const attention = at(4).seconds(0, 0, 32, 32 * 4096, 32) - at(4).seconds(0, 0, 32, 32 * 16, 32);
    const expected = 48 * (exampleDecodeSeconds(14, 32, 4096) - exampleDecodeSeconds(14, 32, 16));
    expect(attention / expected).toBeGreaterThan(0.97);
    expect(attention / expected).toBeLessThan(1.03);
  });

  test('says which GPU kind or model it does not know', () => {
    const of = worldAt(1);
    expect(() => of({ ...tp4, gpuKind: 'A100-80GB' }, 'r0')).toThrow(/no kernel tables of A100-80GB/);
    expect(() => of({ ...tp4, model: 'mystery' }, 'r0')).toThrow(/Unknown model/);
  });
});

describe('noise', () => {
  const step = (of: ReturnType<typeof worldStepTime>, replica: string, at: number) =>
    of(tp4, replica).stageSeconds(0, 0, 16, 16_000, 16, at);

  test('depends on seed, replica and second alone, not on what was asked before', () => {
    const time = worldAt(7)(tp4, 'r1');
    const ask = (at: number) => time.stageSeconds(0, 0, 16, 16_000, 16, at);
    const first = [3.2, 9.9, 3.9, 0.1].map(ask);
    expect(first[0]).toBe(first[2]);
    expect(first[0]).not.toBe(first[1]);
    expect([0.1, 9.9, 3.2].map((at) => step(worldAt(7), 'r1', at))).toEqual([first[3], first[1], first[0]]);
    expect(step(worldAt(8), 'r1', 3.2)).not.toBe(first[0]);
    expect(Number.isInteger(first[0]! / TIME_GRID_SECONDS)).toBe(true);
  });

  test('has the stated spread over replicas and over seconds, and mean 1', () => {
    const of = worldAt(3);
    const base = new TableStepTime(new WorldTables(tables), model, tp4).seconds(0, 0, 16, 16_000, 16);
    const spread = (values: readonly number[]) => {
      const logs = values.map((value) => Math.log(value / base));
      const mean = logs.reduce((sum, v) => sum + v, 0) / logs.length;
      return Math.sqrt(logs.reduce((sum, v) => sum + (v - mean) ** 2, 0) / logs.length);
    };
    const seconds = Array.from({ length: 2000 }, (_, at) => step(of, 'r0', at));
    expect(spread(seconds)).toBeGreaterThan(0.9 * SECOND_SIGMA);
    expect(spread(seconds)).toBeLessThan(1.1 * SECOND_SIGMA);
    const replicas = Array.from({ length: 2000 }, (_, id) => step(of, `r${id}`, 0));
    const both = Math.hypot(SECOND_SIGMA, REPLICA_SIGMA);
    expect(spread(replicas)).toBeGreaterThan(0.9 * both);
    expect(spread(replicas)).toBeLessThan(1.1 * both);
    const mean = replicas.reduce((sum, value) => sum + value / base, 0) / replicas.length;
    expect(Math.abs(mean - 1)).toBeLessThan(0.01);
  });

  test('mismatch 0 is the fitted model itself, 2 is twice as far away as 1', () => {
    const of = worldAt(5, 0);
    const doubled = worldAt(5, 2);
    const planned = fitted(tp4, 'r0').stageSeconds(0, 0, 16, 16_000, 16, 2);
    expect(step(of, 'r0', 2)).toBe(planned);
    const once = new TableStepTime(new WorldTables(tables), model, tp4).seconds(0, 0, 16, 16_000, 16) / planned;
    const twice = Array.from({ length: 500 }, (_, id) => step(doubled, `r${id}`, 2) / planned);
    const mean = twice.reduce((sum, value) => sum + value, 0) / twice.length;
    expect(Math.abs(Math.log(mean) - 2 * Math.log(once))).toBeLessThan(0.03);
  });
});

describe('what the router and the switches meet', () => {
  const world = evaluationWorld({ tables: [tables], models: [model], seed: 1 });

  test('knowledge is 0.2 to 1 s old', () => {
    const draw = random('ages');
    const ages = Array.from({ length: 500 }, () => world.stateAgeSeconds(draw));
    expect(Math.min(...ages)).toBeGreaterThanOrEqual(WORLD_STATE_AGE_SECONDS.least);
    expect(Math.max(...ages)).toBeLessThanOrEqual(WORLD_STATE_AGE_SECONDS.most);
    expect(Math.max(...ages) - Math.min(...ages)).toBeGreaterThan(0.7);
  });

  test('one verification in a hundred fails, other steps take about as long as planned', () => {
    const draw = random('steps');
    const stepOf = (action: SwitchStep['action']): SwitchStep => ({
      replica: replicaId('r0'),
      action,
      seconds: 10,
      after: [],
      bytes: 0,
    });
    const outcomes = (action: SwitchStep['action']) =>
      Array.from({ length: 5000 }, (_, i) => world.stepOutcome(stepOf(action), draw.fork(`${action} ${i}`)));
    const fills = outcomes('fill');
    expect(fills.every(({ failure }) => failure === null)).toBe(true);
    const mean = fills.reduce((sum, { seconds }) => sum + seconds, 0) / fills.length;
    expect(Math.abs(mean / 10 - 1)).toBeLessThan(0.02);
    const failed = outcomes('verify').filter(({ failure }) => failure !== null).length;
    expect(failed).toBeGreaterThan(25);
    expect(failed).toBeLessThan(80);
  });
});
