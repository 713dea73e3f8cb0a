// How wrong were the forecasts? The errors of the last few hundred forecasts of one horizon, scaled by their size, kept
// sorted, so that a quantile is a look-up and an observation one shift in a small array.
import { lowerBound, normalQuantile, poissonQuantile, quantile } from '../math/index.ts';

/** Errors remembered per type and horizon: at one-minute windows about four hours. */
const REMEMBERED = 256;
/** With fewer errors than this, the spread is assumed. */
const FEWEST = 20;
/** Assumed spread of a rate around its forecast, beside the Poisson noise of the count itself. */
const ASSUMED_SPREAD = 0.3;

export class Residuals {
  /** In order of arrival, a ring. */
  readonly #ring = new Float64Array(REMEMBERED);
  readonly #sorted = new Float64Array(REMEMBERED);
  #count = 0;
  #next = 0;

  add(mean: number, value: number): void {
    const error = (value - mean) / scaleOf(mean);
    const sorted = this.#sorted;
    if (this.#count === REMEMBERED) {
      const oldest = lowerBound(sorted, this.#ring[this.#next]!, this.#count);
      sorted.copyWithin(oldest, oldest + 1, this.#count);
      this.#count--;
    }
    const place = lowerBound(sorted, error, this.#count);
    sorted.copyWithin(place + 1, place, this.#count);
    sorted[place] = error;
    this.#count++;
    this.#ring[this.#next] = error;
    this.#next = (this.#next + 1) % REMEMBERED;
  }

  /**
   * Count that is not exceeded with probability `share` when `mean` is forecast. Never closer to the mean than Poisson
   * noise allows: a few lucky forecasts do not make the future certain.
   */
  quantile(mean: number, share: number): number {
    if (mean <= 0 && this.#count < FEWEST) return 0;
    const poisson = poissonQuantile(mean, share);
    const spread = this.#count < FEWEST ? assumed(mean, share) : mean + scaleOf(mean) * this.#errorQuantile(share);
    if (share === 0.5) return Math.max(0, spread);
    return Math.max(0, share > 0.5 ? Math.max(spread, poisson) : Math.min(spread, poisson));
  }

  /** Of n errors the i-th smallest is the i/(n+1) quantile of the next one (exchangeable errors). */
  #errorQuantile(share: number): number {
    const n = this.#count;
    return quantile(this.#sorted, (share * (n + 1) - 1) / (n - 1), n);
  }
}

/**
 * Errors are compared as multiples of the Poisson standard deviation. Powers of 0.75 and 1 of the mean gave no smaller
 * pinball loss on any of the four shared count series.
 */
const scaleOf = (mean: number): number => Math.sqrt(Math.max(mean, 1));

const assumed = (mean: number, share: number): number =>
  mean + normalQuantile(share) * Math.sqrt(mean + (ASSUMED_SPREAD * mean) ** 2);
