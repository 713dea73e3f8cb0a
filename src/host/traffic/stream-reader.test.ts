import fc from 'fast-check';
import { expect, test } from 'vitest';
import { fold, foldAll, nextToken, SSE_DONE, sseData, startState, tokenText } from '../../wire/index.ts';
import { StreamReader } from './stream-reader.ts';

const prompt = [10, 20, 30];
const promptState = foldAll(startState(), prompt);

function answer(length: number): number[] {
  let state = promptState;
  return Array.from({ length }, () => {
    const token = nextToken(state);
    state = fold(state, token);
    return token;
  });
}

const chunk = (tokens: readonly number[], finish: string | null) =>
  sseData(
    JSON.stringify({
      id: 'x',
      choices: [{ index: 0, text: tokens.map(tokenText).join(''), finish_reason: finish, token_ids: tokens }],
      usage: null,
    }),
  );
const usage = (completion: number) =>
  sseData(
    JSON.stringify({
      id: 'x',
      choices: [],
      usage: { prompt_tokens: 3, total_tokens: 3 + completion, completion_tokens: completion },
    }),
  );
/** Tokens in chunks of the given sizes, the last one with the finish reason. */
function stream(tokens: readonly number[], sizes: readonly number[] = [1]): string {
  let text = sseData(JSON.stringify({ choices: [{ index: 0, text: '', prompt_token_ids: prompt }] }));
  for (let i = 0, n = 0; i < tokens.length; n++) {
    const size = sizes[n % sizes.length]!;
    text += chunk(tokens.slice(i, i + size), i + size >= tokens.length ? 'stop' : null);
    i += size;
  }
  return text + usage(tokens.length) + SSE_DONE;
}

function read(
  text: string,
  outputTokens: number | null,
  cuts: readonly number[] = [],
  state: number | null = promptState,
) {
  const reader = new StreamReader({ promptState: state, promptTokens: 3, outputTokens });
  const bytes = Buffer.from(text);
  const ends = [...new Set(cuts.map((cut) => cut % (bytes.length + 1)))].sort((a, b) => a - b);
  let start = 0;
  for (const end of [...ends, bytes.length]) {
    reader.feed(bytes.subarray(start, end));
    start = end;
  }
  return { fault: reader.end(), tokens: reader.tokens, message: reader.message };
}

test('a whole answer is whole however the network cuts it, with several tokens in a chunk or one', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 60 }),
      fc.array(fc.integer({ min: 1, max: 7 }), { minLength: 1, maxLength: 5 }),
      fc.array(fc.nat(), { maxLength: 20 }),
      (length, sizes, cuts) => {
        expect(read(stream(answer(length), sizes), length, cuts)).toEqual({ fault: null, tokens: length, message: '' });
      },
    ),
  );
});

test('a lost, a repeated and a wrong token are told apart', () => {
  fc.assert(
    fc.property(fc.integer({ min: 4, max: 40 }), fc.nat(), (length, at) => {
      const tokens = answer(length);
      const i = 1 + (at % (length - 2));
      expect(read(stream(tokens.toSpliced(i, 1)), length).fault).toBe('lost-tokens');
      expect(read(stream(tokens.toSpliced(i, 0, tokens[i]!)), length).fault).toBe('repeated-tokens');
      expect(read(stream(tokens.with(i, 1)), length).fault).toBe('wrong-tokens');
      expect(read(stream(tokens.slice(0, -1)), length).fault).toBe('lost-tokens');
      expect(read(stream(answer(length + 1)), length).fault).toBe('repeated-tokens');
    }),
  );
});

test('an answer without its end is cut, wherever it ends', () => {
  const whole = stream(answer(5));
  for (const end of [10, whole.length >> 1, whole.length - SSE_DONE.length, whole.length - 1]) {
    expect(read(whole.slice(0, end), 5).fault).toBe('cut');
  }
});

test('errors in the stream, aborts, wrong usage and stray frames are faults', () => {
  const error = sseData(JSON.stringify({ error: { message: 'the replica died', type: 'server_error' } }));
  expect(read(chunk(answer(1), null) + error, 5)).toMatchObject({ fault: 'stream-error', message: 'the replica died' });
  const tokens = answer(3);
  expect(read(chunk(tokens, 'abort') + usage(3) + SSE_DONE, 3).fault).toBe('aborted');
  expect(read(chunk(tokens, 'stop') + usage(4) + SSE_DONE, 3).fault).toBe('usage');
  expect(read(chunk(tokens, 'stop') + SSE_DONE, 3).fault).toBe('usage');
  expect(read(`${stream(tokens)}${chunk([1], null)}`, 3).fault).toBe('protocol');
  expect(read(`data: {nonsense\n\n${stream(tokens)}`, 3).fault).toBe('protocol');
});

test('comments, line ends of both kinds and several tokens without ids are read', () => {
  const tokens = answer(4);
  expect(read(`: keep-alive\n\n${stream(tokens)}`.replaceAll('\n', '\r\n'), 4).fault).toBeNull();
  const withoutIds = ['Grüße', ' an', ' 東京']
    .map((text, i) =>
      sseData(JSON.stringify({ choices: [{ index: 0, text, finish_reason: i === 2 ? 'length' : null }] })),
    )
    .join('');
  // Three chunks, four tokens: usage knows better.
  expect(read(withoutIds + usage(4) + SSE_DONE, 4, [], null)).toMatchObject({ fault: null, tokens: 4 });
});
