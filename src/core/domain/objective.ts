// What counts: the service level objective of a model, and what the planner minimises.
export type Objective = 'p99' | 'goodput' | 'throughput' | 'gpus';
export const OBJECTIVES: readonly Objective[] = ['p99', 'goodput', 'throughput', 'gpus'];

/** A request meets it when TTFT ≤ ttftSeconds + ttftSecondsPerInputToken × input and its mean TPOT ≤ tpotSeconds. */
export interface Slo {
  readonly ttftSeconds: number;
  readonly ttftSecondsPerInputToken: number;
  readonly tpotSeconds: number;
}

export const DEFAULT_SLO: Slo = { ttftSeconds: 1, ttftSecondsPerInputToken: 0.0005, tpotSeconds: 0.075 };

export function meetsSlo(
  request: {
    readonly inputTokens: number;
    readonly outputTokens: number;
    readonly ttftSeconds: number;
    readonly e2eSeconds: number;
  },
  slo: Slo,
): boolean {
  const tpot = request.outputTokens >= 2 ? (request.e2eSeconds - request.ttftSeconds) / (request.outputTokens - 1) : 0;
  return (
    request.ttftSeconds <= slo.ttftSeconds + slo.ttftSecondsPerInputToken * request.inputTokens &&
    tpot <= slo.tpotSeconds
  );
}
