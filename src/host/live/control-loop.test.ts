import { expect, test } from 'vitest';
import { VirtualClock } from '../../../test/support/fake-pool.ts';
import { ControlLoop } from './index.ts';

/** Runs a loop for some virtual seconds; each step takes `stepSeconds`. */
async function ticks(seconds: number, stepSeconds: number, fail: (n: number) => boolean = () => false) {
  const clock = new VirtualClock();
  const started: [number, string][] = [];
  const failures: number[] = [];
  let atOnce = 0;
  let mostAtOnce = 0;
  const loop = new ControlLoop({
    clock,
    fastTickSeconds: 1,
    slowTickSeconds: 60,
    step: async (kind) => {
      started.push([clock.nowSeconds(), kind]);
      mostAtOnce = Math.max(mostAtOnce, ++atOnce);
      await clock.delay(stepSeconds);
      atOnce -= 1;
      if (fail(started.length)) throw new Error('a step failed');
    },
    onFailure: (_error, inARow) => failures.push(inARow),
  });
  loop.start();
  await clock.delay(seconds);
  await loop.stop();
  return { started, failures, mostAtOnce };
}

test('ticks at whole multiples of the periods; a slow one takes the place of a fast one', async () => {
  const { started } = await ticks(125.5, 0);
  expect(started.filter(([, kind]) => kind === 'slow').map(([at]) => at)).toEqual([60, 120]);
  expect(started.map(([at]) => at)).toEqual(Array.from({ length: 125 }, (_, i) => i + 1));
});

test('never two at once: what comes due during a step is one tick afterwards', async () => {
  const { started, mostAtOnce } = await ticks(200, 7.5);
  expect(mostAtOnce).toBe(1);
  expect(started.slice(0, 3).map(([at]) => at)).toEqual([1, 9, 17]);
  expect(started.filter(([, kind]) => kind === 'slow')).toHaveLength(3);
});

test('a failing step is told with how often in a row, and the loop goes on', async () => {
  const { started, failures } = await ticks(6.5, 0, (n) => n === 2 || n === 3 || n === 5);
  expect(failures).toEqual([1, 2, 1]);
  expect(started).toHaveLength(6);
});
