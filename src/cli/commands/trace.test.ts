import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test, vi } from 'vitest';
import { sharedDataTest } from '../../../test/support/shared-data.ts';
import { generateTrace, readTrace } from '../../host/index.ts';
import { main } from '../main.ts';

const folder = mkdtempSync(join(tmpdir(), 'oserve-trace-'));
afterAll(() => rmSync(folder, { recursive: true }));

async function run(...argv: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const texts = { stdout: '', stderr: '' };
  const spies = (['stdout', 'stderr'] as const).map((stream) =>
    vi.spyOn(process[stream], 'write').mockImplementation((text) => {
      texts[stream] += text;
      return true;
    }),
  );
  try {
    return { code: await main(argv), ...texts };
  } finally {
    for (const spy of spies) spy.mockRestore();
  }
}

test('generate writes the trace that its seed makes, to a file or to standard output alike', async () => {
  const file = join(folder, 'made.csv.gz');
  const flags = [
    '--minutes',
    '4',
    '--rate',
    '3',
    '--from',
    'chat=1',
    '--to',
    'code=2,chat=0.5',
    '--period',
    '4',
    '--seed',
    '9',
  ];
  const toFile = await run('trace', 'generate', ...flags, '--output', file);
  expect(toFile).toMatchObject({ code: 0, stderr: '' });
  const expected = generateTrace({
    minutes: 4,
    ratePerSecond: 3,
    from: { chat: 1 },
    to: { code: 2, chat: 0.5 },
    periodMinutes: 4,
    seed: '9',
  });
  expect(await readTrace(file)).toEqual(expected);
  const printed = await run('trace', 'generate', ...flags);
  const plain = join(folder, 'plain.csv');
  writeFileSync(plain, printed.stdout);
  expect(await readTrace(plain)).toEqual(expected);
});

test('stats --json says what is in a trace, types included, and what was left out', async () => {
  const file = join(folder, 'burst.csv');
  const rows = Array.from({ length: 400 }, (_, i) =>
    i % 2 === 0
      ? `${i},ChatGPT,${100 + (i % 9)},${400 + (i % 30)},0,API log`
      : `${i},GPT-4,${3000 + i},${10 + (i % 3)},0,API log`,
  );
  writeFileSync(
    file,
    `Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n${rows.join('\n')}\n400,GPT-4,0,0,0,API log\n`,
  );
  const { code, stdout, stderr } = await run('trace', 'stats', file, '--json');
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  const stats = JSON.parse(stdout);
  expect(stats).toMatchObject({
    format: 'burstgpt-csv',
    requests: 400,
    skippedRows: 1,
    rowsOutOfOrder: 0,
    spanSeconds: 399,
  });
  expect(stats.requestsPerMinute).toMatchObject({ mean: 60, cv: 0, peak: 60 });
  expect(stats.tenants.map((t: { requests: number }) => t.requests)).toEqual([200, 200]);
  expect(stats.types).toHaveLength(4);
  expect(stats.types.reduce((sum: number, type: { share: number }) => sum + type.share, 0)).toBeCloseTo(1, 9);
  const short = stats.types.filter((type: { inputTokens: number }) => type.inputTokens < 1000);
  expect(short.reduce((sum: number, type: { share: number }) => sum + type.share, 0)).toBeCloseTo(0.5, 9);
  const text = await run('trace', 'stats', file);
  expect(text.stdout).toMatch(/400 requests in 6\.7 minutes/);
  expect(text.stdout).toMatch(/note: .*1 rows without input or output tokens left out/);
});

test.each([
  ['an unknown service', ['generate', '--from', 'poetry=1'], /no service "poetry".*\nhint: Services are chat, code/],
  ['a weight in words', ['generate', '--from', 'chat=much'], /The weight of chat is "much"/],
  ['a rate of nothing', ['generate', '--rate', '0'], /rate of generated traffic is 0/],
  ['a bad row', ['stats', join(folder, 'bad.csv')], /bad\.csv:2: input_tokens is "x"; expected a whole number/],
  ['a tenant that is not there', ['fit', join(folder, 'few.csv'), '--tenant', 'x'], /has no request of tenant "x"/],
  ['too few requests to fit', ['fit', join(folder, 'few.csv')], /2 requests are too few to fit 6 components/],
])('%s is a clear error', async (_, argv, message) => {
  writeFileSync(join(folder, 'bad.csv'), 'arrival_s,input_tokens,output_tokens\n0,x,1\n');
  writeFileSync(join(folder, 'few.csv'), 'arrival_s,input_tokens,output_tokens\n0,1,1\n1,2,2\n');
  const { code, stdout, stderr } = await run('trace', ...argv);
  expect(code).toBe(1);
  expect(stdout).toBe('');
  expect(stderr).toMatch(message);
});

sharedDataTest('stats shows the two services of the mixed Azure trace', async (file) => {
  const { stdout } = await run('trace', 'stats', file('traces/azure2023_mixed_29min.csv.gz'), '--json');
  const stats = JSON.parse(stdout);
  expect(stats.requests).toBe(15_420);
  expect(stats.tenants.map((t: { tenant: string }) => t.tenant)).toEqual(['conv', 'code']);
});
