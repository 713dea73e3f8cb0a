import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { PoolClock } from './clock.ts';

beforeEach(() => void vi.useFakeTimers({ now: 1_000_000 }));
afterEach(() => void vi.useRealTimers());

test('emulated time runs `speed` times as fast as real time', () => {
  const clock = new PoolClock({ epochMs: 1_000_000 - 500, speed: 20 });
  expect(clock.nowSeconds()).toBeCloseTo(10, 6);
  vi.advanceTimersByTime(1000);
  expect(clock.nowSeconds()).toBeCloseTo(30, 6);
  expect(clock.msUntil(50)).toBeCloseTo(1000, 6);
  expect(clock.msUntil(5)).toBe(0);
  expect(clock.realMs(40)).toBe(2000);
});

test('a timer fires at its instant, not before, and only once', () => {
  const clock = PoolClock.startNow(10);
  const fired: number[] = [];
  clock.at(12.345, () => fired.push(clock.nowSeconds()));
  vi.advanceTimersByTime(1234);
  expect(fired).toEqual([]);
  vi.advanceTimersByTime(5000);
  expect(fired).toHaveLength(1);
  expect(fired[0]).toBeGreaterThanOrEqual(12.345);
  expect(fired[0]).toBeLessThan(12.36);
});

test('waits longer than one timeout can hold still end', () => {
  const clock = PoolClock.startNow(1);
  let fired = false;
  clock.at(30 * 24 * 3600, () => {
    fired = true;
  });
  vi.advanceTimersByTime(30 * 24 * 3600 * 1000 - 1);
  expect(fired).toBe(false);
  vi.advanceTimersByTime(2);
  expect(fired).toBe(true);
});

test('a cancelled timer never fires', () => {
  const clock = PoolClock.startNow(1);
  const callback = vi.fn();
  clock.at(1, callback).cancel();
  vi.advanceTimersByTime(10_000);
  expect(callback).not.toHaveBeenCalled();
});

test('an aborted delay rejects with the reason and leaves no timer behind', async () => {
  const clock = PoolClock.startNow(1);
  const abort = new AbortController();
  const waiting = clock.delay(1000, abort.signal);
  abort.abort(new Error('shutting down'));
  await expect(waiting).rejects.toThrow('shutting down');
  expect(vi.getTimerCount()).toBe(0);
  await expect(clock.delay(1, abort.signal)).rejects.toThrow('shutting down');
});

test('a wall clock that jumps moves nothing, and a process started afterwards still agrees', () => {
  const parent = PoolClock.startNow(4);
  vi.advanceTimersByTime(1000);
  vi.setSystemTime(Date.now() + 3_600_000);
  expect(parent.nowSeconds()).toBeCloseTo(4, 6);
  const child = new PoolClock(JSON.parse(JSON.stringify(parent)));
  expect(child.nowSeconds()).toBeCloseTo(parent.nowSeconds(), 6);
});
