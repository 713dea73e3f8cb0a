// A replica alone under given arrivals: the simulator without router, fleet and switches.
import type { EngineOptions, StepTime, TraceRequest } from '../domain/index.ts';
import { ReplicaEngine } from './replica-engine.ts';

export interface OpenLoopOptions {
  readonly stepTime: StepTime;
  readonly pipelineParallel: number;
  readonly kvBlocks: number;
  readonly engine: EngineOptions;
  /** Sorted by arrival; each must fit. */
  readonly requests: readonly TraceRequest[];
}

/** Seconds from arrival, in the order of the requests. */
export interface OpenLoopResult {
  readonly ttftSeconds: Float64Array;
  readonly e2eSeconds: Float64Array;
}

export function openLoop(options: OpenLoopOptions): OpenLoopResult {
  const { requests } = options;
  const engine = new ReplicaEngine(options);
  const ttftSeconds = new Float64Array(requests.length);
  const e2eSeconds = new Float64Array(requests.length);
  requests.forEach(({ inputTokens, outputTokens, arrivalSeconds }, i) => {
    engine.add(i, inputTokens, outputTokens, arrivalSeconds);
  });
  engine.advance(Number.POSITIVE_INFINITY, {
    token(i, generatedTokens, atSeconds) {
      if (generatedTokens === 1) ttftSeconds[i] = atSeconds - requests[i]!.arrivalSeconds;
    },
    finished(i, atSeconds) {
      e2eSeconds[i] = atSeconds - requests[i]!.arrivalSeconds;
    },
  });
  return { ttftSeconds, e2eSeconds };
}
