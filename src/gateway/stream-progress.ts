// What a stream has given its client so far. It outlives the engines that produce the stream: when one goes, the next
// goes on from here.

/** Undelivered text is held back by detokenizers for at most this many tokens (a UTF-8 character has four bytes). */
const LONGEST_SEAM = 4;

const NO_IDS = new Int32Array(0);

/** Token ids in order of generation; grows by doubling. */
export class TokenLog {
  /** Made with the first token: most requests are no streams. */
  #ids = NO_IDS;
  length = 0;

  push(id: number): void {
    if (this.length === this.#ids.length) {
      const larger = new Int32Array(Math.max(64, 2 * this.length));
      larger.set(this.#ids);
      this.#ids = larger;
    }
    this.#ids[this.length++] = id;
  }

  truncate(length: number): void {
    this.length = Math.min(this.length, length);
  }

  /** `1,2,3`. */
  toJsonItems(): string {
    return this.#ids.subarray(0, this.length).join(',');
  }
}

export class StreamProgress {
  /** Items of the prompt's ids as JSON text, `1,2,3`; null until the engine told them. */
  promptItems: string | null = null;
  /** Tokens of the prompt: counted from its ids, or told in usage; null until known. */
  promptTokens: number | null = null;
  readonly ids = new TokenLog();
  /** Output tokens: exact with ids, else events that carried text until usage tells. */
  generated = 0;
  /** Length of the longest prefix of the output whose text was delivered in full. */
  texted = 0;
  /** The first event as the client got it, JSON as latin1 bytes; null until then. */
  firstEvent: string | null = null;
  /** A finish reason was delivered. */
  finished = false;
  usageDelivered = false;
  /** `[DONE]` was delivered. */
  done = false;
  /** Output other than text was seen (reasoning, tool calls): no continuation gives it. */
  otherOutput = false;

  /** Something was delivered that a second answer from the start would repeat. */
  get delivered(): boolean {
    return this.firstEvent !== null;
  }

  /**
   * Forgets trailing tokens whose text never came (bytes of an unfinished character): the next engine makes them
   * again, so that no detokenizer has to start inside a character.
   *
   * @returns how many tokens were dropped.
   */
  dropUntexted(): number {
    const dropped = this.generated - this.texted;
    if (dropped === 0 || dropped > LONGEST_SEAM) return 0;
    this.ids.truncate(this.texted);
    this.generated = this.texted;
    return dropped;
  }
}
