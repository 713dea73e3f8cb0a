// The list of predictors by name.
import { ConfigError, type Forecast, invariant } from '../domain/index.ts';
import { Ewma, LastValue, MovingAverage, SeasonalNaive } from './point-forecasters.ts';
import type { PointForecaster, Predictor } from './predictor.ts';
import { SeriesPredictor } from './series-predictor.ts';

export interface PredictorOptions {
  /** J: types, each a series of its own. */
  readonly typeCount: number;
  readonly windowSeconds: number;
  /** Windows that `moving-average` averages over; 10. */
  readonly movingAverageWindows?: number;
  /** What `seasonal-naive` repeats; a day. */
  readonly seasonSeconds?: number;
}

/** The predictors that there are, the default first. */
export const PREDICTORS = ['ewma', 'last-value', 'moving-average', 'seasonal-naive'] as const;
export type PredictorName = (typeof PREDICTORS)[number];

/** @throws {@link ConfigError} when there is no predictor of that name; the message lists those there are. */
export function makePredictor(name: string, options: PredictorOptions): Predictor {
  return new SeriesPredictor(
    name,
    options.typeCount,
    options.windowSeconds,
    forecasterOf(predictorName(name), options),
  );
}

/** Checks a name that came from outside. */
export function predictorName(name: string): PredictorName {
  const known = PREDICTORS.find((other) => other === name);
  if (!known)
    throw new ConfigError(`There is no predictor "${name}".`, {
      hint: `Predictors are ${PREDICTORS.join(', ')}.`,
    });
  return known;
}

function forecasterOf(name: PredictorName, options: PredictorOptions): () => PointForecaster {
  switch (name) {
    case 'ewma':
      return () => new Ewma();
    case 'last-value':
      return () => new LastValue();
    case 'moving-average': {
      const windows = options.movingAverageWindows ?? 10;
      invariant(Number.isInteger(windows) && windows >= 1, `an average is over 1 window or more, not ${windows}`);
      return () => new MovingAverage(windows);
    }
    case 'seasonal-naive': {
      const windows = Math.round((options.seasonSeconds ?? 86_400) / options.windowSeconds);
      invariant(windows >= 1, 'a season has one window or more');
      return () => new SeasonalNaive(windows);
    }
    default:
      return name satisfies never;
  }
}

/**
 * A predictor's forecast as the domain's rates: requests/s instead of counts per window.
 *
 * @param seenToSeconds - end of the last window that the predictor observed.
 */
export function forecastRates(predictor: Predictor, horizons: number, seenToSeconds: number): Forecast {
  const forecast = predictor.forecast(horizons);
  const rates = (counts: readonly Float64Array[]): number[][] =>
    counts.map((row) => Array.from(row, (count) => count / predictor.windowSeconds));
  return {
    predictor: predictor.name,
    seenToSeconds,
    arrivalRate: rates(forecast.mean),
    arrivalRateQuantile90: rates(forecast.quantile(0.9)),
  };
}
