// A replica under constant concurrency: as soon as a request ends, the next one of the same lengths is sent. This is how
// published serving benchmarks are made, so it is what a step time is compared with.
import { type EngineOptions, invariant, type StepTime } from '../domain/index.ts';
import { ReplicaEngine, type TokenSink } from './replica-engine.ts';

export interface ClosedLoopOptions {
  readonly stepTime: StepTime;
  readonly pipelineParallel: number;
  readonly kvBlocks: number;
  readonly engine: EngineOptions;
  readonly inputTokens: number;
  readonly outputTokens: number;
  readonly concurrency: number;
  /** Requests in all; the first `concurrency` of them come at once. */
  readonly requests: number;
}

export interface ClosedLoopResult {
  readonly meanTtftSeconds: number;
  /** Mean seconds per token after the first; NaN with one output token. */
  readonly meanTpotSeconds: number;
  readonly requestsPerSecond: number;
  readonly outputTokensPerSecond: number;
  readonly makespanSeconds: number;
  readonly preemptions: number;
}

/** Runs the loop to its end. Means are over all requests; the rate is over the whole run. */
export function closedLoop(options: ClosedLoopOptions): ClosedLoopResult {
  const { inputTokens, outputTokens, concurrency, requests } = options;
  invariant(requests >= 1 && concurrency >= 1, 'a closed loop has requests');
  const engine = new ReplicaEngine(options);
  const sentSeconds = new Float64Array(requests);
  const firstSeconds = new Float64Array(requests);
  let sent = 0;
  let ttftSum = 0;
  let tpotSum = 0;
  let makespanSeconds = 0;
  const send = (nowSeconds: number) => {
    if (sent === requests) return;
    sentSeconds[sent] = nowSeconds;
    engine.add(sent++, inputTokens, outputTokens, nowSeconds);
  };
  const sink: TokenSink = {
    token(handle, generatedTokens, atSeconds) {
      if (generatedTokens === 1) firstSeconds[handle] = atSeconds;
    },
    finished(handle, atSeconds) {
      ttftSum += firstSeconds[handle]! - sentSeconds[handle]!;
      tpotSum += (atSeconds - firstSeconds[handle]!) / (outputTokens - 1);
      makespanSeconds = atSeconds;
      send(atSeconds);
    },
  };
  for (let i = 0; i < concurrency; i++) send(0);
  engine.advance(Number.POSITIVE_INFINITY, sink);
  return {
    meanTtftSeconds: ttftSum / requests,
    meanTpotSeconds: tpotSum / requests,
    requestsPerSecond: requests / makespanSeconds,
    outputTokensPerSecond: (requests * outputTokens) / makespanSeconds,
    makespanSeconds,
    preemptions: engine.preemptionCount,
  };
}
