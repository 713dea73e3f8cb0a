// What only an emulated engine does: it says so, it takes true lengths from a header, and it refuses what it would answer
// wrongly. And what is looked at below HTTP: packets, slow clients, old clients.
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import fc from 'fast-check';
import { afterEach, expect, test } from 'vitest';
import type { EmulatedEngineInput, StartedEngine } from '../../src/agent/index.ts';
import { HEADER_CONTINUED_TOKENS, HEADER_OUTPUT_TOKENS } from '../../src/wire/index.ts';
import { startEmulatedEngine } from './emulated-engine.ts';
import { eventsOf, metric, post, postJson, postStream, until } from './engine-client.ts';

const COMPLETIONS = '/v1/completions';
const prompt = [101, 202, 303];
const started: StartedEngine[] = [];
const sockets: Socket[] = [];
async function start(options: Partial<EmulatedEngineInput> = {}): Promise<StartedEngine> {
  const engine = await startEmulatedEngine(options);
  started.push(engine);
  return engine;
}
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  for (const engine of started.splice(0)) await engine.close();
});

/** Sends one raw request and gives the open socket. */
async function raw(url: string, body: object, version = '1.1'): Promise<Socket> {
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname);
  sockets.push(socket);
  await once(socket, 'connect');
  const text = JSON.stringify(body);
  socket.write(
    `POST ${COMPLETIONS} HTTP/${version}\r\nhost: engine\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(text)}\r\n\r\n${text}`,
  );
  return socket;
}

test('every answer says that it is emulated, errors too', async () => {
  const { url } = await start();
  const answers = [
    await fetch(`${url}/health`),
    await fetch(`${url}/v1/models`),
    await fetch(`${url}/metrics`),
    await fetch(`${url}/nowhere`),
    await post(url, COMPLETIONS, { prompt, max_tokens: 1 }),
    await post(url, COMPLETIONS, { prompt, max_tokens: 1, stream: true }),
    await post(url, COMPLETIONS, '{'),
  ];
  for (const answer of answers) {
    expect(answer.headers.get('x-oserve-emulated')).toBe('true');
    await answer.arrayBuffer();
  }
  expect(await (await fetch(`${url}/version`)).json()).toMatchObject({ emulated: true, speed: 200 });
});

test('the header states the true total length; max_tokens only cuts it', async () => {
  const { url } = await start();
  const ask = (stated: number, max: number) =>
    postStream(
      url,
      COMPLETIONS,
      { prompt, max_tokens: max, return_token_ids: true },
      {
        [HEADER_OUTPUT_TOKENS]: String(stated),
      },
    );
  const ends = await ask(37, 4096);
  expect([ends.tokenIds.length, ends.finishReason]).toEqual([37, 'stop']);
  const cut = await ask(37, 20);
  expect([cut.tokenIds.length, cut.finishReason]).toEqual([20, 'length']);
  expect(cut.tokenIds).toEqual(ends.tokenIds.slice(0, 20));
});

test('a continuation generates what is left of the stated length, and ends for the same reason', async () => {
  const { url } = await start();
  const stated = { [HEADER_OUTPUT_TOKENS]: '50' };
  const body = { max_tokens: 1000, return_token_ids: true };
  const whole = await postStream(url, COMPLETIONS, { ...body, prompt }, stated);
  const rest = await postStream(
    url,
    COMPLETIONS,
    { ...body, prompt: [...prompt, ...whole.tokenIds.slice(0, 18)], max_tokens: 982 },
    { ...stated, [HEADER_CONTINUED_TOKENS]: '18' },
  );
  expect(rest.tokenIds).toEqual(whole.tokenIds.slice(18));
  expect(rest.finishReason).toBe('stop');
  for (const headers of [{ [HEADER_CONTINUED_TOKENS]: '50' }, { [HEADER_OUTPUT_TOKENS]: 'many' }]) {
    expect((await postJson(url, COMPLETIONS, { ...body, prompt }, { ...stated, ...headers })).status).toBe(400);
  }
});

test('without the header an answer ends by itself, at the same token after a continuation', async () => {
  const { url } = await start();
  const body = { max_tokens: 8000, return_token_ids: true };
  const whole = await postStream(url, COMPLETIONS, { ...body, prompt });
  expect(whole.finishReason).toBe('stop');
  expect(whole.tokenIds.length).toBeGreaterThan(1);
  const rest = await postStream(url, COMPLETIONS, { ...body, prompt: [...prompt, ...whole.tokenIds.slice(0, 1)] });
  expect(rest.tokenIds).toEqual(whole.tokenIds.slice(1));
});

test.each([
  ['n', { n: 2 }],
  ['logprobs', { logprobs: 1 }],
  ['echo', { echo: true }],
  ['response_format', { response_format: { type: 'json_object' } }],
  ['structured_outputs', { structured_outputs: { choice: ['a'] } }],
  ['tool_choice', { tool_choice: 'required' }],
  ['max_tokens', { max_tokens: 0 }],
  ['prompt', { prompt: [] }],
  ['prompt', { prompt: [1, 99999] }],
  ['prompt', { prompt: [1, -1] }],
  ['prompt', { prompt: [[1], 'two'] }],
])('%s as in %o is refused by name, not answered wrongly', async (param, part) => {
  const { url } = await start();
  const { status, json } = await postJson(url, COMPLETIONS, { prompt, max_tokens: 1, ...part });
  expect({ status, param: json.error.param }).toEqual({ status: 400, param });
});

test('whatever a body holds, the answer is an answer or a refusal, and the engine lives', async () => {
  const { url } = await start({ speed: 5000 });
  const odd = fc.oneof(fc.constant(null), fc.boolean(), fc.double(), fc.integer(), fc.string({ unit: 'binary' }));
  const anything = fc.oneof(odd, fc.array(odd, { maxLength: 3 }), fc.dictionary(fc.string(), odd, { maxKeys: 2 }));
  // Mostly right, so that enough bodies are answered; each field is wrong now and then.
  const seldom = fc.oneof({ weight: 8, arbitrary: fc.constant(null) }, { weight: 1, arbitrary: anything });
  const fields = [
    'request_id',
    'stop',
    'n',
    'seed',
    'user',
    'priority',
    'temperature',
    'stream_options',
    'tool_choice',
  ];
  const body = fc.record(
    {
      prompt: fc.oneof({ weight: 3, arbitrary: fc.constant<unknown>('Hello') }, { weight: 1, arbitrary: anything }),
      max_tokens: fc.oneof(fc.integer({ min: 1, max: 5 }), anything),
      stream: fc.oneof({ weight: 4, arbitrary: fc.boolean() }, { weight: 1, arbitrary: anything }),
      ...Object.fromEntries(fields.map((field) => [field, seldom])),
    },
    { requiredKeys: ['prompt', 'max_tokens'] },
  );
  const statuses = new Set<number>();
  await fc.assert(
    fc.asyncProperty(body, async (one) => {
      const response = await post(url, COMPLETIONS, one);
      await response.arrayBuffer();
      statuses.add(response.status);
    }),
    { numRuns: 300 },
  );
  expect([...statuses].sort()).toEqual([200, 400]);
  expect(
    (await postJson(url, COMPLETIONS, { prompt, max_tokens: 3, ignore_eos: true })).json.usage.completion_tokens,
  ).toBe(3);
});

test('an engine that is closed to new requests finishes those it has', async () => {
  const { url, control } = await start();
  const response = await post(url, COMPLETIONS, { prompt, max_tokens: 2000, ignore_eos: true, stream: true });
  await control.setAdmitting(false);
  const refused = await post(url, COMPLETIONS, { prompt, max_tokens: 1 });
  expect(refused.status).toBe(503);
  expect([refused.headers.get('retry-after'), refused.headers.get('x-should-retry')]).toEqual(['1', 'true']);
  let last = '';
  for await (const event of eventsOf(response)) last = event;
  expect(last).toBe('[DONE]');
});

test('an abort ends streams and whole answers with what there is', async () => {
  // At real speed, so that thousands of tokens do not come before the abort.
  const { url, control } = await start({ speed: 1 });
  const body = { prompt, max_tokens: 5000, ignore_eos: true, return_token_ids: true };
  const stream = postStream(url, COMPLETIONS, body);
  const whole = postJson(url, COMPLETIONS, body);
  await until(async () => (await metric(url, 'vllm:generation_tokens_total')) >= 4);
  await control.abortAll();
  expect((await stream).finishReason).toBe('abort');
  expect((await stream).done).toBe(true);
  const { json } = await whole;
  expect(json.choices[0].finish_reason).toBe('abort');
  expect(json.usage.completion_tokens).toBe(json.choices[0].token_ids.length);
  expect(await control.load()).toEqual({ runningCount: 0, waitingCount: 0, kvUsedShare: 0 });
});

test('a whole answer that nobody waits for any more is given up too', async () => {
  const { url } = await start({ speed: 1 });
  const client = new AbortController();
  const answer = post(url, COMPLETIONS, { prompt, max_tokens: 5000, ignore_eos: true }, {}, client.signal);
  await until(async () => (await metric(url, 'vllm:num_requests_running')) === 1);
  client.abort();
  await expect(answer).rejects.toThrow();
  await until(async () => (await metric(url, 'vllm:num_requests_running')) === 0);
  expect(await metric(url, 'vllm:kv_cache_usage_perc')).toBe(0);
});

test('tokens of steps that passed together come as one chunk, none lost', async () => {
  const { url } = await start({ speed: 5000 });
  const stream = await postStream(url, COMPLETIONS, {
    prompt,
    max_tokens: 3000,
    ignore_eos: true,
    return_token_ids: true,
  });
  expect(stream.tokenIds).toHaveLength(3000);
  expect(stream.chunks.length).toBeLessThan(1500);
});

test('header and first chunk leave in one packet', async () => {
  const { url } = await start();
  const socket = await raw(url, { prompt, max_tokens: 500, ignore_eos: true, stream: true });
  const [first] = (await once(socket, 'data')) as [Buffer];
  expect(first.toString()).toMatch(/^HTTP\/1\.1 200 [\s\S]*\r\n\r\n[\da-f]+\r\ndata: \{/);
});

test('a client that does not read holds nothing up, and gets every token when it reads again', async () => {
  const { url } = await start({ speed: 20_000, kvBlocks: 20_000 });
  const prompts = Array.from({ length: 16 }, (_, i) => [100 + i]);
  const tokens = 15_000;
  const socket = await raw(url, {
    prompt: prompts,
    max_tokens: tokens,
    ignore_eos: true,
    stream: true,
    return_token_ids: true,
  });
  socket.pause();
  await until(async () => (await metric(url, 'vllm:generation_tokens_total')) === tokens * prompts.length);
  let text = '';
  socket.setEncoding('utf8');
  socket.on('data', (part) => {
    text += part;
  });
  socket.resume();
  await until(() => text.endsWith('0\r\n\r\n'));
  const events = text.split('\n').filter((line) => line.startsWith('data: {'));
  const seen = prompts.map(() => 0);
  for (const event of events) {
    const [choice] = JSON.parse(event.slice(6)).choices;
    seen[choice.index] += choice.token_ids.length;
  }
  expect(seen).toEqual(prompts.map(() => tokens));
});

test('an HTTP/1.0 client gets the stream without chunked framing', async () => {
  const { url } = await start();
  const socket = await raw(url, { prompt, max_tokens: 50, ignore_eos: true, stream: true }, '1.0');
  let text = '';
  for await (const part of socket) text += part;
  const events = text.slice(text.indexOf('\r\n\r\n') + 4).split('\n\n');
  expect(events.at(-2)).toBe('data: [DONE]');
  for (const event of events.slice(0, -2)) JSON.parse(event.slice(6));
});

test('requests over one connection are answered one after the other, each whole', async () => {
  const { url } = await start();
  const body = { prompt, max_tokens: 30, ignore_eos: true, stream: true };
  const socket = await raw(url, body);
  const text = JSON.stringify(body);
  // The second request is sent while the first is being answered.
  socket.write(`POST ${COMPLETIONS} HTTP/1.1\r\nhost: engine\r\ncontent-length: ${text.length}\r\n\r\n${text}`);
  let received = '';
  socket.setEncoding('utf8');
  socket.on('data', (part) => {
    received += part;
  });
  await until(() => received.split('0\r\n\r\n').length > 2);
  const [first, second] = received.split('0\r\n\r\n') as [string, string];
  for (const answer of [first, second]) {
    expect(answer).toMatch(/^HTTP\/1\.1 200/);
    expect(answer.match(/data: \[DONE\]/g)).toHaveLength(1);
  }
});
