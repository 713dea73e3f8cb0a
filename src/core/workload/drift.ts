// Do the types still describe what comes in? A changed *mix* of types is no drift: that is what arrival rates are for.
import type { FinishedRequest, WorkloadModel } from '../domain/index.ts';
import { typeOfFinished } from './posterior.ts';

/** Fewer finished requests than this prove nothing about a model, or about one of its types. */
const FEWEST_OF_MODEL = 200;
const FEWEST_OF_TYPE = 50;
/** A type has moved when its members' mean left its centroid by this factor (natural log units) … */
const MOVED = 0.35;
/** … and by so many standard errors. */
const STANDARD_ERRORS = 4;
/** The types fit badly when squared distances to them exceed those of their own samples this many times. */
const MISFIT = 1.5;

/** Whether the types should be fitted anew; `recentFinished` are the requests that ended since the last few ticks. */
export function hasDrifted(model: WorkloadModel, recentFinished: readonly FinishedRequest[]): boolean {
  const typed = new Set(model.types.map((type) => type.model));
  const recent = new Map<string, FinishedRequest[]>();
  for (const request of recentFinished) {
    const list = recent.get(request.model);
    if (list) list.push(request);
    else recent.set(request.model, [request]);
  }
  for (const [name, requests] of recent) {
    if (!typed.has(name)) return true;
    if (requests.length >= FEWEST_OF_MODEL && modelDrifted(model, requests)) return true;
  }
  return false;
}

function modelDrifted(model: WorkloadModel, requests: readonly FinishedRequest[]): boolean {
  const members: [number, number][][] = model.types.map(() => []);
  for (const request of requests)
    members[typeOfFinished(model, request)]!.push([request.inputTokens, request.outputTokens]);
  let found = 0;
  let expected = 0;
  for (const [j, type] of model.types.entries()) {
    const spread = spreadAround(members[j]!, type.logInput, type.logOutput);
    const atFit = spreadAround(type.samples, type.logInput, type.logOutput);
    const moved = Math.hypot(spread.meanInput - type.logInput, spread.meanOutput - type.logOutput);
    const standardError = Math.sqrt(spread.squared / Math.max(1, spread.count));
    if (spread.count >= FEWEST_OF_TYPE && moved > MOVED && moved > STANDARD_ERRORS * standardError) return true;
    found += spread.count * spread.squared;
    expected += spread.count * (atFit.count > 0 ? atFit.squared : spread.squared);
  }
  return found > MISFIT * expected;
}

/** Mean logs and mean squared distance from a centroid. */
function spreadAround(pairs: readonly (readonly [number, number])[], logInput: number, logOutput: number) {
  let meanInput = 0;
  let meanOutput = 0;
  let squared = 0;
  for (const [input, output] of pairs) {
    const x = Math.log(Math.max(1, input));
    const y = Math.log(Math.max(1, output));
    meanInput += x / pairs.length;
    meanOutput += y / pairs.length;
    squared += ((x - logInput) ** 2 + (y - logOutput) ** 2) / pairs.length;
  }
  return { count: pairs.length, meanInput, meanOutput, squared };
}
