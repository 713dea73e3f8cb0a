// Does the controller keep still when nothing changes, and move when something does?
import { describe, expect, test } from 'vitest';
import { runPolicy } from '../src/core/control/index.ts';
import { generateTrace } from '../src/host/index.ts';
import { constantLoad, contestOf, layout, switchMinutes } from './support/contest.ts';

const SEEDS = [1, 2, 3, 4];
/** Tensor parallelism alone: engines in pipelines take most of the time to simulate. */
const config = { maxPipelineParallel: 1, candidateCount: 3 };
const budget = { searchNodes: 500, simulatedRequests: 6000 };

describe('constant-rate Poisson load on 16 GPUs', () => {
  // 4xTP4 carries 36 requests/s of chat by the profile.
  for (const [load, ratePerSecond] of [
    ['30 %', 11],
    ['60 %', 22],
  ] as const) {
    test.each(SEEDS)(
      `at ${load} of capacity makes at most one switch, in the first 10 minutes (seed %i)`,
      async (seed) => {
        const trace = constantLoad(seed, 60, ratePerSecond, { chat: 1 });
        const result = await runPolicy('oserve', contestOf(trace, { seed, config, contest: { budget } }));
        const minutes = switchMinutes(result.records);
        expect(minutes.filter((minute) => minute > 10)).toEqual([]);
        expect(minutes.length).toBeLessThanOrEqual(1);
        expect(result.completed).toBe(trace.length);
      },
    );
  }
});

describe('traffic that drifts', () => {
  // 2xTP8 answers fastest at night, but carries only 24 requests/s of chat; by day long prompts of code come on top.
  test.each([1, 2])('a pool laid out for the night switches by day and is better for it (seed %i)', async (seed) => {
    const trace = generateTrace({
      seed,
      minutes: 24,
      periodMinutes: 40,
      ratePerSecond: 24,
      variation: 0,
      from: { chat: 0.35 },
      to: { chat: 0.6, code: 0.6 },
    });
    const initial = layout('2xTP8');
    const more = { ...budget, simulatedRequests: 12_000 };
    const run = (mode: 'auto' | 'recommend') =>
      runPolicy('oserve', contestOf(trace, { seed, config: { ...config, mode }, contest: { budget: more, initial } }));
    const [moving, staying] = [await run('auto'), await run('recommend')];
    expect(staying.switches).toBe(0);
    expect(moving.switches).toBeGreaterThanOrEqual(1);
    expect(moving.e2eSeconds.p99).toBeLessThan(staying.e2eSeconds.p99);
    expect(moving.e2eSeconds.mean).toBeLessThan(staying.e2eSeconds.mean);
  });
});
