// What is in a trace: how much, how fast, how long, from whom.
import type { TraceRequest } from '../../core/domain/index.ts';
import { quantile } from '../../core/math/index.ts';
import { countsPerMinute } from './fit-service.ts';

export interface LengthStats {
  readonly mean: number;
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly max: number;
}

export interface TraceStats {
  readonly requests: number;
  readonly spanSeconds: number;
  /** Mean rate over the span. */
  readonly requestsPerSecond: number;
  /** Over whole minutes (all minutes when there is none): mean, coefficient of variation, largest. */
  readonly requestsPerMinute: { readonly mean: number; readonly cv: number; readonly peak: number };
  readonly inputTokens: LengthStats;
  readonly outputTokens: LengthStats;
  /** Requests and mean lengths by tenant, most frequent first; without one it is ''. */
  readonly tenants: readonly {
    readonly tenant: string;
    readonly requests: number;
    readonly inputTokens: number;
    readonly outputTokens: number;
  }[];
}

/** @param requests - sorted by arrival, one or more. */
export function traceStats(requests: readonly TraceRequest[]): TraceStats {
  const first = requests[0]?.arrivalSeconds ?? 0;
  const spanSeconds = (requests.at(-1)?.arrivalSeconds ?? 0) - first;
  const all = countsPerMinute(requests);
  const counts = all.length > 1 ? all.slice(0, -1) : all;
  const mean = counts.reduce((sum, count) => sum + count, 0) / counts.length;
  const variance = counts.reduce((sum, count) => sum + (count - mean) ** 2, 0) / counts.length;
  return {
    requests: requests.length,
    spanSeconds,
    requestsPerSecond: spanSeconds > 0 ? requests.length / spanSeconds : requests.length,
    requestsPerMinute: {
      mean,
      cv: Math.sqrt(variance) / mean,
      peak: counts.reduce((peak, count) => Math.max(peak, count), 0),
    },
    inputTokens: lengthStats(Float64Array.from(requests, (request) => request.inputTokens)),
    outputTokens: lengthStats(Float64Array.from(requests, (request) => request.outputTokens)),
    tenants: byTenant(requests),
  };
}

function lengthStats(lengths: Float64Array): LengthStats {
  const sorted = lengths.sort();
  return {
    mean: sorted.reduce((sum, length) => sum + length, 0) / sorted.length,
    p50: quantile(sorted, 0.5),
    p90: quantile(sorted, 0.9),
    p99: quantile(sorted, 0.99),
    max: sorted.at(-1) ?? Number.NaN,
  };
}

function byTenant(requests: readonly TraceRequest[]): TraceStats['tenants'] {
  const sums = new Map<string, { requests: number; input: number; output: number }>();
  for (const { tenant = '', inputTokens, outputTokens } of requests) {
    const sum = sums.get(tenant) ?? { requests: 0, input: 0, output: 0 };
    sums.set(tenant, sum);
    sum.requests++;
    sum.input += inputTokens;
    sum.output += outputTokens;
  }
  return [...sums]
    .sort((a, b) => b[1].requests - a[1].requests || (a[0] < b[0] ? -1 : 1))
    .map(([tenant, sum]) => ({
      tenant,
      requests: sum.requests,
      inputTokens: sum.input / sum.requests,
      outputTokens: sum.output / sum.requests,
    }));
}
