// The one interface behind which all predictors stand: counts per window in, counts of the coming windows out.

/** Counts of the coming windows. Read it before the predictor's next observation. */
export interface CountForecast {
  /** Expected counts per window: H vectors of J, the next window first. */
  readonly mean: readonly Float64Array[];
  /** Counts that are not exceeded with probability `share` in (0, 1), per horizon by itself; H vectors of J. */
  quantile(share: number): Float64Array[];
}

export interface Predictor {
  readonly name: string;
  readonly typeCount: number;
  readonly windowSeconds: number;
  /**
   * Takes in one window. Windows come in order; one that is left out is a gap, and so is an entry that is NaN: gaps are
   * passed over, not learnt as zeros.
   *
   * @param counts - J counts.
   */
  observe(counts: ArrayLike<number>, windowEndSeconds: number): void;
  /** @param horizons - how many windows ahead, 1..{@link MOST_HORIZONS}. */
  forecast(horizons: number): CountForecast;
}

export const MOST_HORIZONS = 15;

/** Forecasts the mean of one type's counts. What a method has to bring; all else is shared. */
export interface PointForecaster {
  /** One window later: its count, or NaN when it is unknown. */
  step(value: number): void;
  /** `count` windows later, all of them unknown. */
  skip(count: number): void;
  /** Expected count `horizon` windows ahead (1 = the next one); 0 before anything was seen. */
  mean(horizon: number): number;
}
