// From the loaded configuration to what a controller is told. The part that travels to the worker is plain data; the
// step times, which are functions, are made on the far side.
import type { ControllerConfig, ResumedState } from '../../core/control/index.ts';
import type { Cluster } from '../../core/domain/index.ts';
import { fittedStepTime, type Profile } from '../../core/replica/index.ts';
import { type Config, type ConfiguredModel, type ParkedPlace, switchCostsOf } from '../config/index.ts';

/** Plain data: survives a structured clone and JSON. */
export interface ControllerInput {
  readonly config: Config;
  readonly cluster: Cluster;
  readonly models: readonly ConfiguredModel[];
  readonly parkedPlaces: readonly ParkedPlace[];
  /** One per kind of GPU in the cluster. */
  readonly profiles: readonly Profile[];
  /** What the controller before this one had learnt. */
  readonly resume?: ResumedState;
}

export function controllerConfigOf({
  config,
  models,
  parkedPlaces,
  profiles,
  resume,
}: ControllerInput): ControllerConfig {
  const { control, workload, prediction, search, switching, engine } = config;
  const byModel = <T>(value: (model: ConfiguredModel) => T): Record<string, T> =>
    Object.fromEntries(models.map((model) => [model.spec.name, value(model)]));
  return {
    models: models.map(({ spec }) => spec),
    engine,
    objective: control.objective,
    slo: byModel(({ slo }) => slo),
    limits: byModel(({ minReplicas, maxReplicas, priority }) => ({
      minReplicas,
      ...(maxReplicas === null ? {} : { maxReplicas }),
      priority,
    })),
    pinned: models.flatMap(({ pinned }) => pinned),
    // Frozen, it still measures and says what it would do.
    mode: control.freeze && control.mode === 'auto' ? 'recommend' : control.mode,
    windowSeconds: control.slowTickSeconds,
    predictor: prediction.predictor,
    typeCount: workload.typeCount,
    costs: switchCostsOf(config),
    parkedLayouts: parkedPlaces,
    onlyParkedLayouts: switching.onlyParkedLayouts,
    maxSwitchesPerHour: control.maxSwitchesPerHour,
    minGainShare: control.minGainShare,
    horizonWindows: prediction.horizonWindows,
    candidateCount: search.candidates,
    maxPipelineParallel: search.maxPipelineParallel,
    stepTimeOf: fittedStepTime(
      profiles,
      models.map(({ spec }) => spec),
    ),
    profileVersion: profiles.map(({ name }) => name).join(', '),
    seed: control.seed,
    ...(resume ? { resume } : {}),
  };
}
