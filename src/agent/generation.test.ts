import fc from 'fast-check';
import { expect, test } from 'vitest';
import { fold, foldAll, isEndOfSequence, nextToken, startState, tokenText } from '../wire/index.ts';
import { Generation, type GenerationOptions } from './generation.ts';

const promptIds = fc.array(fc.integer({ min: 3, max: 31999 }), { minLength: 1, maxLength: 8 });

/** Token by token, as the definition says. */
function answer(prompt: readonly number[], length: number): number[] {
  let state = foldAll(startState(), prompt);
  return Array.from({ length }, () => {
    const token = nextToken(state);
    state = fold(state, token);
    return token;
  });
}

const generation = (options: Partial<GenerationOptions> & Pick<GenerationOptions, 'prompt'>) =>
  new Generation({ maxTokens: 100, ignoreEos: false, statedTokens: null, stop: [], ...options });

function drain(made: Generation, steps: readonly number[] = []): { ids: number[]; text: string } {
  let text = '';
  const ids: number[] = [];
  for (const upTo of [...steps.filter((step) => step < made.length).sort((a, b) => a - b), made.length]) {
    made.take(upTo);
    text += made.text;
    if (made.ids !== '') ids.push(...made.ids.split(',').map(Number));
  }
  return { ids, text };
}

test('the tokens are those of the prefix hash, however many are taken at a time', () => {
  fc.assert(
    fc.property(promptIds, fc.array(fc.nat(60)), (prompt, steps) => {
      const taken = drain(generation({ prompt, maxTokens: 60, ignoreEos: true }), steps);
      expect(taken.ids).toEqual(answer(prompt, 60));
      expect(taken.text).toBe(answer(prompt, 60).map(tokenText).join(''));
    }),
  );
});

test('the length is the stated one, cut at max_tokens, and the finish reason says which', () => {
  fc.assert(
    fc.property(promptIds, fc.integer({ min: 1, max: 80 }), fc.integer({ min: 1, max: 80 }), (prompt, stated, max) => {
      const made = generation({ prompt, statedTokens: stated, maxTokens: max });
      expect(made.length).toBe(Math.min(stated, max));
      expect(made.finishReason).toBe(stated <= max ? 'stop' : 'length');
      expect(generation({ prompt, statedTokens: stated, maxTokens: max, ignoreEos: true })).toMatchObject({
        length: max,
        finishReason: 'length',
      });
    }),
  );
});

test('without a stated length the answer ends where the prefix says so', () => {
  fc.assert(
    fc.property(promptIds, (prompt) => {
      const made = generation({ prompt, maxTokens: 5000 });
      const tokens = answer(prompt, made.length);
      const ends = tokens.map((_, i) => isEndOfSequence(foldAll(startState(), [...prompt, ...tokens.slice(0, i + 1)])));
      expect(ends.indexOf(true)).toBe(made.finishReason === 'stop' ? made.length - 1 : -1);
    }),
    { numRuns: 25 },
  );
});

test('an answer that goes on elsewhere ends at the same token for the same reason', () => {
  fc.assert(
    fc.property(promptIds, fc.option(fc.integer({ min: 2, max: 400 })), fc.nat(), (prompt, stated, at) => {
      const maxTokens = 300;
      const whole = generation({ prompt, statedTokens: stated, maxTokens });
      if (whole.length < 2) return;
      const cut = 1 + (at % (whole.length - 1));
      const tokens = answer(prompt, whole.length);
      const rest = generation({
        prompt: [...prompt, ...tokens.slice(0, cut)],
        statedTokens: stated === null ? null : stated - cut,
        maxTokens: maxTokens - cut,
      });
      expect(drain(rest).ids).toEqual(tokens.slice(cut));
      expect(rest.finishReason).toBe(whole.finishReason);
    }),
  );
});

test('a stop string ends the answer at the token that completes it; its text is not shown', () => {
  fc.assert(
    fc.property(
      promptIds,
      fc.nat(),
      fc.integer({ min: 1, max: 12 }),
      fc.array(fc.nat(40)),
      (prompt, at, size, steps) => {
        const tokens = answer(prompt, 40);
        const text = tokens.map(tokenText).join('');
        const from = at % (text.length - size);
        const stop = text.slice(from, from + size);
        const made = generation({ prompt, ignoreEos: true, maxTokens: 40, stop: ['no such text', stop] });
        const shown = drain(made, steps);
        expect(shown.text).toBe(text.slice(0, text.indexOf(stop)));
        expect(made).toMatchObject({ finishReason: 'stop', stopReason: stop });
        // One token fewer would not have completed it.
        expect(tokens.slice(0, made.length).map(tokenText).join('')).toContain(stop);
        expect(
          tokens
            .slice(0, made.length - 1)
            .map(tokenText)
            .join(''),
        ).not.toContain(stop);
      },
    ),
  );
});
