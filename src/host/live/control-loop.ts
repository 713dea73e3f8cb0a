// When the control loop steps, on the pool's clock: fast ticks every second, slow ticks every minute, at whole multiples
// of their periods. Never two at once: what came due during a step is one tick afterwards, a slow one if any was due.
import type { WaitingClock } from './replica-actions.ts';

export interface ControlLoopOptions {
  readonly clock: WaitingClock;
  readonly fastTickSeconds: number;
  readonly slowTickSeconds: number;
  /** One step; the loop waits for it. */
  readonly step: (kind: 'slow' | 'fast') => Promise<void>;
  /** A step failed; the loop goes on. `inARow` counts failures since the last success. */
  readonly onFailure: (error: Error, inARow: number) => void;
}

export class ControlLoop {
  readonly #options: ControlLoopOptions;
  readonly #stopping = new AbortController();
  #running: Promise<void> = Promise.resolve();

  constructor(options: ControlLoopOptions) {
    this.#options = options;
  }

  start(): void {
    this.#running = this.#run();
  }

  /** Resolves when the step under way, if any, has ended. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { clock, fastTickSeconds, slowTickSeconds, step, onFailure } = this.#options;
    const { signal } = this.#stopping;
    const after = (nowSeconds: number, period: number) => (Math.floor(nowSeconds / period) + 1) * period;
    let nextFast = after(clock.nowSeconds(), fastTickSeconds);
    let nextSlow = after(clock.nowSeconds(), slowTickSeconds);
    let failures = 0;
    while (!signal.aborted) {
      try {
        await clock.delay(Math.max(0, Math.min(nextFast, nextSlow) - clock.nowSeconds()), signal);
      } catch (error) {
        if (signal.aborted) return;
        throw error;
      }
      const nowSeconds = clock.nowSeconds();
      const kind = nowSeconds >= nextSlow ? 'slow' : 'fast';
      try {
        await step(kind);
        failures = 0;
      } catch (error) {
        failures += 1;
        onFailure(error as Error, failures);
      }
      if (kind === 'slow') nextSlow = after(clock.nowSeconds(), slowTickSeconds);
      nextFast = after(clock.nowSeconds(), fastTickSeconds);
    }
  }
}
