// The one clock of a live pool: emulated seconds since the pool's epoch, running `speed` times as fast as real time.
// Every process is told the same epoch and speed and so agrees on "now"; deadlines are absolute, so that late timers do
// not add up. Time runs on the monotonic clock from the moment the process starts: a wall clock that jumps later moves
// nothing here, and `epochMs` always names the epoch as a process started now must be told it.
import type { Clock } from '../core/domain/index.ts';

export interface PoolClockOptions {
  /** Wall-clock time of emulated second 0, milliseconds since 1970. */
  readonly epochMs: number;
  /** Emulated seconds per real second; 1 for a real pool. */
  readonly speed: number;
}

export interface Timer {
  cancel(): void;
}

/** Longest single `setTimeout`: longer waits are cut, since Node's own limit is 2^31 - 1 ms. */
const LONGEST_TIMEOUT_MS = 60_000;

export class PoolClock implements Clock {
  readonly speed: number;
  /** Monotonic milliseconds (performance.now) of emulated second 0; negative when the pool is older than the process. */
  readonly #originMs: number;

  constructor({ epochMs, speed }: PoolClockOptions) {
    this.speed = speed;
    this.#originMs = performance.now() - (Date.now() - epochMs);
  }

  /** A clock whose second 0 is now. */
  static startNow(speed = 1): PoolClock {
    return new PoolClock({ epochMs: Date.now(), speed });
  }

  /** Emulated seconds since the epoch. */
  nowSeconds(): number {
    return ((performance.now() - this.#originMs) / 1000) * this.speed;
  }

  /** Wall-clock milliseconds of second 0, to hand to a child process that starts now. */
  get epochMs(): number {
    return Date.now() - (performance.now() - this.#originMs);
  }

  /** What a child process needs to build the same clock. */
  toJSON(): PoolClockOptions {
    return { epochMs: this.epochMs, speed: this.speed };
  }

  /** Real milliseconds until an emulated instant; 0 when it has passed. */
  msUntil(seconds: number): number {
    return Math.max(0, ((seconds - this.nowSeconds()) / this.speed) * 1000);
  }

  /** Real milliseconds that an emulated duration takes. */
  realMs(durationSeconds: number): number {
    return (durationSeconds / this.speed) * 1000;
  }

  /**
   * Calls back once, never before the emulated instant `seconds`.
   *
   * @param options.unref - true: the timer alone does not keep the process alive.
   */
  at(seconds: number, callback: () => void, options: { readonly unref?: boolean } = {}): Timer {
    let handle: NodeJS.Timeout;
    const arm = () => {
      // setTimeout rounds down to whole milliseconds: rounding up keeps the promise "never before".
      const ms = Math.min(LONGEST_TIMEOUT_MS, Math.ceil(this.msUntil(seconds)));
      handle = setTimeout(() => (this.nowSeconds() >= seconds ? callback() : arm()), ms);
      if (options.unref) handle.unref();
    };
    arm();
    return { cancel: () => clearTimeout(handle) };
  }

  /**
   * Resolves at the emulated instant `seconds`, never before.
   *
   * @throws the signal's reason when it aborts first; the timer is gone then.
   */
  delayUntil(seconds: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      const onAbort = () => {
        timer.cancel();
        reject(signal?.reason);
      };
      const timer = this.at(seconds, () => {
        signal?.removeEventListener('abort', onAbort);
        resolve();
      });
      signal?.addEventListener('abort', onAbort, { once: true });
    });
  }

  /** Resolves after an emulated duration; see {@link delayUntil}. */
  delay(durationSeconds: number, signal?: AbortSignal): Promise<void> {
    return this.delayUntil(this.nowSeconds() + durationSeconds, signal);
  }
}
