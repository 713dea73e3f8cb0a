import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { sharedDataTest } from '../../../test/support/shared-data.ts';
import { ConfigError, type TraceRequest } from '../../core/domain/index.ts';
import { quantile, random } from '../../core/math/index.ts';
import {
  DEFAULT_FROM,
  DEFAULT_TO,
  driftShare,
  fitService,
  formatTrace,
  generateRequests,
  generateTrace,
  readTrace,
  readTraceFile,
  SERVICES,
  type ServiceName,
  traceStats,
  writeTrace,
} from './index.ts';

const folder = mkdtempSync(join(tmpdir(), 'oserve-generate-'));
afterAll(() => rmSync(folder, { recursive: true }));

const steady = { ratePerSecond: 10, variation: 0, from: { chat: 1 }, to: { chat: 1 } };

describe('generated traffic', () => {
  test('equal seeds make equal traces, other seeds others', () => {
    const make = (seed: number) => generateTrace({ minutes: 10, ratePerSecond: 5, seed });
    expect(make(1)).toEqual(make(1));
    expect(make(1)).not.toEqual(make(2));
  });

  test('a longer trace begins with the shorter one, and the endless traffic begins with both', () => {
    const options = { ratePerSecond: 5, seed: 3 };
    const long = generateTrace({ ...options, minutes: 8 });
    const short = generateTrace({ ...options, minutes: 3 });
    expect(long.slice(0, short.length)).toEqual(short);
    const endless = generateRequests(options);
    for (const request of long) expect(endless.next().value).toEqual(request);
  });

  test('requests are sorted, in time, of whole tokens within what the service saw, and of a named tenant', () => {
    const trace = generateTrace({
      minutes: 30,
      ratePerSecond: 8,
      seed: 1,
      from: { chat: 1, reasoning: 0.3 },
      to: { code: 2 },
    });
    let before = 0;
    for (const request of trace) {
      const service = SERVICES[request.tenant as ServiceName];
      const inside = (value: number, [low, high]: readonly [number, number]) =>
        Number.isInteger(value) && value >= low && value <= high;
      if (request.arrivalSeconds < before || request.arrivalSeconds >= 1800) expect.fail('time runs');
      if (!inside(request.inputTokens, service.inputTokens)) expect.fail(`input of ${JSON.stringify(request)}`);
      if (!inside(request.outputTokens, service.outputTokens)) expect.fail(`output of ${JSON.stringify(request)}`);
      before = request.arrivalSeconds;
    }
    expect(new Set(trace.map((r) => r.tenant))).toEqual(new Set(['chat', 'code', 'reasoning']));
  });

  test('without variation it is Poisson of the given rate: mean and variance per minute agree', () => {
    const { requestsPerMinute } = traceStats(generateTrace({ ...steady, minutes: 600, seed: 4 }));
    expect(Math.abs(requestsPerMinute.mean - 600)).toBeLessThan(4);
    expect((requestsPerMinute.cv * requestsPerMinute.mean) ** 2 / requestsPerMinute.mean).toBeGreaterThan(0.85);
    expect((requestsPerMinute.cv * requestsPerMinute.mean) ** 2 / requestsPerMinute.mean).toBeLessThan(1.15);
  });

  test('with variation the rate wanders as much as the real service does, around the same mean', () => {
    const traces = [1, 2, 3, 4].map((seed) => generateTrace({ ...steady, variation: 1, minutes: 400, seed }));
    const stats = traces.map((trace) => traceStats(trace).requestsPerMinute);
    const mean = (of: (s: (typeof stats)[number]) => number) => stats.reduce((sum, s) => sum + of(s), 0) / stats.length;
    expect(mean((s) => s.mean) / 600).toBeCloseTo(1, 1);
    // Azure's conversations: CV 0.20 over minutes.
    expect(mean((s) => s.cv)).toBeGreaterThan(0.15);
    expect(mean((s) => s.cv)).toBeLessThan(0.25);
  });

  test('more of one service changes nothing in another', () => {
    const chat = (code: number) =>
      generateTrace({ minutes: 10, ratePerSecond: 5, seed: 7, from: { chat: 1, code }, to: { chat: 1, code } }).filter(
        (request) => request.tenant === 'chat',
      );
    expect(chat(3)).toEqual(chat(0.1));
  });

  test('the mix rests at both ends of the drift and comes back', () => {
    expect([0, 2, 17, 19.9].map((minute) => driftShare(60 * minute, 20))).toEqual([0, 0, 0, 0]);
    expect([8, 10, 12].map((minute) => driftShare(60 * minute, 20))).toEqual([1, 1, 1]);
    expect(driftShare(300, 20)).toBeCloseTo(0.5, 9);
    const resting = Array.from({ length: 2000 }, (_, i) => driftShare(i, 2000 / 60)).filter((s) => s === 0 || s === 1);
    expect(resting.length / 2000).toBeGreaterThan(0.6);
  });

  test('the default drift turns long answers to short prompts into short answers to long prompts, and back', () => {
    const trace = generateTrace({ minutes: 40, ratePerSecond: 10, seed: 1, periodMinutes: 20, variation: 0 });
    const ratio = (fromMinute: number, toMinute: number) => {
      const part = trace.filter((r) => r.arrivalSeconds >= 60 * fromMinute && r.arrivalSeconds < 60 * toMinute);
      const sum = (of: (r: TraceRequest) => number) => part.reduce((total, r) => total + of(r), 0);
      return sum((r) => r.inputTokens) / sum((r) => r.outputTokens);
    };
    expect(ratio(0, 3)).toBeLessThan(7);
    expect(ratio(8, 12)).toBeGreaterThan(40);
    expect(ratio(18, 22)).toBeLessThan(7);
    expect(ratio(28, 32)).toBeGreaterThan(40);
    expect(Object.keys({ ...DEFAULT_FROM, ...DEFAULT_TO }).sort()).toEqual(['chat', 'code']);
  });

  test('what makes no traffic is a clear error', () => {
    const attempt = (options: object) => () => generateTrace({ minutes: 1, ratePerSecond: 1, seed: 1, ...options });
    expect(attempt({ minutes: 0 })).toThrow(/A trace of 0 minutes cannot be made/);
    expect(attempt({ ratePerSecond: -1 })).toThrow(/The rate of generated traffic is -1/);
    expect(attempt({ periodMinutes: 0 })).toThrow(/period of the drift is 0/);
    expect(attempt({ variation: 2 })).toThrow(/variation is 2/);
    expect(attempt({ from: { chat: 0 }, to: {} })).toThrow(/mix of generated traffic is empty/);
    expect(attempt({ from: { chat: -1 } })).toThrow(/weight of chat is -1/);
    expect(attempt({ from: { poetry: 1 } })).toThrow(ConfigError);
    expect(attempt({ from: { toString: 1 } })).toThrow(/no service "toString"/);
  });
});

describe('written traces', () => {
  test('read back to equal requests, plain and compressed, with odd names too', async () => {
    const trace: TraceRequest[] = [
      ...generateTrace({ minutes: 3, ratePerSecond: 5, seed: 2 }),
      { arrivalSeconds: 200.125, inputTokens: 1, outputTokens: 2, tenant: 'a, "b"', model: 'opt-30b' },
      { arrivalSeconds: 201, inputTokens: 3, outputTokens: 4 },
    ];
    for (const name of ['trace.csv', 'trace.csv.gz']) {
      const file = join(folder, name);
      await writeTrace(file, trace);
      expect(await readTrace(file)).toEqual(trace);
    }
    expect(formatTrace([{ arrivalSeconds: 0, inputTokens: 1, outputTokens: 2 }])).toBe(
      'arrival_s,input_tokens,output_tokens\n0,1,2\n',
    );
  });

  test('a folder that does not exist is an error with the name', async () => {
    await expect(writeTrace(join(folder, 'no', 'x.csv'), [])).rejects.toThrow(/x\.csv: cannot be written/);
  });
});

const sources: Readonly<Record<ServiceName, string>> = {
  chat: 'azure2023_conv_50min',
  code: 'azure2023_code_first_half',
  'long-chat': 'mooncake_conversation',
  reasoning: 'servegen_deepseekr1_requests_4rps',
};

sharedDataTest('the numbers of each service are what `oserve trace fit` finds in its source', async (file) => {
  for (const name of ['chat', 'code'] as const) {
    const { requests } = await readTraceFile(file(`traces/${sources[name]}.csv.gz`));
    const fitted = fitService(sources[name], requests, 6, random('1').fork('fit'));
    expect({ ...fitted, lengths: [] }).toEqual({ ...SERVICES[name], lengths: [] });
    expect(fitted.lengths).toHaveLength(6);
    // The last digits of logarithms may differ between builds of Node.
    fitted.lengths.forEach((component, k) => {
      for (const [key, value] of Object.entries(component))
        expect(value, `${name} ${k} ${key}`).toBeCloseTo(SERVICES[name].lengths[k]![key as 'weight'], 2);
    });
  }
});

sharedDataTest('generated lengths have the quantiles and means of the real service', async (file) => {
  for (const [name, source] of Object.entries(sources) as [ServiceName, string][]) {
    const { requests } = await readTraceFile(file(`traces/${source}.csv.gz`));
    const made = generateTrace({
      minutes: 100,
      ratePerSecond: 5,
      variation: 0,
      seed: name,
      from: { [name]: 1 },
      to: { [name]: 1 },
    });
    for (const of of ['inputTokens', 'outputTokens'] as const) {
      const real = Float64Array.from(requests, (r) => r[of]).sort();
      const ours = Float64Array.from(made, (r) => r[of]).sort();
      const mean = (values: Float64Array) => values.reduce((sum, value) => sum + value, 0) / values.length;
      expect(Math.abs(mean(ours) / mean(real) - 1), `${name} mean ${of}`).toBeLessThan(0.1);
      // p10 to p90 within a fifth (a ratio of lengths), p99 within a third.
      for (const [share, factor] of [
        [0.1, 1.25],
        [0.5, 1.2],
        [0.9, 1.2],
        [0.99, 1.35],
      ] as const) {
        const ratio = quantile(ours, share) / quantile(real, share);
        expect(Math.max(ratio, 1 / ratio), `${name} ${of} p${100 * share}`).toBeLessThan(factor);
      }
    }
  }
});
