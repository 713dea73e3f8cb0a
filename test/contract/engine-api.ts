// What the gateway and the tests rely on in an engine's HTTP API. The emulated engine and vLLM both pass it, so it says
// nothing that is true of one of them only, and looks through HTTP alone. Greedy answers must be repeatable (float32).
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { errorBodySchema } from '../../src/wire/index.ts';
import { eventsOf, metric, post, postJson, postStream, until } from './engine-client.ts';

export interface EngineUnderTest {
  /** Base URL. */
  readonly url: string;
  readonly model: string;
  stop(): Promise<void>;
}

const COMPLETIONS = '/v1/completions';
const CHAT = '/v1/chat/completions';
const messages = [
  { role: 'system', content: 'Answer in one word.' },
  { role: 'user', content: 'What is the capital of France?' },
];

export function engineApiContract(start: () => Promise<EngineUnderTest>): void {
  describe('engine HTTP API', () => {
    let engine: EngineUnderTest;
    let url: string;
    beforeAll(async () => {
      engine = await start();
      url = engine.url;
    });
    afterAll(() => engine?.stop());

    /** Exactly `tokens` tokens, the same each time. */
    const greedy = (tokens: number) => ({
      model: engine.model,
      temperature: 0,
      max_tokens: tokens,
      ignore_eos: true,
    });
    const prompt = 'The capital of France is';

    test('it is alive, and says its version and its model with the longest context', async () => {
      expect((await fetch(`${url}/health`)).status).toBe(200);
      expect((await fetch(`${url}/ping`)).status).toBe(200);
      expect(((await (await fetch(`${url}/version`)).json()) as { version: unknown }).version).toMatch(/^\d+\.\d+/);
      const models = (await (await fetch(`${url}/v1/models`)).json()) as { data: unknown[] };
      expect(models.data).toEqual([
        expect.objectContaining({ id: engine.model, object: 'model', max_model_len: expect.any(Number) }),
      ]);
    });

    test('a completion has text, a finish reason and its usage', async () => {
      const { status, json } = await postJson(url, COMPLETIONS, { ...greedy(8), prompt });
      expect(status).toBe(200);
      expect(json).toMatchObject({ object: 'text_completion', model: engine.model });
      expect(json.id).toMatch(/^cmpl-/);
      expect(json.choices).toHaveLength(1);
      expect(json.choices[0]).toMatchObject({ index: 0, finish_reason: 'length' });
      expect(json.choices[0].text).not.toBe('');
      expect(json.usage.completion_tokens).toBe(8);
      expect(json.usage.prompt_tokens).toBeGreaterThan(0);
      expect(json.usage.total_tokens).toBe(json.usage.prompt_tokens + 8);
    });

    test('a stream has the text of the whole answer, one finish reason at its end, then [DONE]', async () => {
      const whole = (await postJson(url, COMPLETIONS, { ...greedy(12), prompt })).json;
      const stream = await postStream(url, COMPLETIONS, { ...greedy(12), prompt });
      expect(stream.status).toBe(200);
      expect(stream.contentType).toMatch(/^text\/event-stream/);
      expect(stream.text).toBe(whole.choices[0].text);
      expect(stream.done).toBe(true);
      const reasons = stream.chunks.map((chunk) => chunk.choices[0].finish_reason);
      expect(reasons.at(-1)).toBe('length');
      expect(reasons.slice(0, -1).every((reason) => reason === null)).toBe(true);
      expect(new Set(stream.chunks.map((chunk) => chunk.id)).size).toBe(1);
    });

    test('with return_token_ids a stream names the tokens of the prompt once and of each chunk', async () => {
      const asked = { ...greedy(10), prompt, return_token_ids: true };
      const stream = await postStream(url, COMPLETIONS, asked);
      const tokens = (await postJson(url, '/tokenize', { model: engine.model, prompt })).json;
      expect(stream.promptTokenIds).toEqual(tokens.tokens);
      expect(tokens).toMatchObject({ count: tokens.tokens.length, max_model_len: expect.any(Number) });
      expect(stream.tokenIds).toHaveLength(10);
      expect(stream.chunks.slice(1).every((chunk) => chunk.choices[0].prompt_token_ids == null)).toBe(true);
      const whole = (await postJson(url, COMPLETIONS, asked)).json;
      expect(whole.choices[0].token_ids).toEqual(stream.tokenIds);
      expect(whole.choices[0].prompt_token_ids).toEqual(stream.promptTokenIds);
    });

    test('a prompt of token ids is answered as its text is', async () => {
      const { tokens } = (await postJson(url, '/tokenize', { model: engine.model, prompt })).json;
      const byText = await postStream(url, COMPLETIONS, { ...greedy(10), prompt, return_token_ids: true });
      const byIds = await postStream(url, COMPLETIONS, { ...greedy(10), prompt: tokens, return_token_ids: true });
      expect(byIds.tokenIds).toEqual(byText.tokenIds);
      expect(byIds.text).toBe(byText.text);
    });

    test('an answer that is cut anywhere goes on identically from the ids of prompt and tokens so far', async () => {
      const total = 24;
      const whole = await postStream(url, COMPLETIONS, { ...greedy(total), prompt, return_token_ids: true });
      for (const cut of [1, 7, total - 1]) {
        const resumed = [...(whole.promptTokenIds ?? []), ...whole.tokenIds.slice(0, cut)];
        const rest = await postStream(url, COMPLETIONS, {
          ...greedy(total - cut),
          prompt: resumed,
          return_token_ids: true,
        });
        expect(rest.tokenIds).toEqual(whole.tokenIds.slice(cut));
      }
    });

    test('ids become text and text becomes ids again', async () => {
      const { tokens } = (await postJson(url, '/tokenize', { model: engine.model, prompt, add_special_tokens: false }))
        .json;
      const answer = await postStream(url, COMPLETIONS, { ...greedy(6), prompt: tokens, return_token_ids: true });
      const text = (await postJson(url, '/detokenize', { model: engine.model, tokens: answer.tokenIds })).json.prompt;
      expect(text.trim()).toBe(answer.text.trim());
    });

    test('a chat answers as the assistant; its stream begins with the role', async () => {
      const { json } = await postJson(url, CHAT, { ...greedy(8), messages });
      expect(json.object).toBe('chat.completion');
      expect(json.id).toMatch(/^chatcmpl-/);
      expect(json.choices[0]).toMatchObject({ finish_reason: 'length', message: { role: 'assistant' } });
      expect(json.usage.completion_tokens).toBe(8);
      const stream = await postStream(url, CHAT, { ...greedy(8), messages });
      expect(stream.chunks[0]).toMatchObject({
        object: 'chat.completion.chunk',
        choices: [{ delta: { role: 'assistant', content: '' } }],
      });
      expect(stream.text).toBe(json.choices[0].message.content);
      expect(stream.finishReason).toBe('length');
      expect(stream.done).toBe(true);
      expect(
        (await postJson(url, CHAT, { ...greedy(1), max_completion_tokens: 3, messages })).json.usage,
      ).toMatchObject({ completion_tokens: 3 });
    });

    test('a chat goes on as a completion of the token ids that its stream named', async () => {
      const chat = await postStream(url, CHAT, { ...greedy(12), messages, return_token_ids: true });
      expect(chat.tokenIds).toHaveLength(12);
      const resumed = [...(chat.promptTokenIds ?? []), ...chat.tokenIds.slice(0, 5)];
      const rest = await postStream(url, COMPLETIONS, { ...greedy(7), prompt: resumed, return_token_ids: true });
      expect(rest.tokenIds).toEqual(chat.tokenIds.slice(5));
    });

    test.each([
      [COMPLETIONS, { prompt }],
      [CHAT, { messages }],
    ])('%s gives usage in a last chunk of its own, or in each chunk, only when asked', async (path, input) => {
      const plain = await postStream(url, path, { ...greedy(5), ...input });
      expect(plain.chunks.every((chunk) => chunk.usage == null && chunk.choices.length === 1)).toBe(true);

      const asked = await postStream(url, path, {
        ...greedy(5),
        ...input,
        stream_options: { include_usage: true },
      });
      const last = asked.chunks.at(-1);
      expect(last.choices).toEqual([]);
      expect(last.usage).toMatchObject({
        completion_tokens: 5,
        total_tokens: last.usage.prompt_tokens + last.usage.completion_tokens,
      });
      expect(asked.chunks.slice(0, -1).every((chunk) => chunk.usage == null)).toBe(true);

      const each = await postStream(url, path, {
        ...greedy(5),
        ...input,
        return_token_ids: true,
        stream_options: { include_usage: true, continuous_usage_stats: true },
      });
      let tokens = 0;
      for (const chunk of each.chunks.filter(({ choices }) => choices.length > 0)) {
        tokens += chunk.choices[0].token_ids?.length ?? 0;
        expect(chunk.usage.completion_tokens).toBe(tokens);
      }
      expect(tokens).toBe(5);
    });

    test('several prompts are answered as several choices', async () => {
      const prompts = [prompt, 'One two three'];
      const { json } = await postJson(url, COMPLETIONS, { ...greedy(6), prompt: prompts });
      expect(json.choices.map(({ index }: { index: number }) => index)).toEqual([0, 1]);
      expect(json.usage.completion_tokens).toBe(12);
      for (const [index, one] of prompts.entries()) {
        const alone = (await postJson(url, COMPLETIONS, { ...greedy(6), prompt: one })).json;
        expect(json.choices[index].text).toBe(alone.choices[0].text);
      }
    });

    test('a stop string ends the answer and is not part of it', async () => {
      const whole = (await postJson(url, COMPLETIONS, { ...greedy(16), prompt })).json.choices[0].text as string;
      const stop = whole.slice(Math.floor(whole.length / 2), Math.floor(whole.length / 2) + 3);
      const asked = { ...greedy(16), prompt, stop: [stop] };
      const { json } = await postJson(url, COMPLETIONS, asked);
      expect(json.choices[0]).toMatchObject({ finish_reason: 'stop', stop_reason: stop });
      expect(json.choices[0].text).toBe(whole.slice(0, whole.indexOf(stop)));
      const stream = await postStream(url, COMPLETIONS, asked);
      expect(stream.text).toBe(json.choices[0].text);
      expect(stream.finishReason).toBe('stop');
    });

    test('prompt and output that exceed the context are refused with the numbers', async () => {
      const models = (await (await fetch(`${url}/v1/models`)).json()) as { data: [{ max_model_len: number }] };
      const limit = models.data[0].max_model_len;
      for (const [path, input] of [
        [COMPLETIONS, { prompt }],
        [CHAT, { messages }],
      ] as const) {
        const { status, json } = await postJson(url, path, { ...greedy(limit), ...input });
        expect(status).toBe(400);
        expect(errorBodySchema.parse(json).error.message).toContain(`maximum context length is ${limit} tokens`);
      }
    });

    test('what cannot be read or is not here is an error with the usual body', async () => {
      const answers = [
        [400, await postJson(url, COMPLETIONS, '{"prompt": ')],
        [400, await postJson(url, COMPLETIONS, { ...greedy(1), prompt, max_tokens: 'many' })],
        [400, await postJson(url, CHAT, { ...greedy(1) })],
        [404, await postJson(url, COMPLETIONS, { ...greedy(1), prompt, model: 'no-such-model' })],
        [404, await postJson(url, CHAT, { ...greedy(1), messages, model: 'no-such-model' })],
      ] as const;
      for (const [status, answer] of answers) {
        expect(answer.status).toBe(status);
        expect(errorBodySchema.parse(answer.json).error.message).not.toBe('');
      }
      expect((await fetch(`${url}/no/such/path`)).status).toBe(404);
    });

    test("the caller's request id is part of the answer's id", async () => {
      const body = { ...greedy(1), prompt };
      expect((await postJson(url, COMPLETIONS, { ...body, request_id: 'mine-1' })).json.id).toBe('cmpl-mine-1');
      expect((await postJson(url, COMPLETIONS, body, { 'x-request-id': 'mine-2' })).json.id).toBe('cmpl-mine-2');
      expect((await postStream(url, CHAT, { ...greedy(1), messages, request_id: 'mine-3' })).chunks[0].id).toBe(
        'chatcmpl-mine-3',
      );
    });

    test('many streams at once all end whole, and the counters know of each token', async () => {
      const before = await metric(url, 'vllm:generation_tokens_total');
      const ended = await metric(url, 'vllm:request_success_total');
      const streams = await Promise.all(
        Array.from({ length: 24 }, (_, i) =>
          postStream(url, COMPLETIONS, { ...greedy(10 + i), prompt: `${prompt} ${i}`, return_token_ids: true }),
        ),
      );
      expect(streams.map((stream) => stream.tokenIds.length)).toEqual(streams.map((_, i) => 10 + i));
      const tokens = streams.reduce((sum, stream) => sum + stream.tokenIds.length, 0);
      expect((await metric(url, 'vllm:generation_tokens_total')) - before).toBe(tokens);
      expect((await metric(url, 'vllm:request_success_total')) - ended).toBe(streams.length);
      expect(await metric(url, 'vllm:num_requests_waiting')).toBe(0);
      for (const name of ['time_to_first_token', 'inter_token_latency', 'e2e_request_latency']) {
        expect(await metric(url, `vllm:${name}_seconds_count`)).toBeGreaterThan(0);
      }
    });

    test('a client that hangs up frees its slot and its KV blocks', async () => {
      const models = (await (await fetch(`${url}/v1/models`)).json()) as { data: [{ max_model_len: number }] };
      await until(async () => (await metric(url, 'vllm:num_requests_running')) === 0);
      const before = await metric(url, 'vllm:generation_tokens_total');
      const client = new AbortController();
      const tokens = models.data[0].max_model_len - 100;
      const long = { ...greedy(tokens), prompt, stream: true };
      const response = await post(url, COMPLETIONS, long, {}, client.signal);
      for await (const _ of eventsOf(response)) break;
      client.abort();
      await until(async () => (await metric(url, 'vllm:num_requests_running')) === 0);
      expect(await metric(url, 'vllm:kv_cache_usage_perc')).toBe(0);
      // It was given up, not run to its end.
      expect((await metric(url, 'vllm:generation_tokens_total')) - before).toBeLessThan(tokens);
    });
  });
}
