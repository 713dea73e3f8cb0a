import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Api, readInferenceRequest } from './inference-request.ts';
import { LengthEstimate } from './length-estimate.ts';

const read = (api: Api, body: unknown) => readInferenceRequest(api, Buffer.from(JSON.stringify(body)));
const chat = (extra: object) =>
  read('chat', { model: 'm', messages: [{ role: 'user', content: 'hi' }], stream: true, ...extra });
const completion = (extra: object) => read('completions', { model: 'm', prompt: 'hi', stream: true, ...extra });

describe('readInferenceRequest', () => {
  test('the forwarded body differs from the sent one by return_token_ids alone, for any other members', () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.jsonValue()), fc.constantFrom(undefined, false, null), (extra, own) => {
        const sent = JSON.parse(
          JSON.stringify({ ...extra, n: 1, return_token_ids: own, model: 'm', stream: true, messages: [] }),
        ) as Record<string, unknown>;
        const request = read('chat', sent);
        const forwarded = JSON.parse(request.forwardBody.toString()) as unknown;
        if (request.notContinuable === null) expect(forwarded).toEqual({ ...sent, return_token_ids: true });
        else if (request.hidesUsage) expect(forwarded).toEqual({ ...sent, stream_options: { include_usage: true } });
        else expect(forwarded).toEqual(sent);
        expect(JSON.parse(request.body.toString())).toEqual(sent);
      }),
    );
  });

  test('a duplicate member is set where it counts: the last one', () => {
    const raw = Buffer.from(
      '{"return_token_ids":false,"model":"m","prompt":"x","stream":true,"return_token_ids":false }',
    );
    const { forwardBody } = readInferenceRequest('completions', raw);
    expect(JSON.parse(forwardBody.toString())).toMatchObject({ return_token_ids: true });
  });

  test('plain streams can be continued', () => {
    for (const extra of [{}, { temperature: 0, seed: 7 }, { stop: [] }, { n: 1 }, { logprobs: null }, { tools: [] }]) {
      expect(chat(extra).notContinuable, JSON.stringify(extra)).toBeNull();
    }
    expect(chat({ response_format: { type: 'text' }, logprobs: false }).notContinuable).toBeNull();
    for (const prompt of ['text', [1, 2, 3], [[1, 2]], ['text']]) {
      expect(completion({ prompt }).notContinuable, JSON.stringify(prompt)).toBeNull();
    }
  });

  test('what cannot be continued exactly is named', () => {
    const reasons: [object, string][] = [
      [{ n: 2 }, 'more than one choice'],
      [{ seed: 1 }, 'seeded sampling'],
      [{ seed: 1, temperature: 0.7 }, 'seeded sampling'],
      [{ stop: ['x'] }, 'stop strings'],
      [{ stop: 'x' }, 'stop strings'],
      [{ tools: [{}] }, 'tools'],
      [{ logprobs: true }, 'log-probabilities'],
      [{ response_format: { type: 'json_object' } }, 'guided decoding'],
      [{ guided_regex: 'a+' }, 'guided_regex'],
      [{ presence_penalty: 0.5 }, 'presence penalty'],
      [{ messages: [{ role: 'user', content: [{ type: 'image_url', image_url: {} }] }] }, 'content that is not text'],
    ];
    for (const [extra, reason] of reasons) expect(chat(extra).notContinuable, JSON.stringify(extra)).toBe(reason);
    for (const prompt of [['a', 'b'], [[1], [2]], [], {}].slice(0, 2)) {
      expect(completion({ prompt }).notContinuable).toBe('more than one choice');
    }
    expect(completion({ logprobs: 0 }).notContinuable).toBe('log-probabilities');
    expect(completion({ stream: false }).notContinuable).toBe('not a stream');
  });

  test('the output limit is the one that the API documents', () => {
    expect(chat({}).maxTokens).toBeNull();
    expect(chat({ max_tokens: 5 }).maxTokens).toBe(5);
    expect(chat({ max_tokens: 5, max_completion_tokens: 9 }).maxTokens).toBe(9);
    expect(chat({ max_tokens: 'many' }).maxTokens).toBeNull();
    expect(completion({}).maxTokens).toBe(16);
    expect(completion({ max_tokens: 300 }).maxTokens).toBe(300);
  });

  test('prompt length is exact for token ids and bytes for text', () => {
    expect(completion({ prompt: [5, 6, 7] }).prompt).toEqual({ kind: 'tokens', count: 3 });
    expect(completion({ prompt: [[5, 6], [7]] }).prompt).toEqual({ kind: 'tokens', count: 3 });
    expect(completion({ prompt: 'héllo' }).prompt).toEqual({ kind: 'text', bytes: 6 });
    expect(chat({ messages: [{ role: 'user', content: 'hello' }] }).prompt).toEqual({ kind: 'text', bytes: 9 });
  });

  test('a request without a model is refused', () => {
    expect(() => read('chat', { messages: [] })).toThrow(/model/);
    expect(() => read('chat', { model: 5, messages: [] })).toThrow(/model/);
  });
});

describe('LengthEstimate', () => {
  test('starts at four bytes per token and moves to what the engines report, per model', () => {
    const estimate = new LengthEstimate();
    expect(estimate.tokens('a', 400)).toBe(100);
    for (let i = 0; i < 1000; i++) estimate.learn('a', 3000, 1000);
    expect(estimate.ratio('a')).toBeCloseTo(3, 2);
    expect(estimate.ratio('b')).toBe(4);
    expect(estimate.tokens('b', 0)).toBe(1);
  });

  test('the estimate lies between the smallest and the largest ratio seen', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.integer({ min: 1, max: 1e6 }), fc.integer({ min: 1, max: 1e5 })), { minLength: 1 }),
        (prompts) => {
          const estimate = new LengthEstimate();
          for (const [bytes, tokens] of prompts) estimate.learn('m', bytes, tokens);
          const ratios = [4, ...prompts.map(([bytes, tokens]) => bytes / tokens)];
          expect(estimate.ratio('m')).toBeGreaterThanOrEqual(Math.min(...ratios) * (1 - 1e-9));
          expect(estimate.ratio('m')).toBeLessThanOrEqual(Math.max(...ratios) * (1 + 1e-9));
        },
      ),
    );
  });
});
