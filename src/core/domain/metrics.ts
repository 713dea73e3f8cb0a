// What one run of a policy (or of a client) comes down to. The same record for `simulate` and `replay`.
import type { Slo } from './objective.ts';
import { meetsSlo } from './objective.ts';

/** One request of a finished run. Refused or failed requests have `e2eSeconds` = +∞ and no tokens. */
export interface RequestOutcome {
  /** Absent where there is only one. */
  readonly model?: string;
  readonly inputTokens: number;
  readonly outputTokens: number;
  readonly completed: boolean;
  readonly refused: boolean;
  /** From arrival at the gateway to the first token, to the last token. */
  readonly ttftSeconds: number;
  readonly e2eSeconds: number;
}

export interface Distribution {
  readonly mean: number;
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
}

export interface RunMetrics {
  readonly requests: number;
  readonly completed: number;
  readonly refused: number;
  readonly e2eSeconds: Distribution;
  readonly ttftSeconds: Distribution;
  /** Mean seconds per token after the first, of requests with two tokens or more. */
  readonly tpotSeconds: Distribution;
  readonly outputTokensPerSecond: number;
  /** Requests/s that met every SLO. */
  readonly goodput: number;
}

/** Nearest-rank percentile of sorted values; NaN when there are none. */
export const nearestRank = (sorted: ArrayLike<number>, share: number): number =>
  sorted.length === 0
    ? Number.NaN
    : sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(share * sorted.length) - 1))]!;

export function distributionOf(values: readonly number[] | Float64Array): Distribution {
  const sorted = Float64Array.from(values).sort();
  let sum = 0;
  for (const value of sorted) sum += value;
  return {
    mean: sorted.length === 0 ? Number.NaN : sum / sorted.length,
    p50: nearestRank(sorted, 0.5),
    p90: nearestRank(sorted, 0.9),
    p99: nearestRank(sorted, 0.99),
  };
}

/**
 * @param spanSeconds - what rates are taken over: from the first arrival to the last completion.
 * @param slo - of all requests, or of each (models have their own).
 */
export function summarise(
  outcomes: readonly RequestOutcome[],
  spanSeconds: number,
  slo: Slo | ((outcome: RequestOutcome) => Slo),
): RunMetrics {
  const sloOf = typeof slo === 'function' ? slo : () => slo;
  const completed = outcomes.filter((outcome) => outcome.completed);
  const tpot = completed
    .filter((o) => o.outputTokens >= 2)
    .map((o) => (o.e2eSeconds - o.ttftSeconds) / (o.outputTokens - 1));
  const endless = (outcome: RequestOutcome, seconds: number) =>
    outcome.completed ? seconds : Number.POSITIVE_INFINITY;
  return {
    requests: outcomes.length,
    completed: completed.length,
    refused: outcomes.filter((outcome) => outcome.refused).length,
    e2eSeconds: distributionOf(outcomes.map((o) => endless(o, o.e2eSeconds))),
    ttftSeconds: distributionOf(outcomes.map((o) => endless(o, o.ttftSeconds))),
    tpotSeconds: distributionOf(tpot),
    outputTokensPerSecond: completed.reduce((sum, o) => sum + o.outputTokens, 0) / spanSeconds,
    goodput: completed.filter((o) => meetsSlo(o, sloOf(o))).length / spanSeconds,
  };
}
