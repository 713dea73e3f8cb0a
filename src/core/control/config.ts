// What a controller is told once, at its start. Plain values; the rim makes them from the configuration file.
import {
  type Deployment,
  type EngineOptions,
  type Forecast,
  invariant,
  type ModelSpec,
  type Objective,
  type RequestOutcome,
  type RoutingTable,
  type Slo,
  type StepTimeOf,
  type Strategy,
  type SwitchCosts,
  type WorkloadModel,
} from '../domain/index.ts';

/** Limits that people set on a model's replicas. */
export interface ModelLimits {
  readonly minReplicas?: number;
  readonly maxReplicas?: number;
  readonly priority?: number;
}

/** A parked engine: bound to its GPUs and its layout. Only these can be filled without starting a process. */
export interface ParkedLayout {
  readonly model: string;
  readonly strategy: Strategy;
  readonly gpus: readonly number[];
}

/** What a controller takes over from the one before it. */
export interface ResumedState {
  /** When it took over, seconds: before that nothing was counted. */
  readonly atSeconds: number;
  /** The last routing table: its types, assignment and version go on. */
  readonly routing: RoutingTable;
  /** Arrivals by window (oldest first) and type id, up to the restart. */
  readonly history: readonly Readonly<Record<string, number>>[];
}

export interface ControllerConfig {
  readonly models: readonly ModelSpec[];
  readonly engine: EngineOptions;
  readonly objective: Objective;
  readonly slo: Readonly<Record<string, Slo>>;
  readonly limits?: Readonly<Record<string, ModelLimits>>;
  /** Replicas that every deployment keeps. */
  readonly pinned?: Deployment;
  /** `observe` never acts, `recommend` plans and says what it would do, `auto` acts. */
  readonly mode: 'observe' | 'recommend' | 'auto';
  /** Length of a counting window and of a forecast's step, seconds: the slow tick. */
  readonly windowSeconds: number;
  readonly predictor: string;
  /** Most workload types per model. */
  readonly typeCount: number;
  readonly costs: SwitchCosts;
  /** Where engines of other layouts wait; empty = every switch starts new processes. */
  readonly parkedLayouts: readonly ParkedLayout[];
  /** Consider only deployments whose every replica is a parked layout (a live pool cannot start processes in seconds). */
  readonly onlyParkedLayouts: boolean;
  readonly maxSwitchesPerHour: number;
  /** A switch must gain this share of the present score beyond its own loss. */
  readonly minGainShare: number;
  /** Predicted windows that the twin plays and that a switch must pay back in. */
  readonly horizonWindows: number;
  /** How many deployments the twin compares. */
  readonly candidateCount: number;
  /** Longest pipeline considered; default 8. */
  readonly maxPipelineParallel?: number;
  readonly stepTimeOf: StepTimeOf;
  readonly profileVersion: string;
  readonly seed: number;
  readonly resume?: ResumedState;
  /** Plans take no time: only for the clairvoyant reference policies. */
  readonly freeSwitches?: boolean;
  /** Replaces the predictor: the clairvoyant reference policies give the true rates. */
  readonly forecastOverride?: (workload: WorkloadModel, atSeconds: number, windows: number) => Forecast;
}

/** Which service level a finished request is held to: its model's; a request that names no model is of the first. */
export function sloOfRequests({
  models,
  slo,
}: Pick<ControllerConfig, 'models' | 'slo'>): (outcome: Pick<RequestOutcome, 'model'>) => Slo {
  return ({ model = models[0]!.name }) => {
    const own = slo[model];
    invariant(own, `model ${model} has a service level objective`);
    return own;
  };
}
