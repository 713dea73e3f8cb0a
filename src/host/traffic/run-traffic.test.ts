import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import type { TraceRequest } from '../../core/domain/index.ts';
import {
  fold,
  foldAll,
  HEADER_OUTPUT_TOKENS,
  nextToken,
  SSE_DONE,
  SSE_HEADERS,
  sseData,
  startState,
} from '../../wire/index.ts';
import { clientLimit, promptTokens, type ServerFacts } from './prompts.ts';
import { repeatTrace, runTraffic } from './run-traffic.ts';
import { SwitchWatch } from './server-facts.ts';

interface Body {
  readonly prompt: number[];
  readonly max_tokens: number;
  readonly ignore_eos?: boolean;
  readonly model: string;
}
interface Seen {
  readonly body: Body;
  readonly headers: IncomingMessage['headers'];
}

const servers: Server[] = [];
afterEach(async () => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
});

/** A server that answers at once, right by default; `before` may answer in its place. */
async function serve(
  before: (number: number, seen: Seen, res: ServerResponse) => boolean = () => false,
  emulated = true,
): Promise<{ url: string; seen: Seen[] }> {
  const seen: Seen[] = [];
  const server = createServer((req, res) => {
    if (req.url === '/oserve/status' && emulated) {
      const status = { emulated: true, speed: 1000, models: ['m'], deployment: 'm:1xTP4@G', routingVersion: 1 };
      return res.end(JSON.stringify(status));
    }
    if (req.url === '/v1/models') {
      return res.end(JSON.stringify({ object: 'list', data: [{ id: 'm', max_model_len: 5000 }] }));
    }
    if (req.url !== '/v1/completions') return res.writeHead(404).end();
    let text = '';
    req.on('data', (chunk) => {
      text += chunk;
    });
    req.on('end', () => {
      const request = { body: JSON.parse(text) as Body, headers: req.headers };
      seen.push(request);
      if (before(seen.length - 1, request, res)) return;
      answer(request, res);
    });
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, seen };
}

function answer({ body, headers }: Seen, res: ServerResponse, lose = -1): void {
  const length = Number(headers[HEADER_OUTPUT_TOKENS] ?? body.max_tokens);
  res.writeHead(200, SSE_HEADERS);
  let state = foldAll(startState(), body.prompt);
  for (let i = 0; i < length; i++) {
    const token = nextToken(state);
    state = fold(state, token);
    const finish = i === length - 1 ? 'stop' : null;
    if (i !== lose)
      res.write(sseData(JSON.stringify({ choices: [{ text: 'x', token_ids: [token], finish_reason: finish }] })));
  }
  const prompt = body.prompt.length;
  const usage = { prompt_tokens: prompt, total_tokens: prompt + length, completion_tokens: length };
  res.end(sseData(JSON.stringify({ choices: [], usage })) + SSE_DONE);
}

const trace = (count: number): TraceRequest[] =>
  Array.from({ length: count }, (_, i) => ({ arrivalSeconds: 7 + i, inputTokens: 5 + i, outputTokens: 1 + (i % 9) }));

test('every request of the trace is sent once, and whole answers are counted', async () => {
  const { url, seen } = await serve();
  const report = await runTraffic({ url, requests: trace(40), seed: 1 });
  expect(report).toMatchObject({ sent: 40, completed: 40, refused: 0, failed: 0, errors: {}, retries: 0, speed: 1000 });
  expect(report.outputTokens).toBe(trace(40).reduce((sum, { outputTokens }) => sum + outputTokens, 0));
  expect(report.metrics).toMatchObject({ requests: 40, completed: 40 });
  expect(seen.map(({ body }) => body.prompt.length).sort((a, b) => a - b)).toEqual(trace(40).map((r) => r.inputTokens));
  expect(seen.every(({ body }) => body.max_tokens >= 1024)).toBe(true);
  expect(seen.every(({ headers }) => headers[HEADER_OUTPUT_TOKENS] !== undefined)).toBe(true);
});

test('answers that are not whole are errors by kind', async () => {
  const { url } = await serve((number, seen, res) => {
    if (number === 3) answer({ ...seen, headers: { [HEADER_OUTPUT_TOKENS]: '30' } }, res);
    if (number === 5) answer({ ...seen, headers: { [HEADER_OUTPUT_TOKENS]: '2' } }, res, 0);
    if (number === 6) {
      res.writeHead(200, SSE_HEADERS);
      res.write(sseData(JSON.stringify({ choices: [{ text: 'x', token_ids: [], finish_reason: null }] })), () =>
        res.destroy(),
      );
    }
    if (number === 7) res.writeHead(401).end(JSON.stringify({ error: { message: 'no key', code: 'invalid_api_key' } }));
    return [3, 5, 6, 7].includes(number);
  });
  const faults: string[] = [];
  const requests = trace(9).map((request, i) => ({ ...request, arrivalSeconds: 20 * i, outputTokens: 2 }));
  const report = await runTraffic({
    url,
    requests,
    seed: 1,
    onFault: (number, fault) => faults.push(`${number} ${fault}`),
  });
  expect(faults).toEqual(['3 repeated-tokens', '5 lost-tokens', '6 cut', '7 http-401']);
  expect(report.errors).toEqual({ 'repeated-tokens': 1, 'lost-tokens': 1, cut: 1, 'http-401': 1 });
  expect([report.completed, report.failed, report.metrics!.e2eSeconds.p99]).toEqual([5, 4, Number.POSITIVE_INFINITY]);
});

test('a busy server is asked again, marked as a retry, and refuses in the end', async () => {
  const { url, seen } = await serve((number, { headers }, res) => {
    const busy = headers['x-stainless-retry-count'] === undefined || number >= 2;
    if (busy) res.writeHead(503, { 'retry-after': '0' }).end('{"error":{"message":"busy"}}');
    return busy;
  });
  const requests = [0, 1000].map((arrivalSeconds) => ({ arrivalSeconds, inputTokens: 5, outputTokens: 3 }));
  const report = await runTraffic({ url, requests, seed: 1 });
  expect(report).toMatchObject({ completed: 1, refused: 1, failed: 0, errors: {}, retries: 3 });
  expect(seen.map(({ headers }) => headers['x-stainless-retry-count'])).toEqual([undefined, '1', undefined, '1', '2']);
});

test('what does not fit is refused and not asked again', async () => {
  const { url, seen } = await serve((_number, _seen, res) => {
    res.writeHead(400).end(JSON.stringify({ error: { message: 'too long', code: 'context_length_exceeded' } }));
    return true;
  });
  expect(await runTraffic({ url, requests: trace(1), seed: 1 })).toMatchObject({ refused: 1, failed: 0, retries: 0 });
  expect(seen).toHaveLength(1);
});

test('a server that is not emulated is made to answer as long as the trace says, and tokens are only counted', async () => {
  const { url, seen } = await serve(undefined, false);
  const requests = trace(3).map((request) => ({ ...request, arrivalSeconds: 0 }));
  const report = await runTraffic({ url, requests, seed: 1 });
  expect(report).toMatchObject({ completed: 3, emulated: false, speed: 1 });
  expect(seen.map(({ body, headers }) => [body.max_tokens, body.ignore_eos, headers[HEADER_OUTPUT_TOKENS]])).toEqual([
    [1, true, undefined],
    [2, true, undefined],
    [3, true, undefined],
  ]);
});

test('endless traffic ends by its signal, and keeps nothing per request', async () => {
  const { url } = await serve();
  const stop = new AbortController();
  const report = await runTraffic({
    url,
    requests: repeatTrace(trace(3)),
    seed: 1,
    keepOutcomes: false,
    signal: stop.signal,
    onProgress: ({ completed }) => completed === 10 && stop.abort(),
  });
  expect(report.completed).toBeGreaterThanOrEqual(10);
  expect([report.failed, report.metrics]).toEqual([0, null]);
});

test('nobody at the URL is one clear error', async () => {
  await expect(runTraffic({ url: 'http://127.0.0.1:9', requests: [], seed: 1 })).rejects.toThrow(/Nobody answers at/);
});

test('limits of clients never cut an answer, fit the model, and prompts follow from the seed', () => {
  const facts: ServerFacts = { emulated: true, speed: 1, models: ['m'], maxModelLen: new Map() };
  expect(facts.models).toHaveLength(1);
  let n = 0;
  const dice = { next: () => (n++ % 10) / 10, fork: () => dice };
  const limits = Array.from({ length: 10 }, () =>
    clientLimit({ arrivalSeconds: 0, inputTokens: 3000, outputTokens: 1200 }, 10_000, dice),
  );
  expect([...new Set(limits)].sort((a, b) => a - b)).toEqual([1200, 4096, 7000]);
  expect(promptTokens(7, 3, 50)).toEqual(promptTokens(7, 3, 50));
  expect(promptTokens(7, 3, 50)).not.toEqual(promptTokens(7, 4, 50));
  expect(new Set(promptTokens(7, 3, 1000)).size).toBeGreaterThan(900);
});

test('rounds of a repeated trace follow each other without a gap or an overlap', () => {
  const rounds = repeatTrace(trace(3));
  const arrivals = Array.from({ length: 7 }, () => rounds.next().value!.arrivalSeconds);
  expect(arrivals.every((at, i) => i === 0 || at > arrivals[i - 1]!)).toBe(true);
  expect([...repeatTrace([])]).toEqual([]);
});

test('changes of the deployment close together are one switch; a way there and back is none', () => {
  const watch = new SwitchWatch(30);
  for (const [deployment, at] of [
    ['A', 0],
    ['A', 5],
    ['', 10],
    ['B', 22],
    ['B', 40],
    ['B', 60],
    ['', 70],
    ['B', 80],
    ['C', 200],
  ] as const) {
    watch.saw(deployment, at);
  }
  watch.end();
  expect([watch.switches, watch.switchSeconds]).toEqual([2, 12]);
});
