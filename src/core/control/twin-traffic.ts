// The traffic that the twin plays: Poisson arrivals at the predicted rate of each type, lengths drawn from real members
// of the type. Equal seeds give equal traffic to every candidate (common random numbers).
import type { Random, TraceRequest, WorkloadModel } from '../domain/index.ts';
import { exponential } from '../math/index.ts';

/**
 * @param arrivalRate - requests/s by window and type; H × J. Windows follow each other from 0.
 * @returns requests sorted by arrival; at most `maxRequests`, cut at the end.
 */
export function sampleTraffic(
  workload: WorkloadModel,
  arrivalRate: readonly (readonly number[])[],
  windowSeconds: number,
  maxRequests: number,
  random: Random,
): TraceRequest[] {
  const requests: TraceRequest[] = [];
  workload.types.forEach((type, j) => {
    const arrivals = random.fork(`arrivals ${type.id}`);
    const lengths = random.fork(`lengths ${type.id}`);
    arrivalRate.forEach((rates, window) => {
      const rate = rates[j] ?? 0;
      if (rate <= 0) return;
      let at = window * windowSeconds + exponential(arrivals, 1 / rate);
      while (at < (window + 1) * windowSeconds) {
        const pair = type.samples[Math.floor(lengths.next() * type.samples.length)];
        const [inputTokens, outputTokens] = pair ?? [Math.round(type.inputTokens), Math.round(type.outputTokens)];
        requests.push({ arrivalSeconds: at, inputTokens, outputTokens, model: type.model });
        at += exponential(arrivals, 1 / rate);
      }
    });
  });
  requests.sort((a, b) => a.arrivalSeconds - b.arrivalSeconds || a.inputTokens - b.inputTokens);
  return requests.length > maxRequests ? requests.slice(0, maxRequests) : requests;
}
