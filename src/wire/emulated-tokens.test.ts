import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  EMULATED_MEAN_OUTPUT_TOKENS,
  EMULATED_VOCABULARY,
  FIRST_ORDINARY_TOKEN,
  fold,
  foldAll,
  isEndOfSequence,
  nextToken,
  startState,
  tokenize,
  tokenText,
} from './emulated-tokens.ts';

const ordinary = fc.integer({ min: FIRST_ORDINARY_TOKEN, max: EMULATED_VOCABULARY - 1 });
const answerAfter = (prompt: number[], length: number): number[] => {
  let state = foldAll(startState(), prompt);
  return Array.from({ length }, () => {
    const token = nextToken(state);
    state = fold(state, token);
    return token;
  });
};

test('text of tokens gives back the same tokens', () => {
  fc.assert(
    fc.property(fc.array(ordinary, { maxLength: 50 }), (tokens) => {
      expect(tokenize(tokens.map(tokenText).join(''))).toEqual(tokens);
    }),
  );
});

test('every ordinary token has a text of its own', () => {
  const seen = new Set<string>();
  for (let token = FIRST_ORDINARY_TOKEN; token < EMULATED_VOCABULARY; token++) seen.add(tokenText(token));
  expect(seen.size).toBe(EMULATED_VOCABULARY - FIRST_ORDINARY_TOKEN);
  expect([...seen].some((text) => new TextEncoder().encode(text).length > text.length)).toBe(true);
});

test('an answer cut anywhere goes on identically from prompt and tokens so far', () => {
  fc.assert(
    fc.property(fc.array(ordinary, { maxLength: 20 }), fc.nat(30), fc.nat(30), (prompt, first, second) => {
      const whole = answerAfter(prompt, first + second);
      expect(answerAfter([...prompt, ...whole.slice(0, first)], second)).toEqual(whole.slice(first));
    }),
  );
});

test('a lost, repeated or changed token changes what follows', () => {
  fc.assert(
    fc.property(fc.array(ordinary, { minLength: 2, maxLength: 20 }), fc.nat(), ordinary, (prompt, at, other) => {
      const i = at % prompt.length;
      const expected = answerAfter(prompt, 8);
      const lost = prompt.filter((_, index) => index !== i);
      const repeated = [...prompt.slice(0, i + 1), ...prompt.slice(i)];
      const changed = prompt.map((token, index) => (index === i ? other : token));
      expect(answerAfter(lost, 8)).not.toEqual(expected);
      expect(answerAfter(repeated, 8)).not.toEqual(expected);
      if (other !== prompt[i]) expect(answerAfter(changed, 8)).not.toEqual(expected);
    }),
  );
});

test('next tokens spread over the vocabulary and answers have the stated mean length', () => {
  let state = startState();
  let ends = 0;
  const seen = new Set<number>();
  const steps = 400_000;
  for (let i = 0; i < steps; i++) {
    const token = nextToken(state);
    if (!(token >= FIRST_ORDINARY_TOKEN && token < EMULATED_VOCABULARY)) expect.fail(`token ${token}`);
    seen.add(token);
    state = fold(state, token);
    if (isEndOfSequence(state)) ends++;
  }
  expect(seen.size).toBeGreaterThan(0.99 * EMULATED_VOCABULARY);
  expect(steps / ends).toBeGreaterThan(0.9 * EMULATED_MEAN_OUTPUT_TOKENS);
  expect(steps / ends).toBeLessThan(1.1 * EMULATED_MEAN_OUTPUT_TOKENS);
});

test('ordinary words become about a token for every four letters, the same each time', () => {
  const text = 'The capital of Österreich is Wien, since 1918. 東京';
  expect(tokenize(text)).toEqual(tokenize(text));
  expect(tokenize(text).length).toBeGreaterThan(10);
  expect(tokenize('')).toEqual([]);
});
