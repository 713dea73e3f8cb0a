// Counts by window → rates of the coming windows. The predictor is made anew and fed the whole history at each tick:
// as-of counts of past windows are revised when requests end, and it must learn the revised ones.
import type { Forecast, WorkloadModel } from '../domain/index.ts';
import { forecastRates, makePredictor, predictorName } from '../predict/index.ts';
import type { ControllerConfig } from './config.ts';

/**
 * @param counts - arrivals by window (oldest first) and type.
 * @param atSeconds - end of the last window.
 */
export function forecastWindows(
  {
    predictor: name,
    windowSeconds,
    horizonWindows,
    forecastOverride,
  }: Pick<ControllerConfig, 'predictor' | 'windowSeconds' | 'horizonWindows' | 'forecastOverride'>,
  workload: WorkloadModel,
  counts: readonly ArrayLike<number>[],
  atSeconds: number,
): Forecast {
  if (forecastOverride) return forecastOverride(workload, atSeconds, horizonWindows);
  const predictor = makePredictor(predictorName(name), { typeCount: workload.types.length, windowSeconds });
  counts.forEach((window, index) => {
    predictor.observe(window, atSeconds - (counts.length - 1 - index) * windowSeconds);
  });
  return forecastRates(predictor, horizonWindows, atSeconds);
}
