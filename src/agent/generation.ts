// One answer of the emulated model. The engine, as nobody else, knows how long it will be: the header of a replayed
// request says so, or the prefix hash decides where the sequence ends. Tokens are made when they are taken, so a slow
// client costs a counter and no buffer.
import { type FinishReason, fold, foldAll, isEndOfSequence, nextToken, startState, tokenText } from '../wire/index.ts';

export interface GenerationOptions {
  readonly prompt: readonly number[];
  /** Most tokens to generate here. */
  readonly maxTokens: number;
  readonly ignoreEos: boolean;
  /** Tokens that are left of a stated true length, or null: the prefix decides. */
  readonly statedTokens: number | null;
  readonly stop: readonly string[];
}

export class Generation {
  readonly prompt: readonly number[];
  /** Tokens that this answer will have. */
  readonly length: number;
  readonly finishReason: FinishReason;
  /** The stop string that ends the answer, or null. */
  readonly stopReason: string | null;
  /** Tokens taken so far, and the text of the last {@link take}. */
  taken = 0;
  text = '';
  /** Ids of the last {@link take}, separated by commas. */
  ids = '';
  #state: number;
  /** Characters of text that the client may still see; a stop string is not part of the answer. */
  #visible: number;

  constructor({ prompt, maxTokens, ignoreEos, statedTokens, stop }: GenerationOptions) {
    this.prompt = prompt;
    this.#state = foldAll(startState(), prompt);
    const natural = ignoreEos ? Number.POSITIVE_INFINITY : (statedTokens ?? naturalLength(this.#state, maxTokens));
    const length = Math.min(maxTokens, natural);
    const stopped = stop.length === 0 ? null : firstStop(this.#state, length, stop);
    this.length = stopped?.tokens ?? length;
    this.finishReason = stopped || natural <= maxTokens ? 'stop' : 'length';
    this.stopReason = stopped?.stop ?? null;
    this.#visible = stopped?.characters ?? Number.POSITIVE_INFINITY;
  }

  /** Makes the next tokens up to the `upTo`-th; they stand in {@link text} and {@link ids}. */
  take(upTo: number): void {
    let state = this.#state;
    let text = '';
    let ids = '';
    for (let i = this.taken; i < upTo; i++) {
      const token = nextToken(state);
      state = fold(state, token);
      text += tokenText(token);
      ids = ids === '' ? String(token) : `${ids},${token}`;
    }
    if (text.length > this.#visible) text = text.slice(0, this.#visible);
    this.#visible -= text.length;
    this.#state = state;
    this.taken = upTo;
    this.text = text;
    this.ids = ids;
  }
}

/** Tokens until the prefix says "end", at most one more than `limit`. */
function naturalLength(start: number, limit: number): number {
  let state = start;
  for (let length = 1; length <= limit; length++) {
    state = fold(state, nextToken(state));
    if (isEndOfSequence(state)) return length;
  }
  return limit + 1;
}

/** Where the first stop string stands in the answer: the token that completes it, and the characters before it. */
function firstStop(start: number, length: number, stops: readonly string[]) {
  const longest = Math.max(...stops.map((stop) => stop.length));
  let state = start;
  let text = '';
  for (let tokens = 1; tokens <= length; tokens++) {
    const token = nextToken(state);
    state = fold(state, token);
    const from = Math.max(0, text.length - longest + 1);
    text += tokenText(token);
    const found = stops
      .map((stop) => ({ stop, tokens, characters: text.indexOf(stop, from) }))
      .filter(({ stop, characters }) => stop !== '' && characters >= 0)
      .sort((a, b) => a.characters - b.characters)[0];
    if (found) return found;
  }
  return null;
}
