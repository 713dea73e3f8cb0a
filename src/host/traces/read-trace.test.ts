import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, describe, expect, test } from 'vitest';
import { sharedDataTest } from '../../../test/support/shared-data.ts';
import { TraceError } from '../../core/domain/index.ts';
import { readTrace, readTraceFile } from './index.ts';

const folder = mkdtempSync(join(tmpdir(), 'oserve-traces-'));
afterAll(() => rmSync(folder, { recursive: true }));
let files = 0;
const fileOf = (content: string | Uint8Array, suffix = 'csv'): string => {
  const file = join(folder, `${files++}.${suffix}`);
  writeFileSync(file, content);
  return file;
};

const azure = `TIMESTAMP,ContextTokens,GeneratedTokens\r
2023-11-16 18:15:46.6805900,374,44\r
2023-11-16 18:15:50.9951690,396,109\r
2023-11-16 18:16:46.6805900,20000,5000\r
`;
const burst = `Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type
5,ChatGPT,472,18,490,Conversation log
45,ChatGPT,1087,230,1317,Conversation log
1106,ChatGPT,0,0,0,Conversation log
1200,GPT-4,417,276,693,API log
1300,GPT-4,300,0,300,API log
`;
const mooncake = `{"timestamp": 27482, "input_length": 6955, "output_length": 52, "hash_ids": [46, 47]}
{"timestamp": 30535, "input_length": 6472, "output_length": 26, "hash_ids": [46, 48]}
`;

describe('published formats are read as they are', () => {
  test('Azure: calendar times with seven digits become seconds after the first, without losing digits', async () => {
    const { format, requests, notes } = await readTraceFile(fileOf(azure));
    expect(format).toBe('azure-llm-csv');
    expect(requests.map((r) => [r.inputTokens, r.outputTokens])).toEqual([
      [374, 44],
      [396, 109],
      [20000, 5000],
    ]);
    expect(requests[0]!.arrivalSeconds).toBe(0);
    expect(requests[1]!.arrivalSeconds).toBeCloseTo(4.314579, 9);
    expect(requests[2]!.arrivalSeconds).toBe(60);
    expect(notes).toEqual([]);
  });

  test('Azure 2024 writes a zone behind its times, which counts', async () => {
    const text = `TIMESTAMP,ContextTokens,GeneratedTokens
2024-05-10 00:00:00.009930+00:00,2162,5
2024-05-10 02:00:01.009930+02:00,2399,6
`;
    const { requests } = await readTraceFile(fileOf(text));
    expect(requests.map((r) => r.arrivalSeconds)).toEqual([0, 1]);
  });

  test('BurstGPT: failed calls are left out and counted, the service becomes the tenant, time starts at 0', async () => {
    const trace = await readTraceFile(fileOf(burst));
    expect(trace.format).toBe('burstgpt-csv');
    expect(trace.requests).toEqual([
      { arrivalSeconds: 0, inputTokens: 472, outputTokens: 18, tenant: 'ChatGPT, Conversation log' },
      { arrivalSeconds: 40, inputTokens: 1087, outputTokens: 230, tenant: 'ChatGPT, Conversation log' },
      { arrivalSeconds: 1195, inputTokens: 417, outputTokens: 276, tenant: 'GPT-4, API log' },
    ]);
    expect(trace.skippedRows).toBe(2);
    expect(trace.notes).toEqual([
      expect.stringMatching(/2 rows without input or output tokens left out .*first at line 4/),
    ]);
  });

  test('BurstGPT of a later release, with columns between, is read by its column names', async () => {
    const text = `Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type
7,s1,1.5,ChatGPT,10,20,30,Conversation log
`;
    expect((await readTraceFile(fileOf(text))).requests).toEqual([
      { arrivalSeconds: 0, inputTokens: 10, outputTokens: 20, tenant: 'ChatGPT, Conversation log' },
    ]);
  });

  test('Mooncake: milliseconds become seconds after the first', async () => {
    const { format, requests } = await readTraceFile(fileOf(mooncake, 'jsonl'));
    expect(format).toBe('mooncake-jsonl');
    expect(requests[0]).toEqual({ arrivalSeconds: 0, inputTokens: 6955, outputTokens: 52 });
    expect(requests[1]!.arrivalSeconds).toBeCloseTo(3.053, 9);
  });

  test('our own schema keeps its times, and takes tenants from `source` or `client`', async () => {
    const text = 'arrival_s,input_tokens,output_tokens,source\n12.5,7,8,conv\n13,9,10,code';
    expect((await readTraceFile(fileOf(text))).requests).toEqual([
      { arrivalSeconds: 12.5, inputTokens: 7, outputTokens: 8, tenant: 'conv' },
      { arrivalSeconds: 13, inputTokens: 9, outputTokens: 10, tenant: 'code' },
    ]);
  });

  test('gzip is known by its content, whatever the name, also in many chunks', async () => {
    const rows = Array.from({ length: 60_000 }, (_, i) => `${i / 4},${1 + (i % 977)},${1 + (i % 311)}`);
    const text = `arrival_s,input_tokens,output_tokens\n${rows.join('\n')}\n`;
    const plain = await readTraceFile(fileOf(text));
    const zipped = await readTraceFile(fileOf(gzipSync(text), 'csv'));
    expect(zipped.requests).toEqual(plain.requests);
    expect(plain.requests).toHaveLength(60_000);
    expect(plain.requests[59_999]).toEqual({ arrivalSeconds: 59_999 / 4, inputTokens: 403, outputTokens: 288 });
  });
});

describe('bad rows are errors with file, line, finding and expectation', () => {
  const header = 'arrival_s,input_tokens,output_tokens\n';
  test.each([
    ['a word for a number', `${header}0,1,2\n1,x,2\n`, /:3: input_tokens is "x"; expected a whole number of tokens/],
    ['a negative count', `${header}0,1,-2\n`, /:2: output_tokens is "-2"; expected a whole number/],
    ['half a token', `${header}0,1.5,2\n`, /:2: input_tokens is "1.5"/],
    ['an empty field', `${header}0,,2\n`, /:2: input_tokens is ""/],
    ['a negative time', `${header}-1,1,2\n`, /:2: arrival_s is "-1"; expected seconds, 0 or more/],
    ['a field too many', `${header}0,1,2,3\n`, /:2: the row is "0,1,2,3"; expected 3 fields as in the header/],
    ['a field too few', `${header}\n0,1\n`, /:3: the row is "0,1"; expected 3 fields/],
    ['a day that does not exist', azure.replace('11-16 18:16', '02-30 18:16'), /:4: TIMESTAMP is "2023-02-30/],
    ['an epoch for a calendar time', azure.replace('2023-11-16 18:15:46.6805900', '170'), /:2: TIMESTAMP is "170"/],
    ['JSON cut short', `${mooncake}{"timestamp": 1`, /:3: the row is .* expected one complete JSON object/],
    ['JSON without a length', `{"timestamp": 1, "output_length": 3}`, /:1: input_length is """"; expected a whole/],
    ['a BurstGPT count in words', burst.replace('1087', 'many'), /:3: Request tokens is "many"/],
    ['an unknown header', 'a,b,c\n1,2,3\n', /:1: the first line is "a,b,c"; expected the first line of a known/],
  ])('%s', async (_, text, message) => {
    const error = await readTraceFile(fileOf(text)).then(
      () => null,
      (thrown: unknown) => thrown,
    );
    expect(error).toBeInstanceOf(TraceError);
    expect((error as TraceError).message).toMatch(message);
    expect((error as TraceError).message).toContain(folder);
    expect((error as TraceError).hint).toBeTruthy();
  });

  test('missing files, empty files, folders and damaged archives say so', async () => {
    await expect(readTraceFile(join(folder, 'nothing.csv'))).rejects.toThrow(/does not exist/);
    await expect(readTraceFile(fileOf(''))).rejects.toThrow(/is empty/);
    await expect(readTraceFile(fileOf(header))).rejects.toThrow(/no request in it/);
    await expect(readTraceFile(folder)).rejects.toThrow(TraceError);
    const half = gzipSync(`${header}${'0,1,2\n'.repeat(50_000)}`).subarray(0, 120);
    await expect(readTraceFile(fileOf(half))).rejects.toThrow(/cannot be read after line/);
  });
});

test('times that span more than ten years are in another unit or broken, and said to be', async () => {
  const text = 'arrival_s,input_tokens,output_tokens\n0,1,1\n1700000000000,2,2\n';
  await expect(readTraceFile(fileOf(text))).rejects.toThrow(/its rows span 19675926 days; expected at most 3650/);
});

test('rows out of order are sorted in, ties keep the order of the file, and it is reported', async () => {
  const file = fileOf('arrival_s,input_tokens,output_tokens\n2,1,1\n1,2,2\n2,3,3\n0,4,4\n');
  const trace = await readTraceFile(file);
  expect(trace.requests.map((r) => [r.arrivalSeconds, r.inputTokens])).toEqual([
    [0, 4],
    [1, 2],
    [2, 1],
    [2, 3],
  ]);
  expect(trace.rowsOutOfOrder).toBe(2);
  const notes: string[] = [];
  expect(await readTrace(file, (note) => notes.push(note))).toEqual(trace.requests);
  expect(notes).toEqual(trace.notes);
  expect(notes[0]).toMatch(/2 rows arrived before the row above them/);
});

sharedDataTest('the real Azure conversation trace has the rows and means that awk counts in it', async (file) => {
  const { requests, notes } = await readTraceFile(file('traces/azure2023_conv_50min.csv.gz'));
  expect(requests).toHaveLength(17_301);
  expect(notes).toEqual([]);
  const mean = (of: (i: number) => number) => requests.reduce((sum, _, i) => sum + of(i), 0) / requests.length;
  expect(mean((i) => requests[i]!.inputTokens)).toBeCloseTo(1179.4507, 4);
  expect(mean((i) => requests[i]!.outputTokens)).toBeCloseTo(204.3047, 4);
  expect(requests.at(-1)!.arrivalSeconds / 60).toBeCloseTo(50, 0);
});

sharedDataTest('every shared request trace is read without a note', async (file) => {
  for (const name of ['azure2023_mixed_29min', 'azure2023_code_first_half', 'mooncake_conversation']) {
    const trace = await readTraceFile(file(`traces/${name}.csv.gz`));
    expect(trace.notes).toEqual([]);
    expect(trace.requests.length).toBeGreaterThan(5000);
  }
});
