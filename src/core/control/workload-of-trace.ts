// Types, counts and rates of requests whose lengths are all known: what `plan` starts from, and what the clairvoyant
// reference policies are told.
import type { FinishedRequest, Random, TraceRequest, WorkloadModel } from '../domain/index.ts';
import { fitWorkload, typeOfFinished } from '../workload/index.ts';

/** Requests of a trace as if each had ended at once: for fits on a past that is complete. */
export const asFinished = (trace: readonly TraceRequest[], model: string): FinishedRequest[] =>
  trace.map((request) => ({
    arrivalSeconds: request.arrivalSeconds,
    model: request.model ?? model,
    inputTokens: request.inputTokens,
    outputTokens: request.outputTokens,
    maxTokens: request.outputTokens,
    finishedSeconds: request.arrivalSeconds,
    ttftSeconds: 0,
  }));

export const workloadOf = (finished: readonly FinishedRequest[], typeCount: number, random: Random): WorkloadModel =>
  fitWorkload({ finished, previous: null, random, options: { typeCount } });

/**
 * True counts of arrivals by window and type.
 *
 * @returns windows from `fromSeconds` on, each with J counts; requests of unknown models are left out.
 */
export function trueCounts(
  workload: WorkloadModel,
  requests: readonly FinishedRequest[],
  fromSeconds: number,
  windowSeconds: number,
  windows: number,
): Float64Array[] {
  const counts = Array.from({ length: windows }, () => new Float64Array(workload.types.length));
  for (const request of requests) {
    const window = Math.floor((request.arrivalSeconds - fromSeconds) / windowSeconds);
    const type = typeOfFinished(workload, request);
    if (window >= 0 && window < windows && type >= 0) counts[window]![type]! += 1;
  }
  return counts;
}

/** Types given by their lengths alone, one sample each: for `plan --rates`. */
export const workloadOfLengths = (
  types: readonly { readonly model: string; readonly inputTokens: number; readonly outputTokens: number }[],
): WorkloadModel => ({
  version: 1,
  fittedToSeconds: 0,
  types: types.map(({ model, inputTokens, outputTokens }, j) => ({
    id: `T${j}`,
    model,
    inputTokens,
    outputTokens,
    logInput: Math.log(inputTokens),
    logOutput: Math.log(outputTokens),
    samples: [[Math.round(inputTokens), Math.round(outputTokens)]],
  })),
  posteriorCounts: {},
});
