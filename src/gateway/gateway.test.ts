import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { connect, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import OpenAI from 'openai';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { GatewayHarness, MODEL, readStreamText, replicaOf, routingOf } from '../../test/support/gateway-harness.ts';
import {
  bytesOf,
  chatPromptIds,
  expectedOutput,
  MockEngine,
  type MockEngineOptions,
} from '../../test/support/mock-engine.ts';
import { createLogger } from '../host/index.ts';
import type { RoutableReplica } from '../wire/index.ts';
import type { GatewayStart } from './index.ts';

/** Polls; the machine may be busy with other things. */
const until = (condition: () => boolean | Promise<boolean>) =>
  vi.waitUntil(condition, { timeout: 60_000, interval: 10 });

const closers: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

interface Setup {
  readonly engines?: readonly MockEngineOptions[];
  readonly gateway?: Partial<GatewayStart>;
  readonly replicas?: readonly Partial<RoutableReplica>[];
  /** false: nothing is routed yet. */
  readonly routed?: boolean;
}

async function setUp({ engines = [{}], gateway = {}, replicas = [], routed = true }: Setup = {}) {
  const harness = await GatewayHarness.start({ models: [{ name: MODEL, maxModelLen: 100_000 }], ...gateway });
  closers.push(() => harness.gateway.close(0));
  const mocks: MockEngine[] = [];
  for (const options of engines) {
    const mock = await MockEngine.start(options);
    mocks.push(mock);
    closers.push(() => mock.kill());
  }
  const listed = mocks.map((mock, i) => replicaOf(mock, `r${i}`, replicas[i]));
  if (routed) await harness.route(listed);
  return { harness, mocks, listed, first: mocks[0]! };
}

const messages = [{ role: 'user', content: 'hello “there”' }];
const chat = (more: object = {}) => ({ model: MODEL, messages, max_tokens: 20, ...more });
const completion = (more: object = {}) => ({ model: MODEL, prompt: 'hello', max_tokens: 20, ...more });
const errorOf = async (response: Response) =>
  ((await response.json()) as { error: { message: string; type: string; param: string | null; code: string } }).error;

describe('the OpenAI API', () => {
  test('serves the openai client: chat, streams, completions, models', async () => {
    const { harness } = await setUp();
    const client = new OpenAI({ baseURL: `${harness.url}/v1`, apiKey: 'none', maxRetries: 0 });
    const expected = expectedOutput(chatPromptIds(messages), 20);

    const whole = await client.chat.completions.create({ model: MODEL, messages: messages as never, max_tokens: 20 });
    expect(whole.choices[0]?.message.content).toBe(expected.text);
    expect(whole.usage?.completion_tokens).toBe(expected.ids.length);

    let text = '';
    let usage: unknown = null;
    const stream = await client.chat.completions.create({
      model: MODEL,
      messages: messages as never,
      max_tokens: 20,
      stream: true,
      stream_options: { include_usage: true },
    });
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta.content ?? '';
      usage = chunk.usage ?? usage;
    }
    expect(text).toBe(expected.text);
    expect(usage).toMatchObject({ completion_tokens: expected.ids.length });

    const plain = await client.completions.create({ model: MODEL, prompt: 'hello', max_tokens: 9 });
    expect(plain.choices[0]?.text).toBe(expectedOutput(bytesOf('hello'), 9).text);

    const models = await client.models.list();
    expect(models.data.map((model) => model.id)).toEqual([MODEL]);
    expect((await client.models.retrieve(MODEL)).id).toBe(MODEL);
    await expect(client.models.retrieve('other')).rejects.toMatchObject({ status: 404, code: 'model_not_found' });
    await expect(client.chat.completions.create({ model: 'other', messages: [] })).rejects.toMatchObject({
      status: 404,
      code: 'model_not_found',
      message: expect.stringContaining(MODEL),
    });
  });

  test('a client of the openai library that aborts frees its slot at the engine', async () => {
    const { harness, first } = await setUp();
    first.scripts.push({ events: 5, ending: 'hold' });
    const held = first.nextHold();
    const client = new OpenAI({ baseURL: `${harness.url}/v1`, apiKey: 'none', maxRetries: 0 });
    const stream = await client.chat.completions.create({ model: MODEL, messages: messages as never, stream: true });
    await held;
    stream.controller.abort();
    await first.idle();
    expect(first.abandoned).toBe(1);
    expect((await harness.status()).runningByReplica).toEqual({ r0: 0 });
  });

  test('refusals have the right status and OpenAI’s shape', async () => {
    const { harness } = await setUp({ gateway: { maxBodyBytes: 2000 } });
    const cases: [string, RequestInit, number, string][] = [
      ['/v1/nothing', {}, 404, 'unknown_path'],
      ['/v1/chat/completions', { method: 'GET' }, 405, 'method_not_allowed'],
      ['/v1/models', { method: 'POST', body: '{}' }, 405, 'method_not_allowed'],
      ['/v1/chat/completions', { method: 'POST', body: '{"model":' }, 400, 'invalid_json'],
      ['/v1/chat/completions', { method: 'POST', body: '[]' }, 400, 'invalid_json'],
      ['/v1/completions', { method: 'POST', body: '{"prompt":"x"}' }, 400, 'missing_model'],
      ['/v1/completions', { method: 'POST', body: '{"model":"x"}' }, 404, 'model_not_found'],
      ['/v1/completions', { method: 'POST', body: `{"model":"${'x'.repeat(3000)}"}` }, 413, 'body_too_large'],
      [
        '/v1/completions',
        { method: 'POST', body: '{}', headers: { 'content-encoding': 'gzip' } },
        415,
        'unsupported_encoding',
      ],
    ];
    for (const [path, init, status, code] of cases) {
      const response = await fetch(`${harness.url}${path}`, init);
      expect(response.status, `${init.method ?? 'GET'} ${path}`).toBe(status);
      expect(response.headers.get('content-type')).toBe('application/json');
      const error = await errorOf(response);
      expect(error).toMatchObject({ code, message: expect.any(String), type: expect.any(String) });
      expect(error).toHaveProperty('param');
    }
  });

  test('a body that grows beyond the limit without saying so is refused as well', async () => {
    const { harness } = await setUp({ gateway: { maxBodyBytes: 2000 } });
    const status = await new Promise<number | undefined>((resolve, reject) => {
      const req = httpRequest(`${harness.url}/v1/completions`, { method: 'POST' }, (res) => resolve(res.statusCode));
      req.on('error', reject);
      req.write(`{"model":"${'x'.repeat(1500)}`);
      req.write('x'.repeat(1500));
    });
    expect(status).toBe(413);
  });

  test('a request that is longer than every replica takes is refused with its numbers', async () => {
    const { harness, first } = await setUp({
      gateway: { models: [{ name: MODEL, maxModelLen: 50 }] },
      replicas: [{ maxModelLen: 50 }],
    });
    const response = await harness.post('/v1/completions', completion({ prompt: [1, 2, 3, 4, 5, 6], max_tokens: 45 }));
    expect(response.status).toBe(400);
    const error = await errorOf(response);
    expect(error).toMatchObject({ code: 'context_length_exceeded', type: 'invalid_request_error' });
    for (const number of ['6', '45', '51', '50']) expect(error.message).toContain(number);
    expect(first.seen).toEqual([]);
    expect(
      (await harness.post('/v1/completions', completion({ prompt: [1, 2, 3, 4, 5], max_tokens: 45 }))).status,
    ).toBe(200);
  });

  test('a text prompt that turns out too long for its replica is tried at a larger one', async () => {
    const { harness, mocks } = await setUp({
      engines: [{ maxModelLen: 60 }, { maxModelLen: 500 }],
      replicas: [{ maxModelLen: 60 }, { maxModelLen: 500 }],
    });
    // 200 bytes are about 50 tokens by the first guess; the engine counts 200.
    const response = await harness.post('/v1/completions', completion({ prompt: 'x'.repeat(200), max_tokens: 5 }));
    expect(response.status).toBe(200);
    expect(mocks.map((mock) => mock.seen.length)).toEqual([1, 1]);
    // Beyond all of them, the engine's own refusal reaches the client.
    const refused = await harness.post('/v1/completions', completion({ prompt: 'x'.repeat(600), max_tokens: 5 }));
    expect(refused.status).toBe(400);
    expect((await errorOf(refused)).message).toContain('maximum context length');
  });

  test('an engine’s refusal reaches the client as it is, is not retried, and trips no breaker', async () => {
    const { harness, mocks } = await setUp({ engines: [{}, {}] });
    const body = JSON.stringify({
      error: { message: 'bad top_p', type: 'BadRequestError', param: 'top_p', code: 400 },
    });
    for (let i = 0; i < 10; i++) {
      for (const mock of mocks) mock.answers.splice(0, 9, { status: 400, body });
      const response = await harness.post('/v1/chat/completions', chat({ stream: i % 2 === 0 }));
      expect(response.status).toBe(400);
      expect(await response.text()).toBe(body);
    }
    for (const mock of mocks) mock.answers.length = 0;
    expect(mocks[0]!.seen.length + mocks[1]!.seen.length).toBe(10);
    expect((await harness.get('/readyz')).status).toBe(200);
    expect((await harness.get('/metrics')).text).toContain('oserve_replica_available{replica="r0"} 1');
  });

  test('the body reaches the engine byte for byte, with the headers that concern it', async () => {
    const { harness, first } = await setUp();
    const body = `{ "model" : "${MODEL}",\n "prompt":"h\\u00e9", "max_tokens": 3, "my_own": {"a":[1,2.50]} }`;
    const response = await harness.post('/v1/completions', body, {
      headers: {
        'x-request-id': 'my-id.1',
        'x-oserve-emulated-output-tokens': '2',
        'x-oserve-continued-tokens': '7',
        traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
        cookie: 'secret=1',
      },
    });
    expect(response.headers.get('x-request-id')).toBe('my-id.1');
    expect(((await response.json()) as { usage: { completion_tokens: number } }).usage.completion_tokens).toBe(2);
    const seen = first.seen[0]!;
    expect(seen.raw).toBe(body);
    expect(seen.headers).toMatchObject({ 'x-request-id': 'my-id.1', 'x-oserve-emulated-output-tokens': '2' });
    expect(seen.headers).toHaveProperty('traceparent');
    expect(seen.headers).not.toHaveProperty('cookie');
    expect(seen.headers).not.toHaveProperty('x-oserve-continued-tokens');
    const other = await harness.post('/v1/completions', completion(), { headers: { 'x-request-id': 'bad id\u00e9' } });
    expect(other.headers.get('x-request-id')).toMatch(/^req-[0-9a-f-]{36}$/);
  });

  test('diagnostics are told on request only, and never an address', async () => {
    const { harness, first } = await setUp();
    const plain = await harness.post('/v1/chat/completions', chat());
    expect([...plain.headers.keys()].filter((name) => name.startsWith('x-oserve'))).toEqual([]);
    const debug = await harness.post('/v1/chat/completions', chat({ stream: true, max_tokens: undefined }), {
      headers: { 'x-oserve-debug': '1' },
    });
    expect(debug.headers.get('x-oserve-replica')).toBe('r0');
    expect(debug.headers.get('x-oserve-max-tokens')).toContain('100000');
    expect([...debug.headers.values()].join()).not.toContain(String(first.port));
    await debug.text();
  });
});

describe('health, metrics, status', () => {
  test('ready only while every served model has a replica', async () => {
    const { harness, listed } = await setUp({
      gateway: {
        models: [
          { name: MODEL, maxModelLen: 1 },
          { name: 'second', maxModelLen: 1 },
        ],
      },
    });
    expect((await harness.get('/livez')).status).toBe(200);
    expect((await harness.get('/readyz')).status).toBe(503);
    await harness.route([...listed, { ...listed[0]!, id: 'other', model: 'second' }]);
    expect((await harness.get('/readyz')).status).toBe(200);
    expect((await harness.get('/health')).status).toBe(200);
    await harness.evacuate('other', 'wait');
    expect((await harness.get('/readyz')).status).toBe(503);
  });

  test('the public status names models, deployment and speed', async () => {
    const { harness, listed } = await setUp({ gateway: { emulated: true } });
    await harness.route([
      ...listed,
      { ...listed[0]!, id: 'b' },
      { ...listed[0]!, id: 'c', classKey: `${MODEL}:TP8@H200` },
    ]);
    const { text } = await harness.get('/oserve/status');
    expect(JSON.parse(text)).toEqual({
      emulated: true,
      speed: 1,
      models: [MODEL],
      deployment: `${MODEL}:2xTP1@H100-80GB,${MODEL}:1xTP8@H200`,
      routingVersion: 2,
    });
  });

  test('metrics count requests, tokens and times', async () => {
    const { harness } = await setUp();
    await (await harness.post('/v1/chat/completions', chat({ stream: true }))).text();
    await (await harness.post('/v1/chat/completions', chat())).text();
    const { text } = await harness.get('/metrics');
    const { ids } = expectedOutput(chatPromptIds(messages), 20);
    const labels = `model="${MODEL}",api="chat"`;
    expect(text).toContain(`oserve_requests_total{${labels},outcome="completed"} 2`);
    expect(text).toContain(`oserve_tokens_total{model="${MODEL}",kind="output"} ${2 * ids.length}`);
    expect(text).toContain(`oserve_request_ttft_seconds_count{${labels}} 1`);
    expect(text).toContain(`oserve_request_itl_seconds_count{${labels}} ${ids.length - 1}`);
    expect(text).toContain(`oserve_request_e2e_seconds_bucket{${labels},le="+Inf"} 2`);
    expect(text).toContain('oserve_requests_in_flight 0');
    expect(text).not.toContain('vllm:');
  });
});

describe('waiting for a replica', () => {
  test('requests wait while nothing is admitted, and start in order when a replica comes', async () => {
    const { harness, first, listed } = await setUp({ routed: false, gateway: { maxQueuedRequests: 3 } });
    const answers = [];
    for (let i = 1; i <= 3; i++) {
      answers.push(harness.post('/v1/completions', completion({ prompt: `p${i}` })));
      await until(async () => (await harness.status()).queuedCount === i);
    }
    const refused = await harness.post('/v1/completions', completion());
    expect(refused.status).toBe(503);
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0);
    expect(refused.headers.get('x-should-retry')).toBe('true');
    expect((await errorOf(refused)).code).toBe('overloaded');
    await harness.route(listed);
    for (const answer of answers) expect((await answer).status).toBe(200);
    expect(first.seen.map((request) => request.body.prompt)).toEqual(['p1', 'p2', 'p3']);
    // Demand is what arrived, also where it was refused.
    expect((await harness.observe()).arrivals).toHaveLength(4);
  });

  test('a wait beyond the limit ends with 503', async () => {
    const { harness } = await setUp({ routed: false, gateway: { queueTimeoutSeconds: 0.01, shortestWaitMs: 1 } });
    const response = await harness.post('/v1/completions', completion());
    expect(response.status).toBe(503);
    expect((await errorOf(response)).code).toBe('no_replica');
    expect((await harness.status()).queuedCount).toBe(0);
  });

  test('a waiting stream is kept alive with comments, and a waiting client that leaves gives up its place', async () => {
    const { harness, listed } = await setUp({ routed: false, gateway: { pingSeconds: 0.005 } });
    const response = await harness.post('/v1/chat/completions', chat({ stream: true }));
    expect(response.headers.get('content-type')).toContain('text/event-stream');
    const reader = response.body!.getReader();
    expect(Buffer.from((await reader.read()).value!).toString()).toContain(': keep-alive\n\n');

    const leaver = new AbortController();
    const left = harness.post('/v1/chat/completions', chat(), { signal: leaver.signal }).catch(() => 'left');
    await until(async () => (await harness.status()).queuedCount === 2);
    leaver.abort();
    expect(await left).toBe('left');
    await until(async () => (await harness.status()).queuedCount === 1);

    await harness.route(listed);
    let raw = '';
    for (let piece = await reader.read(); !piece.done; piece = await reader.read())
      raw += Buffer.from(piece.value).toString();
    expect(readStreamText(raw).doneCount).toBe(1);
  });

  test('engines that answer 503 push back: the request goes elsewhere or waits, and nobody is declared dead', async () => {
    const { harness, mocks } = await setUp({ engines: [{}, {}] });
    for (const mock of mocks) mock.answers.push({ status: 503, body: '{}', headers: { 'retry-after': '0.01' } });
    const response = await harness.post('/v1/completions', completion());
    expect(response.status).toBe(200);
    expect(mocks[0]!.seen.length + mocks[1]!.seen.length).toBe(3);
  });

  test('a cap per replica holds further requests back until one ends', async () => {
    const { harness, first } = await setUp({ gateway: { maxRequestsPerReplica: 1 } });
    first.scripts.push({ events: 3, ending: 'hold' });
    const held = first.nextHold();
    const leaver = new AbortController();
    const running = harness.post('/v1/chat/completions', chat({ stream: true }), { signal: leaver.signal });
    await held;
    const waiting = harness.post('/v1/completions', completion());
    await until(async () => (await harness.status()).queuedCount === 1);
    expect(first.seen).toHaveLength(1);
    await running;
    leaver.abort();
    expect((await waiting).status).toBe(200);
  });
});

describe('engines that fail', () => {
  test('a whole answer whose engine dies is made again elsewhere, and counts as one arrival', async () => {
    const { harness, mocks } = await setUp({ engines: [{}, {}] });
    mocks[0]!.scripts.push({ events: 0, ending: 'hold' });
    const held = mocks[0]!.nextHold();
    const answer = harness.post('/v1/chat/completions', chat());
    await held;
    await mocks[0]!.kill();
    const response = await answer;
    expect(response.status).toBe(200);
    const { choices } = (await response.json()) as { choices: { message: { content: string } }[] };
    expect(choices[0]?.message.content).toBe(expectedOutput(chatPromptIds(messages), 20).text);
    expect((await harness.observe()).arrivals).toHaveLength(1);
  });

  test('a stream whose engine is killed goes on at the other one', async () => {
    const { harness, mocks } = await setUp({ engines: [{}, {}] });
    mocks[0]!.scripts.push({ events: 8, ending: 'hold' });
    const held = mocks[0]!.nextHold();
    const answer = harness.post('/v1/chat/completions', chat({ stream: true }));
    await held;
    await mocks[0]!.kill();
    const stream = readStreamText(await (await answer).text());
    expect(stream.text).toBe(expectedOutput(chatPromptIds(messages), 20).text);
    expect(stream.doneCount).toBe(1);
    expect(mocks[1]!.seen[0]?.path).toBe('/v1/completions');
    // The dead one gets nothing more.
    for (let i = 0; i < 5; i++) expect((await harness.post('/v1/completions', completion())).status).toBe(200);
  });

  test('a stream that cannot go on exactly ends with a retryable error and no [DONE]', async () => {
    const { harness, mocks } = await setUp({ engines: [{}, {}] });
    mocks[0]!.scripts.push({ events: 8, ending: 'reset' });
    const answer = await harness.post('/v1/chat/completions', chat({ stream: true, seed: 3 }));
    const stream = readStreamText(await answer.text());
    expect(stream.errors).toEqual([
      expect.objectContaining({ code: 'stream_interrupted', message: expect.stringContaining('seeded sampling') }),
    ]);
    expect(stream.doneCount).toBe(0);
    expect(stream.finishReasons).toEqual([]);
  });

  test('a request that every engine fails on is given up after a few tries', async () => {
    const { harness, mocks } = await setUp({ engines: [{}, {}] });
    for (const mock of mocks) mock.answers.push(...Array(9).fill({ status: 500, body: 'boom' }));
    const response = await harness.post('/v1/completions', completion());
    expect(response.status).toBe(502);
    expect((await errorOf(response)).code).toBe('engine_failed');
    // The client need not spend its own tries on what we have tried.
    expect(response.headers.get('x-should-retry')).toBe('false');
    expect(mocks[0]!.seen.length + mocks[1]!.seen.length).toBe(3);
  });

  test('an engine that comes back under its address is used again', async () => {
    const { harness, first } = await setUp();
    const port = first.port;
    await first.kill();
    const answer = harness.post('/v1/completions', completion());
    await until(async () => (await harness.get('/metrics')).text.includes('oserve_replica_available{replica="r0"} 0'));
    expect((await harness.get('/readyz')).status).toBe(503);
    const again = await MockEngine.start({}, port);
    closers.push(() => again.kill());
    expect((await answer).status).toBe(200);
    expect((await harness.get('/readyz')).status).toBe(200);
  });

  test('an engine that is silent in the middle of a stream is left', async () => {
    const { harness, mocks } = await setUp({
      engines: [{}, {}],
      gateway: { idleTimeoutSeconds: 0.01, shortestIdleMs: 1 },
    });
    mocks[0]!.scripts.push({ events: 4, ending: 'hold' });
    const answer = await harness.post('/v1/chat/completions', chat({ stream: true }));
    const stream = readStreamText(await answer.text());
    expect(stream.text).toBe(expectedOutput(chatPromptIds(messages), 20).text);
    expect(mocks[0]!.abandoned).toBe(1);
  });

  test('of several choices, the end of one is not the end: a broken stream is not shown as whole', async () => {
    const { harness, first } = await setUp();
    const event = (index: number, finish: string | null) =>
      `data: ${JSON.stringify({ id: 'x', choices: [{ index, delta: { content: 'a' }, finish_reason: finish }] })}\n\n`;
    first.answers.push({
      status: 200,
      body: event(0, null) + event(1, null) + event(0, 'stop'),
      headers: { 'content-type': 'text/event-stream' },
    });
    const answer = await harness.post('/v1/chat/completions', chat({ stream: true, n: 2 }));
    const stream = readStreamText(await answer.text());
    expect(stream.errors).toEqual([expect.objectContaining({ code: 'stream_interrupted' })]);
    expect(stream.doneCount).toBe(0);
  });

  test('the stream of an engine that tells no ids passes, is counted, and is not continued by guesswork', async () => {
    const { harness, mocks } = await setUp({ engines: [{}, {}] });
    const event = (content: string) =>
      `data: ${JSON.stringify({ id: 'x', choices: [{ index: 0, delta: { content }, finish_reason: null }] })}\n\n`;
    const headers = { 'content-type': 'text/event-stream' };
    const body = event('a') + event('b');
    for (const mock of mocks) mock.answers.push({ status: 200, body: `${body}data: [DONE]\n\n`, headers });
    const whole = await harness.post('/v1/chat/completions', chat({ stream: true }));
    expect(await whole.text()).toBe(`${body}data: [DONE]\n\n`);
    expect((await harness.observe()).finished[0]).toMatchObject({ outputTokens: 2 });
    for (const mock of mocks) mock.answers.splice(0, 1, { status: 200, body, headers });
    const cut = readStreamText(await (await harness.post('/v1/chat/completions', chat({ stream: true }))).text());
    expect(cut.text).toBe('ab');
    expect(cut.errors).toEqual([expect.objectContaining({ message: expect.stringContaining('no token ids') })]);
  });

  test('an engine’s refusal in the middle of a stream is passed on as it is', async () => {
    const { harness, first } = await setUp();
    const error = { message: 'no such thing', type: 'BadRequestError', param: null, code: 400 };
    first.answers.push({
      status: 200,
      body: `data: ${JSON.stringify({ error })}\n\ndata: [DONE]\n\n`,
      headers: { 'content-type': 'text/event-stream' },
    });
    const stream = readStreamText(await (await harness.post('/v1/chat/completions', chat({ stream: true }))).text());
    expect(stream.errors).toEqual([error]);
    expect(stream.doneCount).toBe(0);
  });
});

describe('emptying a replica', () => {
  test('cut moves what can go on, leaves what cannot, and tells how many', async () => {
    const { harness, mocks } = await setUp({ engines: [{}, {}] });
    const [a, b] = mocks as [MockEngine, MockEngine];
    await harness.evacuate('r1', 'wait');
    const held = [];
    const answers = [];
    for (const more of [{ stream: true }, { stream: true, seed: 1 }, {}]) {
      a.scripts.push({ events: 5, ending: 'hold' });
      held.push(a.nextHold());
      answers.push(harness.post('/v1/chat/completions', chat(more)).then((response) => response.text()));
      await held.at(-1);
    }
    await harness.route([replicaOf(a, 'r0'), replicaOf(b, 'r1')]);
    expect(await harness.evacuate('r0', 'wait')).toEqual({ runningCount: 3, movedCount: 0 });
    expect(await harness.evacuate('r0', 'cut')).toEqual({ runningCount: 1, movedCount: 2 });
    const { text } = expectedOutput(chatPromptIds(messages), 20);
    expect(readStreamText(await answers[0]!).text).toBe(text);
    expect(JSON.parse(await answers[2]!)).toMatchObject({ choices: [{ message: { content: text } }] });
    expect(await harness.evacuate('r0', 'cut')).toEqual({ runningCount: 1, movedCount: 0 });
    expect(await harness.evacuate('unknown', 'cut')).toEqual({ runningCount: 0, movedCount: 0 });
    // The engine of the one that could not be moved is gone: its client hears of it.
    await a.kill();
    expect(readStreamText(await answers[1]!).errors).toHaveLength(1);
  });

  test('streams that were cut wait, before all others, for a replica to come', async () => {
    const { harness, mocks, listed } = await setUp({ engines: [{}, {}], gateway: { maxQueuedRequests: 1 } });
    const [a, b] = mocks as [MockEngine, MockEngine];
    await harness.route([listed[0]!]);
    a.scripts.push({ events: 5, ending: 'hold' });
    const held = a.nextHold();
    const stream = harness.post('/v1/chat/completions', chat({ stream: true })).then((response) => response.text());
    await held;
    await harness.evacuate('r0', 'wait');
    const fresh = harness.post('/v1/completions', completion());
    await until(async () => (await harness.status()).queuedCount === 1);
    expect(await harness.evacuate('r0', 'cut')).toEqual({ runningCount: 0, movedCount: 1 });
    expect((await harness.status()).queuedCount).toBe(2);
    await harness.route([listed[1]!]);
    expect(readStreamText(await stream).text).toBe(expectedOutput(chatPromptIds(messages), 20).text);
    expect((await fresh).status).toBe(200);
    expect(b.seen.map((request) => 'stream' in request.body)).toEqual([true, false]);
  });
});

describe('what the controller sees', () => {
  test('arrivals, running and finished requests, with true lengths, until it says that it has them', async () => {
    const { harness, first } = await setUp();
    first.scripts.push({ events: 6, ending: 'hold' });
    const held = first.nextHold();
    const leaver = new AbortController();
    const running = harness.post('/v1/chat/completions', chat({ stream: true }), { signal: leaver.signal });
    await held;
    await (await harness.post('/v1/completions', completion({ max_tokens: 7, ignore: 1 }))).text();
    await (
      await harness.post('/v1/chat/completions', chat({ stream: true, seed: 1 }), {
        headers: { 'x-stainless-retry-count': '1', 'x-oserve-tenant': 'blue' },
      })
    ).text();
    const seen = await harness.observe();
    expect(seen.arrivals).toHaveLength(3);
    expect(seen.arrivals[0]).toEqual({
      arrivalSeconds: expect.any(Number),
      model: MODEL,
      inputTokens: expect.any(Number),
      maxTokens: 20,
    });
    expect(seen.arrivals[2]).toMatchObject({ isRetry: true, tenant: 'blue' });
    const times = seen.arrivals.map((arrival) => arrival.arrivalSeconds);
    expect(times).toEqual([...times].sort((x, y) => x - y));
    expect(new Set(times).size).toBe(3);
    expect(seen.running).toEqual([{ ...seen.arrivals[0]!, generatedTokens: 6 }]);
    expect(seen.finished).toHaveLength(2);
    expect(seen.finished[0]).toMatchObject({
      arrivalSeconds: times[1],
      inputTokens: 5,
      outputTokens: expectedOutput(bytesOf('hello'), 7).ids.length,
      maxTokens: 7,
    });
    expect(seen.finished[1]).toMatchObject({
      inputTokens: chatPromptIds(messages).length,
      outputTokens: expectedOutput(chatPromptIds(messages), 20).ids.length,
    });
    expect(seen.finished[1]!.ttftSeconds).toBeLessThanOrEqual(seen.finished[1]!.finishedSeconds - times[2]!);

    // Read again: the same, and more; acknowledged: gone.
    expect((await harness.observe()).finished).toEqual(seen.finished);
    const later = await harness.observe(seen.cursor);
    expect(later).toMatchObject({ arrivals: [], finished: [], cursor: seen.cursor, incarnation: seen.incarnation });
    expect(later.running).toHaveLength(1);
    // A cursor of another incarnation is no acknowledgement.
    await (await harness.post('/v1/completions', completion())).text();
    expect((await harness.observe(1e9)).finished).toHaveLength(1);
    leaver.abort();
    await running.catch(() => {});
  });

  test('usage that only we wanted is taken out of the stream', async () => {
    const { harness, first } = await setUp();
    const answer = await harness.post('/v1/chat/completions', chat({ stream: true, seed: 1 }));
    const stream = readStreamText(await answer.text());
    expect(first.seen[0]?.body.stream_options).toEqual({ include_usage: true });
    expect(stream.raw).not.toContain('usage');
    expect(stream.text).toBe(expectedOutput(chatPromptIds(messages), 20).text);
  });

  test('without its token the admin port tells nothing', async () => {
    const { harness } = await setUp();
    for (const path of ['/admin/v1/status', '/admin/v1/observation?after=0', '/x']) {
      expect((await harness.admin('GET', path, undefined, 'wrong')).status).toBe(401);
    }
    expect((await harness.admin('GET', '/x')).status).toBe(404);
    expect((await harness.admin('GET', '/admin/v1/observation?after=x')).status).toBe(400);
    expect((await harness.get('/admin/v1/status')).status).toBe(404);
  });

  test('a routing update that cannot be used is refused, and the last good one stays', async () => {
    const { harness, listed } = await setUp();
    const bad = [
      'not json',
      {},
      { ...routingOf(7, listed), replicas: [{ ...listed[0]!, url: 'nowhere' }] },
      { ...routingOf(7, listed), replicas: [listed[0]!, listed[0]!] },
      { ...routingOf(7, listed), workload: null },
    ];
    for (const update of bad) expect((await harness.admin('PUT', '/admin/v1/routing', update)).status).toBe(400);
    expect((await harness.status()).routingVersion).toBe(1);
    expect((await harness.post('/v1/completions', completion())).status).toBe(200);
  });
});

describe('restart and shutdown', () => {
  test('a restarted gateway routes on its last table without a controller; a damaged one is set aside', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'oserve-gateway-'));
    closers.push(() => rm(directory, { recursive: true }));
    const stateFile = join(directory, 'deep', 'routing.json');
    const { harness, listed } = await setUp({ gateway: { stateFile } });
    const incarnation = (await harness.observe()).incarnation;
    for (let i = 0; i < 5; i++) await harness.route(listed);
    await harness.gateway.close(0);
    expect(JSON.parse(await readFile(stateFile, 'utf8'))).toMatchObject({ version: 6 });

    const second = await GatewayHarness.start({ stateFile });
    closers.push(() => second.gateway.close(0));
    expect(await second.status()).toMatchObject({ routingVersion: 6, ready: true });
    expect((await second.post('/v1/completions', completion())).status).toBe(200);
    expect((await second.observe()).incarnation).not.toBe(incarnation);

    await writeFile(stateFile, '{"version": 6, "repl');
    const third = await GatewayHarness.start({ stateFile });
    closers.push(() => third.gateway.close(0));
    expect(await third.status()).toMatchObject({ routingVersion: 0, ready: false });
  });

  test('running streams end, late comers are sent away, readiness is gone', async () => {
    const { harness, mocks } = await setUp({ engines: [{}, {}] });
    const [a] = mocks as [MockEngine];
    a.scripts.push({ events: 5, ending: 'hold' });
    const held = a.nextHold();
    const stream = harness.post('/v1/chat/completions', chat({ stream: true })).then((response) => response.text());
    await held;
    const late = await openLine(harness.gateway.port);
    const closing = harness.gateway.close(60_000);
    expect(await late.ask('GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n')).toMatch(/^HTTP\/1.1 503/);
    const body = JSON.stringify(completion());
    const refusal = await late.ask(
      `POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
    );
    expect(refusal).toMatch(/^HTTP\/1.1 503/);
    expect(refusal.toLowerCase()).toContain('connection: close');
    late.socket.destroy();
    await a.kill();
    expect(readStreamText(await stream).text).toBe(expectedOutput(chatPromptIds(messages), 20).text);
    await closing;
    await expect(fetch(`${harness.url}/livez`)).rejects.toThrow();
  });

  test('at the deadline what still runs ends with an error', async () => {
    const { harness, first } = await setUp();
    first.scripts.push({ events: 5, ending: 'hold' }, { events: 0, ending: 'hold' });
    const held = first.nextHold();
    const stream = harness.post('/v1/chat/completions', chat({ stream: true })).then((response) => response.text());
    await held;
    const heldToo = first.nextHold();
    const whole = harness.post('/v1/chat/completions', chat());
    await heldToo;
    const slow = harness.gateway.close(60_000);
    await harness.gateway.close(0);
    await slow;
    expect(readStreamText(await stream).errors).toEqual([expect.objectContaining({ code: 'shutting_down' })]);
    expect((await whole).status).toBe(503);
    await first.idle();
  });

  test('a taken port is a clear error', async () => {
    const { harness } = await setUp();
    await expect(GatewayHarness.start({ port: harness.gateway.port })).rejects.toThrow(
      `Port ${harness.gateway.port} on 127.0.0.1 is taken.`,
    );
  });
});

describe('our own bugs', () => {
  test('a router that throws is reported and set aside until the next table', async () => {
    const errors: string[] = [];
    let asked = 0;
    const { harness, listed } = await setUp({
      engines: [{}, {}],
      gateway: {
        makeRouter: () => ({
          route() {
            asked++;
            throw new Error('Bug in oserve: for this test');
          },
        }),
        log: createLogger({ name: 'gateway', level: 'error', format: 'json', write: (line) => errors.push(line) }),
      },
    });
    for (let i = 0; i < 4; i++) expect((await harness.post('/v1/completions', completion())).status).toBe(200);
    expect(asked).toBe(1);
    expect(errors.join()).toContain('for this test');
    await harness.route(listed);
    expect((await harness.post('/v1/completions', completion())).status).toBe(200);
    expect(asked).toBe(2);
  });

  test('strange paths are refused, not fatal', async () => {
    const { harness } = await setUp();
    for (const path of ['/v1/models/%', '/v1/models/%E0%A4%A', '//', '/v1/models/../x?y=%']) {
      expect((await harness.get(path)).status, path).toBe(404);
    }
    expect((await harness.get('/livez?verbose')).status).toBe(200);
  });
});

describe('the wire', () => {
  test('answers on one connection come in order and whole, pipelined or asked in HTTP/1.0', async () => {
    const { harness } = await setUp();
    const ask = (version: string, close: boolean) => {
      const body = JSON.stringify(completion({ stream: true }));
      const connection = close ? 'connection: close\r\n' : '';
      return `POST /v1/completions HTTP/${version}\r\nhost: x\r\n${connection}content-length: ${body.length}\r\n\r\n${body}`;
    };
    const { text } = expectedOutput(bytesOf('hello'), 20);
    const pipelined = await readToEnd(harness.gateway.port, ask('1.1', false) + ask('1.1', false) + ask('1.1', true));
    const answers = pipelined.split('HTTP/1.1 200 OK').slice(1).map(unchunked);
    expect(answers.map((answer) => readStreamText(answer).text)).toEqual([text, text, text]);
    const old = await readToEnd(harness.gateway.port, ask('1.0', true));
    expect(old).not.toMatch(/transfer-encoding/i);
    expect(readStreamText(old.slice(old.indexOf('\r\n\r\n') + 4)).text).toBe(text);
  });

  test('no side of the gateway waits for acknowledgements of small packets', async () => {
    const upstream = vi.spyOn(Socket.prototype, 'connect');
    const { harness, first } = await setUp();
    const accepted: Socket[] = [];
    harness.gateway.dataServer.on('connection', (socket: Socket) => accepted.push(socket));
    await (await harness.post('/v1/chat/completions', chat({ stream: true }))).text();
    // Node sets the option on an accepted socket's handle and notes it under this symbol.
    const noDelayOf = (socket: Socket): unknown => {
      const key = Object.getOwnPropertySymbols(socket).find((symbol) => symbol.description === 'kSetNoDelay');
      return key === undefined ? undefined : (socket as unknown as Record<symbol, unknown>)[key];
    };
    expect(accepted.length).toBeGreaterThan(0);
    expect(accepted.map(noDelayOf)).toEqual(accepted.map(() => true));
    const toEngine = upstream.mock.calls.map((call) => call[0] as unknown as Record<string, unknown>[]);
    upstream.mockRestore();
    const options = toEngine.map((args) => (Array.isArray(args) ? args[0]! : (args as Record<string, unknown>)));
    const ours = options.filter((option) => Number(option.port) === first.port);
    expect(ours.length).toBeGreaterThan(0);
    expect(ours.every((option) => option.noDelay === true)).toBe(true);
  });

  test('a client that does not read stops its engine instead of filling memory, and gets everything once it reads', async () => {
    // 30 MB: far more than sockets hold on the way.
    const { harness, first } = await setUp({ engines: [{ tokensPerEvent: [2], padding: 50_000 }] });
    const sockets: Socket[] = [];
    harness.gateway.dataServer.on('connection', (socket: Socket) => sockets.push(socket));
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      const headers = { 'x-oserve-emulated-output-tokens': '1200' };
      const req = httpRequest(`${harness.url}/v1/chat/completions`, { method: 'POST', headers }, resolve);
      req.on('error', reject);
      req.end(JSON.stringify(chat({ stream: true, max_tokens: 1200 })));
    });
    response.pause();
    let still = 0;
    let before = -1;
    await until(() => {
      still = first.blocked && first.bytesWritten === before ? still + 1 : 0;
      before = first.bytesWritten;
      return still === 5;
    });
    expect(first.bytesWritten).toBeLessThan(25e6);
    const waiting = sockets.map((socket) => socket.writableLength);
    expect(Math.max(...waiting)).toBeGreaterThan(0);
    expect(Math.max(...waiting)).toBeLessThan(2e6);
    let raw = '';
    response.setEncoding('utf8');
    for await (const piece of response) raw += piece;
    expect(readStreamText(raw).text).toBe(expectedOutput(chatPromptIds(messages), 1200, 1200).text);
  });

  test('a client that vanishes in the middle of a stream frees its engine', async () => {
    const { harness, first } = await setUp();
    first.scripts.push({ events: 5, ending: 'hold' });
    const held = first.nextHold();
    const line = await openLine(harness.gateway.port);
    const body = JSON.stringify(chat({ stream: true }));
    const head = `POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n`;
    line.socket.write(head + body);
    await held;
    line.socket.resetAndDestroy();
    await first.idle();
    expect(first.abandoned).toBe(1);
    expect((await harness.get('/metrics')).text).toContain('outcome="disconnected"} 1');
  });
});

/** Everything that a connection answers to some bytes until it is closed; latin1 text is ASCII here but for the output. */
function readToEnd(port: number, bytes: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1', () => socket.write(bytes));
    const pieces: Buffer[] = [];
    socket.on('data', (piece) => pieces.push(piece));
    socket.on('error', reject);
    socket.on('close', () => resolve(Buffer.concat(pieces).toString('utf8')));
  });
}

/** Body of a response in chunks. */
function unchunked(response: string): string {
  const bytes = Buffer.from(response.slice(response.indexOf('\r\n\r\n') + 4), 'utf8');
  let body = '';
  for (let at = 0; ; ) {
    const lineEnd = bytes.indexOf('\r\n', at);
    const size = Number.parseInt(bytes.toString('latin1', at, lineEnd), 16);
    if (size === 0) return body;
    body += bytes.toString('utf8', lineEnd + 2, lineEnd + 2 + size);
    at = lineEnd + 2 + size + 2;
  }
}

/** A raw connection that is asked one thing after the other. */
async function openLine(port: number) {
  const socket = connect(port, '127.0.0.1');
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', () => resolve());
    socket.once('error', reject);
  });
  return {
    socket,
    ask: (text: string) =>
      new Promise<string>((resolve) => {
        socket.once('data', (data) => resolve(data.toString('latin1')));
        socket.write(text);
      }),
  };
}
