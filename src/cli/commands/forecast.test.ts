import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test, vi } from 'vitest';
import { sharedDataTest } from '../../../test/support/shared-data.ts';
import { evaluatePredictor, PREDICTORS } from '../../core/predict/index.ts';
import { readCounts } from '../../host/index.ts';
import { main } from '../main.ts';

const folder = mkdtempSync(join(tmpdir(), 'oserve-forecast-'));
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

const counts = join(folder, 'counts.csv');
writeFileSync(
  counts,
  `minute,chat,code\n${Array.from({ length: 200 }, (_, i) => `${i},${100 + (i % 7)},${i < 150 ? 20 + (i % 3) : ''}`).join('\n')}\n`,
);

test('forecast --json prints one object with every predictor and nothing else', async () => {
  const { code, stdout, stderr } = await run('forecast', '--counts', counts, '--json');
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  const { predictors, ...rest } = JSON.parse(stdout);
  expect(rest).toEqual({});
  expect(Object.keys(predictors)).toEqual([...PREDICTORS]);
  for (const score of Object.values<Record<string, unknown>>(predictors)) {
    expect(Object.keys(score).sort()).toEqual(
      ['byType', 'coverage', 'pinball', 'rrmse', 'rrmseOverFloor', 'secondsPerPrediction'].sort(),
    );
    expect(Object.keys(score.byType as object)).toEqual(['chat', 'code']);
    for (const key of ['rrmse', 'rrmseOverFloor', 'pinball', 'coverage', 'secondsPerPrediction'])
      expect(score[key], key).toBeTypeOf('number');
    expect(score.secondsPerPrediction).toBeGreaterThan(0);
  }
});

test('forecast prints a table for people, with the predictors that were asked for in their order', async () => {
  const { code, stdout } = await run('forecast', '--counts', counts, '--predictors', 'last-value, ewma');
  expect(code).toBe(0);
  expect(stdout).toMatch(/200 minutes, columns chat, code, 50 unknown cells/);
  expect(stdout.indexOf('last-value')).toBeLessThan(stdout.indexOf('ewma'));
  expect(stdout).not.toContain('moving-average');
});

test.each([
  [
    'an unknown predictor',
    ['--counts', counts, '--predictors', 'ewma,lstm'],
    /no predictor "lstm".\nhint: Predictors are ewma, last-value/,
  ],
  [
    'a horizon out of range',
    ['--counts', counts, '--horizon', '16'],
    /--horizon is "16"; expected a whole number of minutes, 1..15/,
  ],
  ['a file that does not exist', ['--counts', join(folder, 'no.csv')], /no\.csv: does not exist/],
  ['no file', [], /required option '--counts <file>' not specified/],
])('%s is a clear error, with nothing on standard output', async (_, flags, message) => {
  const { code, stdout, stderr } = await run('forecast', ...flags, '--json');
  expect(code).not.toBe(0);
  expect(stdout).toBe('');
  expect(stderr).toMatch(message);
});

test('a column with too few known minutes is an error with its name', async () => {
  const file = join(folder, 'short.csv');
  writeFileSync(file, `minute,a,b\n${Array.from({ length: 30 }, (_, i) => `${i},5,${i < 9 ? 1 : ''}`).join('\n')}\n`);
  const { code, stderr } = await run('forecast', '--counts', file);
  expect(code).toBe(1);
  expect(stderr).toMatch(/column b has 9 known minutes; 10 are needed/);
});

sharedDataTest(
  'last value has on real counts the error that a plain loop finds, and the EWMA is no worse',
  async (file) => {
    for (const name of ['servegen_mlarge_minute_types', 'servegen_msmall_minute_types', 'azure2024_minute_counts']) {
      const { columns, counts: rows } = await readCounts(file(`traces/${name}.csv.gz`));
      const score = (predictor: string) =>
        evaluatePredictor({ predictor, types: columns, counts: rows, windowSeconds: 60 });
      const last = score('last-value');
      for (const [j, column] of columns.entries()) {
        const known = rows.map((row) => row[j]!).filter((value) => !Number.isNaN(value));
        const from = Math.floor(0.9 * known.length);
        let squared = 0;
        let sum = 0;
        for (let i = from; i < known.length; i++) {
          squared += (known[i]! - known[i - 1]!) ** 2;
          sum += known[i]!;
        }
        const windows = known.length - from;
        expect(last.byType[column]!.rrmse).toBeCloseTo(Math.sqrt(squared / windows) / (sum / windows), 9);
      }
      const ewma = score('ewma');
      expect(ewma.rrmse).toBeLessThanOrEqual(last.rrmse);
      expect(ewma.coverage).toBeGreaterThan(0.86);
      expect(ewma.coverage).toBeLessThan(0.94);
    }
  },
);
