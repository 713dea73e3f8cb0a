import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { FinishedRequest, RequestView } from '../core/domain/index.ts';
import { Observations } from './observations.ts';

const view = (n: number): RequestView => ({ arrivalSeconds: n, model: 'm', inputTokens: 1, maxTokens: 1 });
const finished = (n: number): FinishedRequest => ({ ...view(n), outputTokens: 1, finishedSeconds: n, ttftSeconds: 0 });

test('a reader that keeps its cursor only after it has stored what it read gets everything, in order', () => {
  // A command says what happens next: something came or ended, a read that succeeds, a read whose reader dies.
  const commands = fc.array(fc.constantFrom('arrive', 'finish', 'read', 'lost read'));
  fc.assert(
    fc.property(commands, (list) => {
      const observations = new Observations();
      const came: number[] = [];
      const ended: number[] = [];
      const stored = { cursor: 0, arrivals: [] as number[], finished: [] as number[] };
      for (const [n, command] of [...list, 'read'].entries()) {
        if (command === 'arrive') {
          observations.arrived(view(n));
          came.push(n);
        } else if (command === 'finish') {
          observations.finished(finished(n));
          ended.push(n);
        } else {
          const answer = observations.read(stored.cursor);
          if (command === 'lost read') continue;
          stored.cursor = answer.cursor;
          stored.arrivals.push(...answer.arrivals.map((one) => one.arrivalSeconds));
          stored.finished.push(...answer.finished.map((one) => one.arrivalSeconds));
        }
      }
      expect(stored.arrivals).toEqual(came);
      expect(stored.finished).toEqual(ended);
    }),
  );
});

test('without a reader memory is bounded: the oldest are dropped and counted', () => {
  const observations = new Observations(100);
  for (let n = 0; n < 1000; n++) observations.arrived(view(n));
  const { arrivals } = observations.read(0);
  expect(arrivals.length).toBeLessThanOrEqual(100);
  expect(arrivals.at(-1)?.arrivalSeconds).toBe(999);
  expect(observations.dropped).toBe(1000 - arrivals.length);
});

test('every incarnation has a name of its own', () => {
  expect(new Observations().incarnation).not.toBe(new Observations().incarnation);
});
