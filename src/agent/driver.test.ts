import fc from 'fast-check';
import { expect, test } from 'vitest';
import { DEFAULT_ENGINE_OPTIONS, onTimeGrid } from '../core/domain/index.ts';
import { ReplicaEngine } from '../core/replica/index.ts';
import { type DriverClock, EngineDriver, type TokenMetrics, type Work } from './driver.ts';

interface LateTimer {
  readonly at: number;
  readonly callback: () => void;
}

/** Time that moves only when told to; timers fire late by a number that the test chooses. */
class LateClock implements DriverClock {
  #now = 0;
  #timers: LateTimer[] = [];
  readonly #lateness: () => number;
  constructor(lateness: () => number) {
    this.#lateness = lateness;
  }
  get timerCount(): number {
    return this.#timers.length;
  }
  nowSeconds(): number {
    return this.#now;
  }
  at(seconds: number, callback: () => void) {
    const timer = { at: Math.max(this.#now, seconds) + this.#lateness(), callback };
    this.#timers.push(timer);
    return {
      cancel: () => {
        this.#timers = this.#timers.filter((other) => other !== timer);
      },
    };
  }
  advanceTo(seconds: number): void {
    for (;;) {
      const next = this.#timers.reduce<LateTimer | null>(
        (first, timer) => (timer.at <= seconds && (!first || timer.at < first.at) ? timer : first),
        null,
      );
      if (!next) break;
      this.#timers = this.#timers.filter((timer) => timer !== next);
      this.#now = next.at;
      next.callback();
    }
    this.#now = seconds;
  }
}

function startDriver(lateness: () => number) {
  const clock = new LateClock(lateness);
  const replica = new ReplicaEngine({
    stepTime: { stageSeconds: (prefill, _pairs, decodes) => onTimeGrid(0.01 + prefill * 1e-4 + decodes * 1e-3) },
    pipelineParallel: 1,
    kvBlocks: 64,
    engine: { ...DEFAULT_ENGINE_OPTIONS, maxBatchedTokens: 256, maxSequences: 8 },
  });
  /** What happened, and when by the replica's own account. */
  const firsts: number[] = [];
  const times: [number, number, number, number][] = [];
  const reasons: string[] = [];
  const metrics: TokenMetrics = {
    firstToken: (_tokens, seconds) => firsts.push(seconds),
    laterToken: () => {},
    completed: (entry) =>
      times.push([entry.arrivalSeconds, entry.firstTokenSeconds, entry.lastTokenSeconds, entry.generatedTokens]),
    ended: (reason) => reasons.push(reason),
  };
  return { clock, replica, driver: new EngineDriver(clock, replica, metrics), times, firsts, reasons };
}

const work = (inputTokens: number, outputTokens: number): Work => ({
  inputTokens,
  outputTokens,
  priority: 0,
  finishReason: 'length',
});

const arrivals = fc.array(
  fc.record({
    gap: fc.double({ min: 0, max: 0.5, noNaN: true }),
    input: fc.integer({ min: 1, max: 300 }),
    output: fc.integer({ min: 1, max: 60 }),
  }),
  { minLength: 1, maxLength: 20 },
);

test('timers that are late change no time and no order of any token', () => {
  fc.assert(
    fc.property(arrivals, fc.array(fc.double({ min: 0, max: 0.3, noNaN: true }), { minLength: 1 }), (list, late) => {
      const run = (lateness: () => number) => {
        const { clock, driver, times, reasons } = startDriver(lateness);
        let at = 0;
        const heard: number[] = [];
        for (const { gap, input, output } of list) {
          at += gap;
          clock.advanceTo(at);
          const index = heard.push(0) - 1;
          driver.add(work(input, output), (tokens, finished) => {
            expect(tokens).toBeGreaterThan(heard[index]!);
            heard[index] = tokens;
            expect(finished).toBe(tokens === output);
          });
        }
        clock.advanceTo(at + 1000);
        expect(heard).toEqual(list.map(({ output }) => output));
        expect(driver.requestCount).toBe(0);
        expect(clock.timerCount).toBe(0);
        expect(reasons).toEqual(list.map(() => 'length'));
        return times;
      };
      let i = 0;
      expect(run(() => late[i++ % late.length]!)).toEqual(run(() => 0));
    }),
    { numRuns: 60 },
  );
});

test('a request that is removed frees its blocks at once, and is not heard of again', () => {
  const { clock, driver, replica, reasons } = startDriver(() => 0);
  let heard = 0;
  const handle = driver.add(work(100, 50), () => {
    heard += 1;
  });
  clock.advanceTo(0.5);
  expect(heard).toBeGreaterThan(0);
  expect(replica.kvUsedBlocks).toBeGreaterThan(0);
  const before = heard;
  driver.remove(handle);
  driver.remove(handle);
  expect([replica.kvUsedBlocks, replica.runningCount, driver.requestCount]).toEqual([0, 0, 0]);
  clock.advanceTo(100);
  expect(heard).toBe(before);
  expect(reasons).toEqual(['abort']);
});

test('a removal frees the blocks at once also while timers are late, whatever the moment', () => {
  const moments = fc.double({ min: 0.001, max: 1, noNaN: true });
  fc.assert(
    fc.property(moments, fc.double({ min: 0, max: 0.5, noNaN: true }), (moment, late) => {
      const { clock, driver, replica } = startDriver(() => late);
      const handles = [driver.add(work(100, 400), () => {}), driver.add(work(50, 400), () => {})];
      clock.advanceTo(moment);
      for (const handle of handles) driver.remove(handle);
      expect([replica.kvUsedBlocks, replica.runningCount, replica.waitingCount]).toEqual([0, 0, 0]);
    }),
  );
});

test('a listener may remove other requests while it is told of its own', () => {
  const { clock, driver, replica } = startDriver(() => 0.2);
  const handles: number[] = [];
  let others = 0;
  handles.push(
    driver.add(work(10, 40), (tokens) => {
      if (tokens >= 5) for (const handle of handles.slice(1)) driver.remove(handle);
    }),
    driver.add(work(10, 40), () => {
      others += 1;
    }),
  );
  clock.advanceTo(100);
  expect(others).toBeLessThan(40);
  expect(driver.requestCount).toBe(0);
  expect(replica.kvUsedBlocks).toBe(0);
});

test('a driver that is closed sets no timer any more', () => {
  const { clock, driver } = startDriver(() => 0);
  const handle = driver.add(work(10, 40), () => {});
  driver.close();
  driver.remove(handle);
  expect(clock.timerCount).toBe(0);
});
