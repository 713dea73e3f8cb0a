import { expect, test } from 'vitest';
import type { TickRecord } from '../../core/domain/index.ts';
import { tickLine } from './index.ts';

const record = (more: object): TickRecord =>
  ({
    kind: 'slow',
    atSeconds: 60,
    seen: { arrivals: 3, queued: 2, running: 9, lostGpus: 0, deployment: '2xTP8' },
    predicted: { arrivalRate: [[1, 2.5]] },
    decision: { kind: 'none' },
    why: 'stay with 2xTP8: no gain is certain',
    ...more,
  }) as unknown as TickRecord;

test('a slow tick is one line with the rate since the last one', () => {
  expect(tickLine(record({}), { count: 240, seconds: 60 })).toEqual({
    message: '4.0 requests/s: stay with 2xTP8: no gain is certain',
    fields: { predictedPerSecond: 3.5, running: 9, queued: 2 },
  });
});

test('lost GPUs are told, none are not', () => {
  const seen = { arrivals: 0, queued: 0, running: 0, lostGpus: 8, deployment: '1xTP8' };
  expect(tickLine(record({ seen }), { count: 0, seconds: 60 })?.fields.lostGpus).toBe(8);
});

test('a fast tick has a line only when it changed something', () => {
  expect(tickLine(record({ kind: 'fast' }), { count: 0, seconds: 1 })).toBeNull();
  const changed = record({ kind: 'fast', decision: { kind: 'route' }, why: '3 replicas serve now' });
  expect(tickLine(changed, { count: 0, seconds: 1 })?.message).toBe('routing changed: 3 replicas serve now');
});
