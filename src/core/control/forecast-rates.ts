// Counts by window → rates of the coming windows. The predictor is made anew and fed the whole history at each tick:
// as-of counts of past windows are revised when requests end, and it must learn the revised ones.
import type { Forecast, WorkloadModel } from '../domain/index.ts';
import { makePredictor } from '../predict/index.ts';
import type { ControllerConfig } from './config.ts';

/**
 * @param counts - arrivals by window (oldest first) and type.
 * @param atSeconds - end of the last window.
 */
export function forecastRates(
  { predictor: name, windowSeconds, horizonWindows, forecastOverride }: ControllerConfig,
  workload: WorkloadModel,
  counts: readonly ArrayLike<number>[],
  atSeconds: number,
): Forecast {
  if (forecastOverride) return forecastOverride(workload, atSeconds, horizonWindows);
  const predictor = makePredictor(name, { typeCount: workload.types.length, windowSeconds });
  counts.forEach((window, index) => {
    predictor.observe(window, atSeconds - (counts.length - 1 - index) * windowSeconds);
  });
  const forecast = predictor.forecast(horizonWindows);
  const perSecond = (window: ArrayLike<number>) => Array.from(window, (count) => Math.max(0, count) / windowSeconds);
  return {
    predictor: name,
    seenToSeconds: atSeconds,
    arrivalRate: forecast.mean.map(perSecond),
    arrivalRateQuantile90: forecast.quantile(0.9).map(perSecond),
  };
}
