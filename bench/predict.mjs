// Question: what does it cost to know the traffic (types, posterior, counts, forecast), and how good are the forecasts?
// Peers: the predictors against each other, and 1/√(mean), the error that nobody can beat on Poisson counts.
//
// Traffic is generated from fitted services with the default drift (a season of 20 minutes), so that nothing outside the repository is needed;
// `oserve forecast --counts FILE` says the same of real counts.
import { random } from '../dist/core/math/index.js';
import { evaluatePredictor, PREDICTORS } from '../dist/core/predict/index.js';
import {
  ArrivalCounter,
  fitWorkload,
  posterior,
  refreshWorkload,
  typeOfFinished,
} from '../dist/core/workload/index.js';
import { generateTrace } from '../dist/host/index.js';
import { quick, report, time } from './support/bench.mjs';

const SEED = 'predict-1';
const LOOKS = 200_000;
const requests = generateTrace({ minutes: quick ? 120 : 1440, ratePerSecond: 5, variation: 0.5, seed: SEED });
// Written out, as simulator and gateway do.
const finished = requests.map((request, i) => ({
  arrivalSeconds: request.arrivalSeconds,
  model: 'model',
  inputTokens: request.inputTokens,
  maxTokens: [1024, 4096, 8192].find((limit, k) => limit >= request.outputTokens && k >= i % 3) ?? 8192,
  tenant: request.tenant,
  outputTokens: request.outputTokens,
  finishedSeconds: request.arrivalSeconds + 0.03 * request.outputTokens,
  ttftSeconds: 0.2,
}));
const recent = finished.slice(0, 5000);
const fitTo = (previous) => fitWorkload({ finished: recent, previous, random: random(SEED) });
const first = await time(() => fitTo(null));
const model = first.result;
const again = await time(() => fitTo(model));
const fresh = await time(() => refreshWorkload({ finished: recent, previous: model, random: random(SEED) }));
const out = new Float64Array(model.types.length);
const looks = await time(() => {
  let sum = 0;
  for (let i = 0; i < LOOKS; i++) sum += posterior(model, recent[i % recent.length], out)[0];
  return sum;
});
const counted = await time(() => {
  const counter = new ArrivalCounter();
  counter.observe({ arrivals: recent, finished: recent, running: [] });
  return counter.countsByWindow(60, recent.at(-1).arrivalSeconds, model);
});
const cost = (what, { median, min, max }, per, unit) => ({
  what,
  median: median * per,
  min: min * per,
  max: max * per,
  unit,
});
report({
  name: 'workload',
  question: 'what does it cost to know the types of 5,000 requests?',
  seed: SEED,
  rows: [
    cost('first fit of types', first, 1, 'ms'),
    cost('re-fit of types', again, 1, 'ms'),
    cost('refresh without re-fit', fresh, 1, 'ms'),
    cost('posterior of one arrival', looks, 1e6 / LOOKS, 'ns'),
    cost('as-of counts, 5,000 in and out', counted, 1, 'ms'),
  ],
});

const minutes = Math.floor(requests.at(-1).arrivalSeconds / 60);
const counts = Array.from({ length: minutes }, () => new Float64Array(model.types.length));
for (const request of finished) {
  const minute = Math.floor(request.arrivalSeconds / 60);
  if (minute < minutes) counts[minute][typeOfFinished(model, request)] += 1;
}
report({
  name: 'predict',
  question: `how good and how fast are forecasts of ${minutes} minutes of drifting traffic, 4 types?`,
  seed: SEED,
  rows: PREDICTORS.map((predictor) => {
    const score = evaluatePredictor({
      predictor,
      types: model.types.map((type) => type.id),
      counts,
      windowSeconds: 60,
      options: { seasonSeconds: 1200 },
      clockSeconds: () => performance.now() / 1000,
    });
    return {
      predictor,
      'RRMSE %': 100 * score.rrmse,
      'over floor': score.rrmseOverFloor,
      pinball: score.pinball,
      'coverage %': 100 * score.coverage,
      'µs a minute': 1e6 * score.secondsPerPrediction,
    };
  }),
});
