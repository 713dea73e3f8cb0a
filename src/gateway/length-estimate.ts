// How many tokens a text prompt has, before any tokenizer saw it: bytes of text over a bytes-per-token ratio that is
// learnt, per model, from the prompt lengths that engines report. Old prompts fade, so that the ratio follows a change of
// language or content; it only guides routing, the engine's own count is what binds.

/** Ratio that is assumed of a model until its first answers, bytes per token. */
const START_RATIO = 4;
/** The start counts as much as this many tokens of evidence. */
const START_TOKENS = 1000;
/** Weight that earlier evidence keeps with each further prompt. */
const FADE = 0.99;

export class LengthEstimate {
  readonly #byModel = new Map<string, { bytes: number; tokens: number }>();

  /** @returns tokens, at least 1. */
  tokens(model: string, textBytes: number): number {
    return Math.max(1, Math.ceil(textBytes / this.ratio(model)));
  }

  /** Bytes of text per token. */
  ratio(model: string): number {
    const seen = this.#byModel.get(model);
    return seen === undefined ? START_RATIO : seen.bytes / seen.tokens;
  }

  /** A text prompt of `textBytes` had `tokens` tokens. */
  learn(model: string, textBytes: number, tokens: number): void {
    if (textBytes <= 0 || tokens <= 0) return;
    let seen = this.#byModel.get(model);
    if (seen === undefined) {
      seen = { bytes: START_RATIO * START_TOKENS, tokens: START_TOKENS };
      this.#byModel.set(model, seen);
    }
    seen.bytes = seen.bytes * FADE + textBytes;
    seen.tokens = seen.tokens * FADE + tokens;
  }
}
