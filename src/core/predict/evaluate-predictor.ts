// How good is a predictor on a series? It walks through the series once, forecasting each window before it sees it; errors
// count over the last tenth.
import { invariant } from '../domain/index.ts';
import { makePredictor, type PredictorOptions } from './make-predictor.ts';

/** Of one type; rates and ratios, not per cent. */
export interface SeriesScore {
  /** Root mean squared error of the mean forecast, relative to the mean count. */
  readonly rrmse: number;
  /**
   * The same over 1/√(mean count), the best that is possible when arrivals are Poisson and their rate is known: 1 is
   * perfect, and only this number can be compared across scales.
   */
  readonly rrmseOverFloor: number;
  /** Mean of the pinball losses at the 0.5 and the 0.9 quantile, requests per window. */
  readonly pinball: number;
  /** Share of windows that the 0.9 quantile covered. */
  readonly coverage: number;
  /** Mean count, and number of windows, that all this is over. */
  readonly mean: number;
  readonly windows: number;
}

export interface PredictorScore extends Omit<SeriesScore, 'mean' | 'windows'> {
  /** Seconds to take in one window and forecast the next for all types, mean and 0.9 quantile; NaN without a clock. */
  readonly secondsPerPrediction: number;
  readonly byType: Readonly<Record<string, SeriesScore>>;
}

export interface Evaluation {
  readonly predictor: string;
  /** Names of the types, J. */
  readonly types: readonly string[];
  /** Rows of J counts, one per window in order; NaN marks what is not known. */
  readonly counts: readonly ArrayLike<number>[];
  readonly windowSeconds: number;
  readonly options?: Partial<PredictorOptions>;
  /** How many windows ahead is scored; 1 by default. */
  readonly horizon?: number;
  /** Share of each type's known windows that come before the scored ones; 0.9. */
  readonly trainShare?: number;
  /** A clock for `secondsPerPrediction`; the core has none of its own. */
  readonly clockSeconds?: () => number;
}

/**
 * Scores a predictor on the last part of each type's known windows. Each type is split by itself, so that series which
 * start or end at different times are all scored; overall figures are plain means over the types.
 */
export function evaluatePredictor(evaluation: Evaluation): PredictorScore {
  const { types, counts, windowSeconds, horizon = 1, trainShare = 0.9, clockSeconds } = evaluation;
  const predictor = makePredictor(evaluation.predictor, {
    ...evaluation.options,
    typeCount: types.length,
    windowSeconds,
  });
  const scoredFrom = types.map((_, j) => splitIndex(counts, j, trainShare));
  const scores = types.map(() => new Score());
  /** Forecasts on the way, by the window they are for. */
  const expected = new Map<number, { mean: Float64Array; median: Float64Array; high: Float64Array }>();
  const startedAt = clockSeconds?.() ?? Number.NaN;
  counts.forEach((row, window) => {
    const forecast = expected.get(window);
    expected.delete(window);
    for (let j = 0; forecast && j < types.length; j++)
      if (window >= scoredFrom[j]! && !Number.isNaN(row[j]!))
        scores[j]!.add(row[j]!, forecast.mean[j]!, forecast.median[j]!, forecast.high[j]!);
    predictor.observe(row, (window + 1) * windowSeconds);
    const next = predictor.forecast(horizon);
    expected.set(window + horizon, {
      mean: next.mean[horizon - 1]!,
      median: next.quantile(0.5)[horizon - 1]!,
      high: next.quantile(0.9)[horizon - 1]!,
    });
  });
  const seconds = ((clockSeconds?.() ?? Number.NaN) - startedAt) / counts.length;
  const results = scores.map((score) => score.result());
  const mean = (of: (score: SeriesScore) => number): number => {
    const values = results.map(of).filter((value) => !Number.isNaN(value));
    return values.reduce((sum, value) => sum + value, 0) / values.length;
  };
  return {
    rrmse: mean((score) => score.rrmse),
    rrmseOverFloor: mean((score) => score.rrmseOverFloor),
    pinball: mean((score) => score.pinball),
    coverage: mean((score) => score.coverage),
    secondsPerPrediction: seconds,
    byType: Object.fromEntries(types.map((type, j) => [type, results[j]!])),
  };
}

/** First window that is scored: the one after `trainShare` of the known windows of this type. */
function splitIndex(counts: readonly ArrayLike<number>[], type: number, trainShare: number): number {
  const known = counts.flatMap((row, window) => (Number.isNaN(row[type]!) ? [] : [window]));
  const first = known[Math.floor(trainShare * known.length)];
  invariant(first !== undefined && known.length >= 10, 'a series to score has ten known windows or more');
  return first;
}

const pinball = (value: number, quantile: number, share: number): number =>
  value >= quantile ? share * (value - quantile) : (1 - share) * (quantile - value);

class Score {
  #count = 0;
  #sum = 0;
  #squared = 0;
  #pinball = 0;
  #covered = 0;

  add(value: number, mean: number, median: number, high: number): void {
    this.#count++;
    this.#sum += value;
    this.#squared += (value - mean) ** 2;
    this.#pinball += (pinball(value, median, 0.5) + pinball(value, high, 0.9)) / 2;
    if (value <= high) this.#covered++;
  }

  result(): SeriesScore {
    const mean = this.#sum / this.#count;
    const rrmse = mean > 0 ? Math.sqrt(this.#squared / this.#count) / mean : Number.NaN;
    return {
      rrmse,
      rrmseOverFloor: rrmse * Math.sqrt(mean),
      pinball: this.#pinball / this.#count,
      coverage: this.#covered / this.#count,
      mean,
      windows: this.#count,
    };
  }
}
