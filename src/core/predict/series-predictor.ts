// A predictor made of one point forecaster per type. Here is what all of them share: gaps, and quantiles from the errors
// that their own forecasts of each horizon made.
import { invariant } from '../domain/index.ts';
import { type CountForecast, MOST_HORIZONS, type PointForecaster, type Predictor } from './predictor.ts';
import { Residuals } from './residuals.ts';

interface Series {
  readonly forecaster: PointForecaster;
  /** By horizon. */
  readonly residuals: readonly Residuals[];
  /** Forecasts that wait for their window: a ring by origin, {@link MOST_HORIZONS} means each; NaN when none was made. */
  readonly waiting: Float64Array;
  seen: boolean;
}

export class SeriesPredictor implements Predictor {
  readonly name: string;
  readonly typeCount: number;
  readonly windowSeconds: number;
  readonly #series: readonly Series[];
  /** Windows since the first, gaps included. */
  #window = 0;
  #lastEndSeconds: number | null = null;
  #observations = 0;

  constructor(name: string, typeCount: number, windowSeconds: number, make: () => PointForecaster) {
    invariant(Number.isInteger(typeCount) && typeCount >= 0, `a number of types is whole, not ${typeCount}`);
    invariant(windowSeconds > 0, `a window has a length, not ${windowSeconds} s`);
    this.name = name;
    this.typeCount = typeCount;
    this.windowSeconds = windowSeconds;
    this.#series = Array.from({ length: typeCount }, () => ({
      forecaster: make(),
      residuals: Array.from({ length: MOST_HORIZONS }, () => new Residuals()),
      waiting: new Float64Array(MOST_HORIZONS * MOST_HORIZONS).fill(Number.NaN),
      seen: false,
    }));
  }

  observe(counts: ArrayLike<number>, windowEndSeconds: number): void {
    invariant(counts.length === this.typeCount, `${this.typeCount} types have ${this.typeCount} counts`);
    const missed = this.#windowsSinceLast(windowEndSeconds) - 1;
    for (let j = 0; j < this.typeCount; j++) {
      const value = counts[j]!;
      invariant(!(value < 0) && value !== Number.POSITIVE_INFINITY, `a count is 0 or more, or NaN for a gap: ${value}`);
      this.#observeOne(this.#series[j]!, value, missed);
    }
    this.#window += missed + 1;
    this.#lastEndSeconds = windowEndSeconds;
    this.#observations++;
  }

  forecast(horizons: number): CountForecast {
    invariant(
      Number.isInteger(horizons) && horizons >= 1 && horizons <= MOST_HORIZONS,
      `horizons are 1..${MOST_HORIZONS}, not ${horizons}`,
    );
    const madeAt = this.#observations;
    const byHorizon = (of: (series: Series, horizon: number) => number): Float64Array[] =>
      Array.from({ length: horizons }, (_, h) => Float64Array.from(this.#series, (series) => of(series, h + 1)));
    const mean = byHorizon((series, horizon) => series.forecaster.mean(horizon));
    return {
      mean,
      quantile: (share) => {
        invariant(share > 0 && share < 1, `a quantile's share lies in (0, 1), not ${share}`);
        invariant(madeAt === this.#observations, 'quantiles of a forecast are read before the next observation');
        return byHorizon((series, horizon) =>
          series.residuals[horizon - 1]!.quantile(series.forecaster.mean(horizon), share),
        );
      },
    };
  }

  #windowsSinceLast(windowEndSeconds: number): number {
    if (this.#lastEndSeconds === null) return 1;
    const windows = Math.round((windowEndSeconds - this.#lastEndSeconds) / this.windowSeconds);
    invariant(windows >= 1, `windows come in order: ${windowEndSeconds} s follows ${this.#lastEndSeconds} s`);
    return windows;
  }

  #observeOne(series: Series, value: number, missed: number): void {
    const { forecaster, residuals, waiting } = series;
    if (missed > 0) {
      forecaster.skip(missed);
      // Forecasts that were made for the missed windows are never settled; those from them were never made.
      for (let i = 0; i < Math.min(missed, MOST_HORIZONS); i++) this.#expect(series, this.#window + missed - i, false);
    }
    const window = this.#window + missed + 1;
    if (!Number.isNaN(value)) {
      for (let horizon = 1; horizon <= MOST_HORIZONS; horizon++) {
        const origin = window - horizon;
        if (origin < 0) break;
        const mean = waiting[(origin % MOST_HORIZONS) * MOST_HORIZONS + horizon - 1]!;
        if (!Number.isNaN(mean)) residuals[horizon - 1]!.add(mean, value);
      }
      series.seen = true;
    }
    forecaster.step(value);
    this.#expect(series, window, series.seen);
  }

  /** Notes what is forecast at the end of a window, so that it can be compared later. */
  #expect(series: Series, window: number, made: boolean): void {
    const from = (window % MOST_HORIZONS) * MOST_HORIZONS;
    for (let horizon = 1; horizon <= MOST_HORIZONS; horizon++)
      series.waiting[from + horizon - 1] = made ? series.forecaster.mean(horizon) : Number.NaN;
  }
}
