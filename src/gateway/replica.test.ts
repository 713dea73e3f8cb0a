import { Registry } from 'prom-client';
import { afterEach, expect, test } from 'vitest';
import { AdmissionQueue } from './admission-queue.ts';
import { FastHistogram } from './histogram.ts';
import { Replica } from './replica.ts';

const replicas: Replica[] = [];
const newReplica = (): Replica => {
  const replica = new Replica({
    id: 'r0',
    url: 'http://127.0.0.1:9',
    model: 'm',
    classKey: 'm:TP1@X',
    gpuCount: 1,
    maxModelLen: 100,
    kvTokens: 100,
  });
  replica.index = 0;
  replicas.push(replica);
  return replica;
};
afterEach(async () => {
  for (const replica of replicas.splice(0)) await replica.close();
});

test('a broken connection sets a replica aside until it is found healthy; again and again it waits longer', () => {
  const replica = newReplica();
  const waits = [];
  for (let i = 0; i < 12; i++) {
    waits.push(replica.failed('connection'));
    expect(replica.available(0, 0)).toBe(false);
    expect(replica.failed('connection'), 'one probe at a time').toBeNull();
    replica.recovered();
    expect(replica.available(0, 0)).toBe(true);
  }
  expect(waits[0]).toBe(0);
  for (let i = 1; i < waits.length; i++) expect(waits[i]).toBeGreaterThanOrEqual(waits[i - 1]!);
  expect(waits.at(-1)).toBe(10_000);
  replica.succeeded();
  expect(replica.failed('connection')).toBe(0);
});

test('single failed answers are tolerated, three in a row are not, and a good one in between forgives', () => {
  const replica = newReplica();
  expect(replica.failed('status')).toBeNull();
  expect(replica.failed('status')).toBeNull();
  replica.succeeded();
  expect(replica.failed('status')).toBeNull();
  expect(replica.failed('status')).toBeNull();
  expect(replica.available(0, 0)).toBe(true);
  expect(replica.failed('status')).toBe(250);
  expect(replica.available(0, 0)).toBe(false);
});

test('a busy replica is left alone for as long as it asked', () => {
  const replica = newReplica();
  replica.busyFor(200, 1000);
  expect(replica.available(1199, 0)).toBe(false);
  expect(replica.available(1200, 0)).toBe(true);
});

test('the queue is first come, first served, cut streams before all, and a blocked model blocks no other', () => {
  const started: string[] = [];
  const free = new Set<string>();
  const item = (name: string, model: string, outcome: 'blocked' | 'does-not-fit' = 'blocked') => ({
    model,
    tryStart: () => {
      if (!free.has(name)) return outcome;
      started.push(name);
      return 'started' as const;
    },
  });
  const queue = new AdmissionQueue<ReturnType<typeof item>>(10);
  for (const [name, model] of ['a1:a', 'b1:b', 'a2:a', 'b2:b'].map((text) => text.split(':') as [string, string]))
    queue.add(item(name, model), false);
  queue.add(item('cut', 'b'), true);
  for (const name of ['b1', 'b2', 'a2', 'cut']) free.add(name);
  queue.pump();
  // a2 could start, but stands behind a1 of its own model.
  expect(started).toEqual(['cut', 'b1', 'b2']);
  expect(queue.length).toBe(2);
  free.add('a1');
  queue.pump();
  expect(started).toEqual(['cut', 'b1', 'b2', 'a1', 'a2']);

  // A long request that fits none of the free replicas does not hold up shorter ones.
  queue.add(item('long', 'a', 'does-not-fit'), false);
  free.add('short');
  queue.add(item('short', 'a'), false);
  queue.pump();
  expect(started.at(-1)).toBe('short');
});

test('a histogram is rendered as Prometheus reads it', async () => {
  const registry = new Registry();
  const series = new FastHistogram(registry, 'x_seconds', 'X.', [0.1, 1]).series({ model: 'm' });
  for (const value of [0.05, 0.1, 0.5, 3]) series.observe(value);
  const text = await registry.metrics();
  for (const line of [
    '# TYPE x_seconds histogram',
    'x_seconds_bucket{model="m",le="0.1"} 2',
    'x_seconds_bucket{model="m",le="1"} 3',
    'x_seconds_bucket{model="m",le="+Inf"} 4',
    'x_seconds_sum{model="m"} 3.65',
    'x_seconds_count{model="m"} 4',
  ]) {
    expect(text).toContain(line);
  }
});
