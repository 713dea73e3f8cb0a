// Drives the replica model on the pool's clock. The model is exact however late it is asked, so a late timer moves no
// token: when several steps have passed, a request gets the tokens of all of them at once, as vLLM's streams do under
// back-pressure.
import type { ReplicaEngine, TokenSink } from '../core/replica/index.ts';
import type { PoolClock, Timer } from '../host/index.ts';
import type { FinishReason } from '../wire/index.ts';
import type { EngineMetrics, RequestTimes } from './engine-metrics.ts';

/** Who gets the tokens of one request: how many there are now, and whether that was the last. */
export type TokenListener = (generatedTokens: number, finished: boolean) => void;

/** What one request asks of the engine. */
export interface Work {
  readonly inputTokens: number;
  /** The true length, which nobody but the engine knows. */
  readonly outputTokens: number;
  /** Smaller goes first. */
  readonly priority: number;
  readonly finishReason: FinishReason;
}

interface Entry extends RequestTimes {
  readonly finishReason: FinishReason;
  readonly handle: number;
  readonly listener: TokenListener;
  changed: boolean;
  finished: boolean;
}

export type DriverClock = Pick<PoolClock, 'nowSeconds' | 'at'>;
export type TokenMetrics = Pick<EngineMetrics, 'firstToken' | 'laterToken' | 'completed' | 'ended'>;

export class EngineDriver implements TokenSink {
  readonly #clock: DriverClock;
  readonly #replica: ReplicaEngine;
  readonly #metrics: TokenMetrics;
  readonly #entries = new Map<number, Entry>();
  #changed: Entry[] = [];
  #handles = 0;
  #timer: Timer | null = null;
  #closed = false;
  #timerSeconds = Number.POSITIVE_INFINITY;

  constructor(clock: DriverClock, replica: ReplicaEngine, metrics: TokenMetrics) {
    this.#clock = clock;
    this.#replica = replica;
    this.#metrics = metrics;
  }

  get requestCount(): number {
    return this.#entries.size;
  }

  add({ inputTokens, outputTokens, priority, finishReason }: Work, listener: TokenListener): number {
    const now = this.#clock.nowSeconds();
    // Batches that have ended come first: the request joins the one that starts next.
    this.#advance(now);
    this.#handles += 1;
    const entry: Entry = {
      handle: this.#handles,
      inputTokens,
      arrivalSeconds: now,
      generatedTokens: 0,
      firstTokenSeconds: Number.NaN,
      lastTokenSeconds: Number.NaN,
      finishReason,
      listener,
      changed: false,
      finished: false,
    };
    this.#entries.set(entry.handle, entry);
    this.#replica.add(entry.handle, inputTokens, outputTokens, now, priority);
    this.settle();
    return entry.handle;
  }

  /** Gives the request's slot and KV blocks back at once; its listener hears no more. */
  remove(handle: number): void {
    const entry = this.#entries.get(handle);
    if (!entry) return;
    this.#entries.delete(handle);
    if (entry.finished) return; // its last token is on its way to the listener
    // First what has happened until now: the replica can only take a request out at once when it is up to date.
    const now = this.#clock.nowSeconds();
    this.#advance(now);
    this.#replica.remove(handle, now);
    this.#metrics.ended('abort');
    this.settle();
  }

  /** Brings the model up to now, so that counts are those of now. */
  settle(): void {
    this.#advance(this.#clock.nowSeconds());
    this.#arm();
  }

  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
    this.#timer = null;
    this.#timerSeconds = Number.POSITIVE_INFINITY;
  }

  /** From the replica model: one more token of a request. */
  token(handle: number, generatedTokens: number, atSeconds: number): void {
    const entry = this.#entries.get(handle);
    if (!entry) return;
    if (entry.generatedTokens === 0) {
      entry.firstTokenSeconds = atSeconds;
      this.#metrics.firstToken(entry.inputTokens, atSeconds - entry.arrivalSeconds);
    } else {
      this.#metrics.laterToken(atSeconds - entry.lastTokenSeconds);
    }
    entry.generatedTokens = generatedTokens;
    entry.lastTokenSeconds = atSeconds;
    if (!entry.changed) {
      entry.changed = true;
      this.#changed.push(entry);
    }
  }

  /** From the replica model: that was the last one. */
  finished(handle: number): void {
    const entry = this.#entries.get(handle);
    if (!entry) return;
    entry.finished = true;
    this.#metrics.completed(entry);
    this.#metrics.ended(entry.finishReason);
  }

  #advance(nowSeconds: number): void {
    this.#replica.advance(nowSeconds, this);
    if (this.#changed.length === 0) return;
    const changed = this.#changed;
    this.#changed = [];
    for (const entry of changed) {
      entry.changed = false;
      // A listener before this one may have removed it.
      if (!this.#entries.has(entry.handle)) continue;
      if (entry.finished) this.#entries.delete(entry.handle);
      entry.listener(entry.generatedTokens, entry.finished);
    }
  }

  #arm(): void {
    const next = this.#replica.nextEventSeconds();
    if (this.#closed || next === this.#timerSeconds) return;
    this.#timer?.cancel();
    this.#timerSeconds = next;
    this.#timer = Number.isFinite(next) ? this.#clock.at(next, this.#onTimer) : null;
  }

  readonly #onTimer = (): void => {
    this.#timerSeconds = Number.POSITIVE_INFINITY;
    this.settle();
  };
}
