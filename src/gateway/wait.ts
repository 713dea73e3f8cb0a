// The limits of one request's waiting: a deadline that goes on over tries at busy engines, and begins anew after progress.

export class Wait {
  readonly #limitMs: number;
  readonly #onOver: (waitedMs: number) => void;
  #deadlineMs: number | null = null;
  #timer: NodeJS.Timeout | null = null;
  #sinceMs = 0;
  /** All waiting so far, real ms. */
  totalMs = 0;

  /** @param onOver - told once when the limit is reached, with how long this wait was. */
  constructor(limitMs: number, onOver: (waitedMs: number) => void) {
    this.#limitMs = limitMs;
    this.#onOver = onOver;
  }

  begin(): void {
    this.#sinceMs = performance.now();
    this.#deadlineMs ??= this.#sinceMs + this.#limitMs;
    this.#timer = setTimeout(() => this.#onOver(this.end()), Math.max(0, this.#deadlineMs - this.#sinceMs));
  }

  /** @returns how long this wait was, real ms; 0 when there was none. */
  end(): number {
    if (this.#timer === null) return 0;
    clearTimeout(this.#timer);
    this.#timer = null;
    const waitedMs = performance.now() - this.#sinceMs;
    this.totalMs += waitedMs;
    return waitedMs;
  }

  /** There was progress: a further wait has the whole limit again. */
  forget(): void {
    this.#deadlineMs = null;
  }
}
