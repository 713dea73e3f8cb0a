// More or less of the same traffic: `--rate-scale`. The duration stays, so the rate's shape over the day stays too.
import { invariant, type Random, type TraceRequest } from '../../core/domain/index.ts';

/** Copies arrive within this many seconds of their original: apart from it, but in its minute. */
const JITTER_SECONDS = 5;

/**
 * Thins (below 1) or replicates (above 1) a trace. Each request stays itself or gains copies of the same lengths; a copy
 * arrives up to 5 s before or after its original, since exact coincidences would be bursts that nobody sent. For one seed
 * a larger scale holds all requests of a smaller one.
 *
 * @param trace - sorted by arrival.
 * @param rateScale - wanted requests per request of the trace, above 0.
 * @returns a new trace, sorted by arrival, within the time span of the given one.
 */
export function scaleTrace(trace: readonly TraceRequest[], rateScale: number, random: Random): TraceRequest[] {
  invariant(rateScale > 0 && Number.isFinite(rateScale), `a rate scale is above 0, not ${rateScale}`);
  const first = trace[0]?.arrivalSeconds ?? 0;
  const last = trace.at(-1)?.arrivalSeconds ?? 0;
  const chance = random.fork('copies');
  // One stream of jitter per copy, drawn for each request whether or not it has that copy.
  const jitter = Array.from({ length: Math.ceil(rateScale) }, (_, copy) => random.fork(`jitter ${copy}`));
  const scaled: TraceRequest[] = [];
  for (const request of trace) {
    const copies = Math.floor(rateScale + chance.next());
    if (copies >= 1) scaled.push(request);
    for (let copy = 1; copy < jitter.length; copy++) {
      const shift = (2 * jitter[copy]!.next() - 1) * JITTER_SECONDS;
      if (copy < copies) scaled.push(movedTo(request, reflect(request.arrivalSeconds + shift, first, last)));
    }
  }
  return scaled.sort((a, b) => a.arrivalSeconds - b.arrivalSeconds);
}

/** A copy with another arrival; by assignment, since spread objects are slow to read (see `requestOf`). */
function movedTo(request: TraceRequest, arrivalSeconds: number): TraceRequest {
  const { inputTokens, outputTokens, tenant, model } = request;
  const copy: { -readonly [Key in keyof TraceRequest]: TraceRequest[Key] } = {
    arrivalSeconds,
    inputTokens,
    outputTokens,
  };
  if (tenant !== undefined) copy.tenant = tenant;
  if (model !== undefined) copy.model = model;
  return copy;
}

/** Folds a time that fell out of [first, last] back in. */
function reflect(seconds: number, first: number, last: number): number {
  if (seconds < first) return Math.min(last, 2 * first - seconds);
  if (seconds > last) return Math.max(first, 2 * last - seconds);
  return seconds;
}
