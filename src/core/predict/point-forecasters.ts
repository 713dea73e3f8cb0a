// The simple methods, each for one series: what to expect when nothing is known but the past counts.
import { MOST_HORIZONS, type PointForecaster } from './predictor.ts';

/** The next window is like the last one. */
export class LastValue implements PointForecaster {
  #last = 0;

  step(value: number): void {
    if (!Number.isNaN(value)) this.#last = value;
  }

  skip(): void {}

  mean(): number {
    return this.#last;
  }
}

/** The next window is like the mean of the last few known ones. */
export class MovingAverage implements PointForecaster {
  readonly #ring: Float64Array;
  #count = 0;
  #next = 0;

  constructor(windows: number) {
    this.#ring = new Float64Array(windows);
  }

  step(value: number): void {
    if (Number.isNaN(value)) return;
    this.#ring[this.#next] = value;
    this.#next = (this.#next + 1) % this.#ring.length;
    this.#count = Math.min(this.#count + 1, this.#ring.length);
  }

  skip(): void {}

  mean(): number {
    if (this.#count === 0) return 0;
    let sum = 0;
    for (let i = 0; i < this.#count; i++) sum += this.#ring[i]!;
    return sum / this.#count;
  }
}

/** The next window is like the one at this time of the season (a day) before; until one was seen, like the last one. */
export class SeasonalNaive implements PointForecaster {
  readonly #ring: Float64Array;
  #last = 0;
  /** Place of the next window. */
  #next = 0;

  constructor(seasonWindows: number) {
    this.#ring = new Float64Array(seasonWindows).fill(Number.NaN);
  }

  step(value: number): void {
    // An unknown window keeps what the season before said: old knowledge beats none.
    if (!Number.isNaN(value)) {
      this.#ring[this.#next] = value;
      this.#last = value;
    }
    this.#next = (this.#next + 1) % this.#ring.length;
  }

  skip(count: number): void {
    this.#next = (this.#next + count) % this.#ring.length;
  }

  mean(horizon: number): number {
    const before = this.#ring[(this.#next + horizon - 1) % this.#ring.length]!;
    return Number.isNaN(before) ? this.#last : before;
  }
}

/** Weights of the newest window that compete. */
const ALPHAS = [0.03, 0.06, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9];
/** Alpha until the errors say more. */
const FIRST_ALPHA = ALPHAS.indexOf(0.3);
const FEWEST_ERRORS = 10;
/** Errors fade by this factor a window: about a day of minutes counts. */
const FADE = 0.999;

/**
 * Exponentially weighted moving average; its alpha is fitted online, for each horizon, as the one whose own past forecasts
 * of that horizon had the smallest faded squared error.
 */
export class Ewma implements PointForecaster {
  readonly #level = new Float64Array(ALPHAS.length);
  /** Levels of the last {@link MOST_HORIZONS} windows: what each alpha forecast then. A ring by window. */
  readonly #past = new Float64Array(MOST_HORIZONS * ALPHAS.length).fill(Number.NaN);
  readonly #squaredError = new Float64Array(MOST_HORIZONS * ALPHAS.length);
  readonly #errorCount = new Float64Array(MOST_HORIZONS);
  readonly #best = new Int32Array(MOST_HORIZONS).fill(FIRST_ALPHA);
  #window = 0;
  #seen = false;

  step(value: number): void {
    if (!Number.isNaN(value)) {
      if (this.#seen) this.#learn(value);
      for (let a = 0; a < ALPHAS.length; a++)
        this.#level[a] = this.#seen ? this.#level[a]! + ALPHAS[a]! * (value - this.#level[a]!) : value;
      this.#seen = true;
    }
    this.#remember();
  }

  skip(count: number): void {
    for (let i = 0; i < Math.min(count, MOST_HORIZONS); i++) this.#remember();
  }

  mean(horizon: number): number {
    return this.#level[this.#best[Math.min(horizon, MOST_HORIZONS) - 1]!]!;
  }

  #remember(): void {
    if (!this.#seen) return;
    this.#past.set(this.#level, (this.#window % MOST_HORIZONS) * ALPHAS.length);
    this.#window++;
  }

  #learn(value: number): void {
    for (let horizon = 1; horizon <= Math.min(this.#window, MOST_HORIZONS); horizon++) {
      const from = ((this.#window - horizon) % MOST_HORIZONS) * ALPHAS.length;
      const to = (horizon - 1) * ALPHAS.length;
      let best = 0;
      for (let a = 0; a < ALPHAS.length; a++) {
        const error = value - this.#past[from + a]!;
        this.#squaredError[to + a] = FADE * this.#squaredError[to + a]! + error * error;
        if (this.#squaredError[to + a]! < this.#squaredError[to + best]!) best = a;
      }
      const count = ++this.#errorCount[horizon - 1]!;
      if (count >= FEWEST_ERRORS) this.#best[horizon - 1] = best;
    }
  }
}
