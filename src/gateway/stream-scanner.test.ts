import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type InferenceRequest, readInferenceRequest } from './inference-request.ts';
import { StreamProgress } from './stream-progress.ts';
import { StreamScanner, usageCounts } from './stream-scanner.ts';

const requestOf = (more: object = {}): InferenceRequest =>
  readInferenceRequest('chat', Buffer.from(JSON.stringify({ model: 'm', messages: [], stream: true, ...more })));

/** Feeds bytes in pieces of the given sizes, over and over; returns what the client gets. */
function feed(request: InferenceRequest, raw: string, sizes: readonly number[] = []) {
  const progress = new StreamProgress();
  const scanner = new StreamScanner(request, progress);
  const bytes = Buffer.from(raw);
  let out = '';
  for (let at = 0, i = 0; at < bytes.length; i++) {
    const size = sizes.length === 0 ? bytes.length : sizes[i % sizes.length]!;
    const piece = scanner.feed(bytes.subarray(at, at + size));
    out += typeof piece === 'string' ? piece : piece.toString('latin1');
    at += size;
  }
  return { progress, scanner, out: Buffer.from(out, 'latin1').toString() };
}

const event = (value: unknown, end = '\n\n') => `data: ${JSON.stringify(value)}${end}`;
const token = (content: string, ids: number[] | null, more: object = {}) => ({
  id: 'x',
  choices: [{ index: 0, delta: { content }, logprobs: null, finish_reason: null, token_ids: ids, ...more }],
});

describe('StreamScanner', () => {
  test('takes ids out of any stream, cut into any pieces, and leaves every other byte', () => {
    const tokens = fc.array(
      fc.record({ content: fc.string({ unit: 'grapheme' }), ids: fc.array(fc.nat(200_000), { maxLength: 4 }) }),
      { maxLength: 12 },
    );
    const sizes = fc.array(fc.integer({ min: 1, max: 200 }), { maxLength: 6 });
    fc.assert(
      fc.property(tokens, sizes, fc.array(fc.nat(1e6)), (list, pieces, promptIds) => {
        const events = list.map(({ content, ids }, i) =>
          event({ ...token(content, ids), ...(i === 0 ? { prompt_token_ids: promptIds } : {}) }),
        );
        const bare = list.map(({ content }) => event(token(content, null)).replace(',"token_ids":null', ''));
        const { progress, out } = feed(requestOf(), `${events.join('')}: ping\n\ndata: [DONE]\n\n`, pieces);
        expect(out).toBe(`${bare.join('')}: ping\n\ndata: [DONE]\n\n`);
        const ids = list.flatMap((one) => one.ids);
        expect(progress.ids.toJsonItems()).toBe(ids.join(','));
        expect(progress.generated).toBe(ids.length);
        expect(progress.done).toBe(true);
        if (list.length > 0) {
          expect(progress.promptItems).toBe(promptIds.join(','));
          expect(progress.promptTokens).toBe(promptIds.length);
        }
      }),
    );
  });

  test('content that looks like a key is content', () => {
    for (const content of ['"token_ids":[1,2]', 'token_ids', '"finish_reason":"stop"', 'data: [DONE]\n\n', '"error"']) {
      const { progress, out, scanner } = feed(requestOf(), event(token(content, [7])));
      expect(JSON.parse(out.slice(6)).choices[0].delta.content).toBe(content);
      expect(progress).toMatchObject({ generated: 1, finished: false, done: false });
      expect(scanner.stopped).toBeNull();
    }
  });

  test('the first event is kept as the client got it, so that later ones can be made like it', () => {
    const first = { ...token('', []), prompt_token_ids: [1, 2, 3], created: 5 };
    const { progress } = feed(requestOf(), event(first) + event(token('a', [1])));
    expect(JSON.parse(progress.firstEvent ?? '')).toEqual({
      id: 'x',
      created: 5,
      choices: [{ index: 0, delta: { content: '' }, logprobs: null, finish_reason: null }],
    });
  });

  test('other line ends and spaces are understood', () => {
    const raw =
      'data: {"choices": [{"delta": {"content": "a"}, "finish_reason": "stop", "token_ids": [ 1, 2 ]}]}\r\n\r\n';
    const { progress, out } = feed(requestOf(), `${raw}data: [DONE]\r\n\r\n`);
    expect(progress).toMatchObject({ generated: 2, texted: 2, finished: true, done: true });
    expect(out).toBe(
      'data: {"choices": [{"delta": {"content": "a"}, "finish_reason": "stop"}]}\r\n\r\ndata: [DONE]\r\n\r\n',
    );
  });

  test('bytes pass untouched, as the very buffer, where nothing has to be taken out', () => {
    const request = requestOf({ return_token_ids: true });
    const scanner = new StreamScanner(request, new StreamProgress());
    const chunk = Buffer.from(event(token('é', [1])) + event(token('b', [2])));
    expect(scanner.feed(chunk)).toBe(chunk);
  });

  test('tokens without text are not counted as delivered text, and can be taken back', () => {
    const { progress } = feed(requestOf(), event(token('a', [1])) + event(token('', [2])) + event(token('', [3])));
    expect(progress).toMatchObject({ generated: 3, texted: 1 });
    expect(progress.dropUntexted()).toBe(2);
    expect(progress.ids.toJsonItems()).toBe('1');
    const silent = feed(
      requestOf(),
      event(token('a', [1])) +
        Array(5)
          .fill(event(token('', [2])))
          .join(''),
    );
    expect(silent.progress.dropUntexted()).toBe(0);
  });

  test('an error or an abort stops the stream; what came before it is delivered', () => {
    const good = event(token('a', [1]));
    const bad = event({ error: { message: 'out of memory', code: 500 } });
    const error = feed(requestOf(), good + bad + event(token('LOST', [2])));
    expect(error.scanner.stopped).toMatchObject({ kind: 'error' });
    const abort = feed(requestOf(), good + event(token('LOST', [2], { finish_reason: 'abort' })));
    expect(abort.scanner.stopped).toEqual({ kind: 'aborted' });
    for (const { out, progress } of [error, abort]) {
      expect(out).toBe(good.replace(',"token_ids":[1]', ''));
      expect(progress).toMatchObject({ generated: 1, finished: false });
    }
  });

  test('reasoning and tool calls make a stream one that no continuation gives', () => {
    for (const delta of [{ reasoning_content: 'hm' }, { reasoning: 'hm' }, { tool_calls: [{ index: 0 }] }]) {
      const choice = { index: 0, delta, finish_reason: null };
      expect(feed(requestOf(), event({ choices: [choice] })).progress.otherOutput).toBe(true);
    }
    const plain = { index: 0, delta: { content: '', reasoning_content: null, tool_calls: [] }, finish_reason: null };
    expect(feed(requestOf(), event({ choices: [plain] })).progress.otherOutput).toBe(false);
  });

  test('without ids, events with text are counted until usage tells', () => {
    const request = requestOf({ seed: 1 });
    const raw = event(token('a', null)) + event(token('bc', null));
    expect(feed(request, raw).progress).toMatchObject({ generated: 2, promptTokens: null });
    const usage = { choices: [], usage: { prompt_tokens: 5, total_tokens: 9, completion_tokens: 4 } };
    const counted = feed(request, raw + event(usage));
    expect(counted.progress).toMatchObject({ generated: 4, promptTokens: 5 });
    expect(counted.out).toBe(raw);
  });
});

test('usageCounts reads the last usage of an answer', () => {
  expect(usageCounts('{"usage":{"prompt_tokens":3,"total_tokens":5,"completion_tokens":2}}')).toEqual({
    promptTokens: 3,
    completionTokens: 2,
  });
  expect(usageCounts('{"text":"completion_tokens","prompt_tokens": 3, "completion_tokens" : 7}')).toEqual({
    promptTokens: 3,
    completionTokens: 7,
  });
  expect(usageCounts('{"usage":null}')).toBeNull();
});
