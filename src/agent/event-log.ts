// The agent's events, numbered from 1. A controller that polls with the last number it saw misses nothing while it is at
// most `capacity` events behind; one that is further behind reads the inventory anyway.
import type { PoolClock } from '../host/index.ts';
import type { EventBatch } from '../wire/index.ts';

type AgentEvent = EventBatch['events'][number];

export class EventLog {
  readonly #clock: PoolClock;
  readonly #capacity: number;
  #events: AgentEvent[] = [];
  #last = 0;
  readonly #waiting = new Set<() => void>();

  constructor(clock: PoolClock, capacity = 1000) {
    this.#clock = clock;
    this.#capacity = capacity;
  }

  /** Number of the newest event; 0 when there is none. */
  get last(): number {
    return this.#last;
  }

  add(engine: string, kind: AgentEvent['kind'], detail: string): void {
    this.#last += 1;
    this.#events.push({ number: this.#last, atSeconds: this.#clock.nowSeconds(), engine, kind, detail });
    if (this.#events.length > 2 * this.#capacity) this.#events = this.#events.slice(-this.#capacity);
    for (const wake of [...this.#waiting]) wake();
  }

  /** Events with a number above `after`. A number from the future belongs to an agent before this one: all are new. */
  since(after: number): EventBatch {
    const known = after > this.#last ? 0 : after;
    return { events: this.#events.filter(({ number }) => number > known), lastEvent: this.#last };
  }

  /** As {@link since}, but waits up to `waitSeconds` for the first one. */
  async wait(after: number, waitSeconds: number, signal: AbortSignal): Promise<EventBatch> {
    if (after === this.#last && waitSeconds > 0 && !signal.aborted) {
      await new Promise<void>((resolve) => {
        const wake = () => {
          timer.cancel();
          this.#waiting.delete(wake);
          signal.removeEventListener('abort', wake);
          resolve();
        };
        const timer = this.#clock.at(this.#clock.nowSeconds() + waitSeconds, wake, { unref: true });
        this.#waiting.add(wake);
        signal.addEventListener('abort', wake, { once: true });
      });
    }
    return this.since(after);
  }

  /** Lets everyone who waits go. */
  close(): void {
    for (const wake of [...this.#waiting]) wake();
  }
}
