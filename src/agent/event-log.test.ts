import { expect, test } from 'vitest';
import { PoolClock } from '../host/index.ts';
import { EventLog } from './event-log.ts';

const never = new AbortController().signal;

test('the log keeps the newest events and their numbers', () => {
  const log = new EventLog(PoolClock.startNow(), 10);
  for (let i = 0; i < 100; i++) log.add('e', 'state', `${i}`);
  const { events, lastEvent } = log.since(0);
  expect(lastEvent).toBe(100);
  expect(events.length).toBeGreaterThanOrEqual(10);
  expect(events.length).toBeLessThanOrEqual(20);
  expect(events.map(({ number, detail }) => [number, detail])).toEqual(
    Array.from({ length: events.length }, (_, i) => [101 - events.length + i, `${100 - events.length + i}`]),
  );
});

test('whoever asks for events after a number of an earlier agent gets all of them', async () => {
  const log = new EventLog(PoolClock.startNow());
  log.add('e', 'created', 'starting');
  expect((await log.wait(77, 1e6, never)).events).toHaveLength(1);
});

test('a poll ends when an event comes, when its caller goes, and when the log closes', async () => {
  const log = new EventLog(PoolClock.startNow());
  const gone = new AbortController();
  const polls = [log.wait(0, 1e6, never), log.wait(0, 1e6, gone.signal)];
  gone.abort();
  expect((await polls[1])?.events).toEqual([]);
  log.add('e', 'created', 'starting');
  expect((await polls[0])?.events).toHaveLength(1);
  const last = log.wait(1, 1e6, never);
  log.close();
  expect((await last).events).toEqual([]);
});

test('a poll ends when its time is over', async () => {
  const log = new EventLog(PoolClock.startNow(1000));
  expect(await log.wait(0, 1, never)).toEqual({ events: [], lastEvent: 0 });
});
