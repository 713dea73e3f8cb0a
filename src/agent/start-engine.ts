// Puts an emulated engine together: replica model, driver on the pool's clock, metrics, HTTP. It runs wherever it is
// started: in a process of its own (src/cli/processes/engine.ts) or in its agent's.
import type { StepTimeOf } from '../core/domain/index.ts';
import { fittedStepTime, ReplicaEngine } from '../core/replica/index.ts';
import { PoolClock } from '../host/index.ts';
import { EngineDriver } from './driver.ts';
import type { EngineControl, EngineLoad } from './engine-control.ts';
import { EngineApi } from './engine-http.ts';
import { EngineMetrics } from './engine-metrics.ts';
import { closeServer, listen, urlOf } from './http.ts';
import { type EmulatedEngineInput, emulatedEngineOptionsSchema } from './options.ts';

export interface StartedEngine {
  readonly url: string;
  readonly control: EngineControl;
  /** Ends all requests and connections at once. */
  close(): Promise<void>;
}

/** What cannot travel as JSON. */
export interface EngineParts {
  /** How long steps take, in place of the fitted profiles of the options. */
  readonly stepTimeOf?: StepTimeOf;
}

/** @throws {@link ConfigError} when the address is taken, or no profile is there for the GPU kind. */
export async function startEngine(input: EmulatedEngineInput, parts: EngineParts = {}): Promise<StartedEngine> {
  const options = emulatedEngineOptionsSchema.parse(input);
  const { id, model, gpuKind, strategy, engine, kvBlocks, maxModelLen, speed } = options;
  const stepTimeOf = parts.stepTimeOf ?? fittedStepTime(options.profiles, [model]);
  const replica = new ReplicaEngine({
    stepTime: stepTimeOf({ model: model.name, gpuKind, strategy }, id),
    pipelineParallel: strategy.pipelineParallel,
    kvBlocks,
    engine,
  });
  const load = (): EngineLoad => ({
    runningCount: replica.runningCount,
    waitingCount: replica.waitingCount,
    kvUsedShare: replica.kvUsedBlocks / kvBlocks,
  });
  const metrics = new EngineMetrics({
    modelName: model.name,
    kvBlocks,
    kvBlockTokens: engine.kvBlockTokens,
    gauges: () => ({ ...load(), preemptionCount: replica.preemptionCount }),
  });
  const driver = new EngineDriver(new PoolClock(options), replica, metrics);
  const api = new EngineApi({
    modelName: model.name,
    maxModelLen,
    speed,
    driver,
    metrics,
    admitting: options.admitting,
  });
  const server = await listen(api.listener, options.host, options.port);
  return {
    url: urlOf(server),
    control: {
      async load() {
        driver.settle();
        return load();
      },
      async setAdmitting(admitting) {
        api.setAdmitting(admitting);
      },
      async abortAll() {
        api.abortAll();
      },
    },
    async close() {
      await closeServer(server);
      driver.close();
    },
  };
}
