import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { main } from '../main.ts';
import { gpuRanges } from './switch-plan.ts';

let out = '';
let err = '';
beforeEach(() => {
  [out, err] = ['', ''];
  vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
    out += text;
    return true;
  });
  vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
    err += text;
    return true;
  });
});
afterEach(() => vi.restoreAllMocks());

const run = (...args: string[]) => main(['switch-plan', ...args]);

test('--json prints exactly what scripts rely on', async () => {
  expect(await run('--from', '4xTP8', '--to', '8xTP4', '--gpus', '32', '--json')).toBe(0);
  const plan = JSON.parse(out);
  expect(Object.keys(plan)).toEqual(['bytes', 'seconds', 'lowerBoundSeconds', 'links', 'steps']);
  expect(plan.bytes / 1e9).toBeCloseTo(552, -1);
  expect(Object.keys(plan.links[0])).toEqual(['from', 'to', 'bytes', 'seconds']);
  expect(Object.keys(plan.steps[0])).toEqual(['replica', 'action', 'seconds']);
  const sum = (entries: { bytes: number }[]) => entries.reduce((total, { bytes }) => total + bytes, 0);
  expect(sum(plan.links)).toBe(plan.bytes);
  expect(err).toBe('');
});

test('equal questions get equal answers', async () => {
  await run('--from', '2xTP8', '--to', '1xTP8,2xTP4', '--json');
  const first = out;
  out = '';
  await run('--from', '2xTP8', '--to', '1xTP8,2xTP4', '--json');
  expect(out).toBe(first);
});

test('the table names every replica with its way and its steps', async () => {
  expect(await run('--from', '2xTP8', '--to', '1xTP8,2xTP4')).toBe(0);
  for (const part of ['2xTP8 → 1xTP8,2xTP4', 'stays', 'leaves', 'new-process', 'drain 5.0 → park 0.50', 'at least']) {
    expect(out).toContain(part);
  }
});

test.each([
  [['--from', '4xTP8', '--to', '8xTP4'], /needs 32 GPUs .* has 16/],
  [['--from', '4xQ8', '--to', '8xTP4'], /Cannot read "4xQ8"/],
  [['--from', '1xTP3', '--to', '1xTP4'], /TP3 is illegal: llama2-70b has 64 heads/],
  [['--from', '1xTP8', '--to', '1xTP8', '--model', 'llama-30b'], /52 heads/],
  [['--from', '1xTP8', '--to', '1xTP4', '--planner', 'optimal'], /"optimal" is not part of this version/],
  [['--from', '1xTP1', '--to', '1xTP4'], /needs 128\.\d GiB of weights/],
  [['--from', '1xTP8', '--to', '1xTP4', '--gpus', 'many'], /--gpus is "many"/],
])('%j is refused with a reason', async (args, reason) => {
  expect(await run(...args)).toBe(1);
  expect(err).toMatch(reason);
  expect(out).toBe('');
});

test('runs of GPU numbers are written short, in rank order', () => {
  expect(gpuRanges([0, 1, 2, 3])).toBe('0-3');
  expect(gpuRanges([0, 2, 3, 1, 5])).toBe('0,2-3,1,5');
});
