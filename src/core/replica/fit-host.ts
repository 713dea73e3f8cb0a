// What the engine's CPU adds to a step cannot be seen in kernel tables. It is fitted to measured serving: the two host
// coefficients are chosen so that closed loops through the replica engine give the measured seconds per output token.
import { type EngineOptions, gpuKind, type ModelSpec, type ReplicaClass, replicaMemory } from '../domain/index.ts';
import { nelderMead } from '../math/index.ts';
import { type ClosedLoopResult, closedLoop } from './closed-loop.ts';
import { FittedStepTime } from './fitted-step-time.ts';
import type { FitReport, Profile } from './profile.ts';

/** One measured closed loop. */
export interface MeasuredLoop {
  readonly model: ModelSpec;
  readonly replicaClass: ReplicaClass;
  readonly engine: EngineOptions;
  readonly inputTokens: number;
  readonly outputTokens: number;
  readonly concurrency: number;
  readonly ttftSeconds: number;
  readonly tpotSeconds: number;
}

/** What the profile says about a measured loop. */
export function predictLoop(profile: Profile, measured: MeasuredLoop, rounds = 3): ClosedLoopResult {
  const { model, replicaClass, engine, inputTokens, outputTokens, concurrency } = measured;
  const { strategy } = replicaClass;
  return closedLoop({
    stepTime: new FittedStepTime(profile, model, replicaClass),
    pipelineParallel: strategy.pipelineParallel,
    kvBlocks: replicaMemory(model, strategy, gpuKind(replicaClass.gpuKind), engine).kvBlocks,
    engine,
    inputTokens,
    outputTokens,
    concurrency,
    requests: rounds * concurrency,
  });
}

const withHost = (profile: Profile, stepSeconds: number, sequenceSeconds: number): Profile => ({
  ...profile,
  coefficients: { ...profile.coefficients, host: { stepSeconds, sequenceSeconds } },
});

/**
 * @param profile - its host coefficients are where the search starts.
 * @param fitted - loops that the coefficients are fitted to.
 * @param heldOut - loops that are only compared.
 */
export function fitHost(
  profile: Profile,
  fitted: readonly MeasuredLoop[],
  heldOut: readonly MeasuredLoop[],
  source: string,
): { readonly host: Profile['coefficients']['host']; readonly report: FitReport } {
  const ratio = (candidate: Profile, loop: MeasuredLoop) =>
    predictLoop(candidate, loop).meanTpotSeconds / loop.tpotSeconds;
  const { host } = profile.coefficients;
  const start = [Math.log(host.stepSeconds), Math.log(host.sequenceSeconds)];
  const { x } = nelderMead(
    ([logStep, logSequence]) => {
      const candidate = withHost(profile, Math.exp(logStep!), Math.exp(logSequence!));
      return fitted.reduce((sum, loop) => sum + Math.abs(Math.log(ratio(candidate, loop))), 0) / fitted.length;
    },
    start,
    { step: 0.5, maxEvaluations: 60, tolerance: 1e-4 },
  );
  const found = withHost(profile, Math.exp(x[0]!), Math.exp(x[1]!));
  const errors = (loops: readonly MeasuredLoop[]) =>
    loops.map((loop) => Math.abs(ratio(found, loop) - 1)).sort((a, b) => a - b);
  const at = (sorted: readonly number[], share: number) =>
    sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0;
  const inside = errors(fitted);
  const outside = errors(heldOut);
  const total = heldOut.reduce((sum, loop) => sum + loop.tpotSeconds, 0);
  const predicted = heldOut.reduce((sum, loop) => sum + ratio(found, loop) * loop.tpotSeconds, 0);
  return {
    host: found.coefficients.host,
    report: {
      part: 'host',
      source,
      fittedRows: fitted.length,
      heldOutRows: heldOut.length,
      medianError: at(inside, 0.5),
      p90Error: at(inside, 0.9),
      heldOutMedianError: at(outside, 0.5),
      heldOutP90Error: at(outside, 0.9),
      heldOutBias: total === 0 ? 0 : predicted / total - 1,
    },
  };
}
