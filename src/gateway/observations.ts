// What came and what ended, kept for the controller until it says that it has them: a reader that dies between two reads
// loses nothing (at least once), and without a reader the memory stays bounded (the oldest are dropped and counted).
import { randomUUID } from 'node:crypto';
import type { FinishedRequest, RequestView } from '../core/domain/index.ts';

/** Most entries of each kind that wait for a reader. */
const MAX_ENTRIES = 200_000;

interface Numbered<T> {
  readonly number: number;
  readonly value: T;
}

export class Observations {
  readonly incarnation: string = randomUUID();
  readonly #arrivals: Numbered<RequestView>[] = [];
  readonly #finished: Numbered<FinishedRequest>[] = [];
  readonly #maxEntries: number;
  /** Number of the newest entry of either kind. */
  #cursor = 0;
  /** Entries that no reader ever got. */
  dropped = 0;

  constructor(maxEntries = MAX_ENTRIES) {
    this.#maxEntries = maxEntries;
  }

  get cursor(): number {
    return this.#cursor;
  }

  arrived(view: RequestView): void {
    this.#push(this.#arrivals, view);
  }

  finished(request: FinishedRequest): void {
    this.#push(this.#finished, request);
  }

  /**
   * All entries after a cursor; those up to it are forgotten.
   *
   * @param after - the `cursor` of the answer that the reader has kept last, 0 for none.
   */
  read(after: number): { cursor: number; arrivals: RequestView[]; finished: FinishedRequest[] } {
    // A cursor that we never gave belongs to an earlier incarnation.
    const known = after <= this.#cursor ? after : 0;
    forget(this.#arrivals, known);
    forget(this.#finished, known);
    return {
      cursor: this.#cursor,
      arrivals: this.#arrivals.map((entry) => entry.value),
      finished: this.#finished.map((entry) => entry.value),
    };
  }

  #push<T>(list: Numbered<T>[], value: T): void {
    list.push({ number: ++this.#cursor, value });
    if (list.length <= this.#maxEntries) return;
    // A tenth at a time: dropping one by one would move the whole list at each request.
    const surplus = Math.max(1, Math.floor(this.#maxEntries / 10));
    list.splice(0, surplus);
    this.dropped += surplus;
  }
}

function forget<T>(list: Numbered<T>[], upTo: number): void {
  const first = list.findIndex((entry) => entry.number > upTo);
  list.splice(0, first < 0 ? list.length : first);
}
