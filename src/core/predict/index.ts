// History of counts → counts to come. One interface, one list of names.
export { type Evaluation, evaluatePredictor, type PredictorScore, type SeriesScore } from './evaluate-predictor.ts';
export {
  forecastRates,
  makePredictor,
  PREDICTORS,
  type PredictorName,
  type PredictorOptions,
  predictorName,
} from './make-predictor.ts';
export { type CountForecast, MOST_HORIZONS, type Predictor } from './predictor.ts';
