// Turns a trace into the few numbers that the generator needs to make traffic like it: a mixture of log-normal lengths,
// and how strongly the rate wanders from minute to minute. `oserve trace fit FILE` prints them.
import { type Random, TraceError, type TraceRequest } from '../../core/domain/index.ts';
import { fitMixture, type PlaneNormal } from '../../core/math/index.ts';

export interface ServiceModel {
  /** Where the numbers come from. */
  readonly source: string;
  /** Mixture of normals over (ln input tokens, ln output tokens). */
  readonly lengths: readonly PlaneNormal[];
  /** Shortest and longest seen; draws beyond are clipped, as services clip (the limit of the code service is a real pile). */
  readonly inputTokens: readonly [smallest: number, largest: number];
  readonly outputTokens: readonly [smallest: number, largest: number];
  /** Standard deviation of the log of the rate from minute to minute, Poisson noise taken out. */
  readonly minuteSigma: number;
  /** Correlation of that rate with the minute before, 0..1. */
  readonly minuteCorrelation: number;
}

/** More requests than this say nothing new about a length distribution, but cost time. */
const REQUESTS_TO_FIT = 40_000;

/** @param requests - sorted by arrival. */
export function fitService(
  source: string,
  requests: readonly TraceRequest[],
  componentCount: number,
  random: Random,
): ServiceModel {
  if (requests.length < 20 * componentCount)
    throw new TraceError(
      `${source}: ${requests.length} requests are too few to fit ${componentCount} components; 20 each are needed.`,
      { hint: 'Ask for fewer components, or give a longer trace.' },
    );
  const step = Math.ceil(requests.length / REQUESTS_TO_FIT);
  const some = requests.filter((_, i) => i % step === 0);
  const points = Float64Array.from(some.flatMap((r) => [Math.log(r.inputTokens), Math.log(r.outputTokens)]));
  const range = (of: (request: TraceRequest) => number): [number, number] =>
    requests.reduce(([low, high], r) => [Math.min(low, of(r)), Math.max(high, of(r))], [Number.POSITIVE_INFINITY, 0]);
  return {
    source,
    lengths: fitMixture(points, componentCount, random).map(rounded),
    inputTokens: range((request) => request.inputTokens),
    outputTokens: range((request) => request.outputTokens),
    ...minuteVariation(requests),
  };
}

/** Four digits are more than a fit knows. */
function rounded(component: PlaneNormal): PlaneNormal {
  const round = (value: number): number => Math.round(value * 1e4) / 1e4;
  return {
    weight: round(component.weight),
    meanX: round(component.meanX),
    meanY: round(component.meanY),
    sigmaX: round(component.sigmaX),
    sigmaY: round(component.sigmaY),
    correlation: round(component.correlation),
  };
}

/**
 * Counts of whole minutes: of their variance, the mean is Poisson noise and the rest is the rate's own. Neighbouring
 * minutes share only the rate, so their covariance needs no correction.
 */
function minuteVariation(requests: readonly TraceRequest[]): { minuteSigma: number; minuteCorrelation: number } {
  const counts = countsPerMinute(requests).slice(0, -1);
  const n = counts.length;
  if (n < 10) return { minuteSigma: 0, minuteCorrelation: 0 };
  const mean = counts.reduce((sum, count) => sum + count, 0) / n;
  const variance = counts.reduce((sum, count) => sum + (count - mean) ** 2, 0) / n;
  let covariance = 0;
  for (let i = 1; i < n; i++) covariance += ((counts[i]! - mean) * (counts[i - 1]! - mean)) / (n - 1);
  const ofRate = Math.max(0, variance - mean);
  const round = (value: number): number => Math.round(value * 1e4) / 1e4;
  return {
    minuteSigma: round(Math.sqrt(Math.log(1 + ofRate / mean ** 2))),
    minuteCorrelation: ofRate > 0 ? round(Math.min(0.99, Math.max(0, covariance / ofRate))) : 0,
  };
}

/** Requests in each minute after the first arrival, the last minute usually not whole. */
export function countsPerMinute(requests: readonly TraceRequest[]): number[] {
  const first = requests[0]?.arrivalSeconds ?? 0;
  const last = requests.at(-1)?.arrivalSeconds ?? 0;
  const counts = new Array<number>(Math.floor((last - first) / 60) + 1).fill(0);
  for (const request of requests) counts[Math.floor((request.arrivalSeconds - first) / 60)]!++;
  return counts;
}
