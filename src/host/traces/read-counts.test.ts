import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, expect, test } from 'vitest';
import { sharedDataTest } from '../../../test/support/shared-data.ts';
import { TraceError } from '../../core/domain/index.ts';
import { readCounts } from './index.ts';

const folder = mkdtempSync(join(tmpdir(), 'oserve-counts-'));
afterAll(() => rmSync(folder, { recursive: true }));
let files = 0;
const fileOf = (content: string | Uint8Array): string => {
  const file = join(folder, `${files++}.csv`);
  writeFileSync(file, content);
  return file;
};

test('empty cells and missing minutes are gaps, not zeros', async () => {
  const text = 'minute,chat,code\n5,10,\n6,0,3\n9,4,5\n';
  for (const file of [fileOf(text), fileOf(gzipSync(text))]) {
    const { columns, firstMinute, counts, gapCells } = await readCounts(file);
    expect(columns).toEqual(['chat', 'code']);
    expect(firstMinute).toBe(5);
    const gap = Number.NaN;
    expect(counts.map((row) => [...row])).toEqual([
      [10, gap],
      [0, 3],
      [gap, gap],
      [gap, gap],
      [4, 5],
    ]);
    expect(gapCells).toBe(5);
  }
});

test.each([
  ['an unknown first column', 'time,a\n0,1\n', /:1: the header is "time,a"; expected minute,COLUMN/],
  ['no columns', 'minute\n0\n', /:1: the header/],
  ['a column twice', 'minute,a,a\n0,1,2\n', /each column once \(a is there twice\)/],
  ['a word', 'minute,a\n0,1\n1,x\n', /:3: a is "x"; expected a count, 0 or more/],
  ['a negative count', 'minute,a\n0,-1\n', /:2: a is "-1"/],
  ['half a minute', 'minute,a\n0.5,1\n', /:2: minute is "0.5"; expected a whole number/],
  ['a minute twice', 'minute,a\n3,1\n3,1\n', /:3: minute is "3"; expected 4 or later/],
  ['a field too few', 'minute,a,b\n0,1\n', /:2: the row is "0,1"; expected 3 fields/],
  ['a leap of years', 'minute,a\n0,1\n99999999,1\n', /:3: minute is "99999999"; expected a minute within a year/],
  ['nothing but a header', 'minute,a\n', /no counts in it/],
])('%s is an error with its line', async (_, text, message) => {
  const error = await readCounts(fileOf(text)).catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(TraceError);
  expect((error as Error).message).toMatch(message);
});

sharedDataTest(
  'the digitised Azure weeks overlap only in part; each service has gaps outside its own days',
  async (file) => {
    const { columns, counts, gapCells } = await readCounts(file('traces/azure2024_minute_counts.csv.gz'));
    expect(columns).toEqual(['code', 'conv']);
    expect(counts).toHaveLength(8640);
    expect(counts.filter((row) => Number.isNaN(row[0]!))).toHaveLength(1440);
    expect(gapCells).toBe(counts.reduce((sum, row) => sum + row.filter((value) => Number.isNaN(value)).length, 0));
  },
);
