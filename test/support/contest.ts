// A contest of policies without shared data: the profiles that come with oserve plan, and a world that is a bit off them
// judges. Small budgets, so that an hour of a pool costs seconds.

import {
  type Contest,
  type ControllerConfig,
  controlledFleet,
  driveFleet,
  firstDeployment,
  makeController,
  type RequestRouter,
} from '../../src/core/control/index.ts';
import {
  type Cluster,
  type Controller,
  classKey,
  DEFAULT_ENGINE_OPTIONS,
  DEFAULT_SLO,
  DEFAULT_SWITCH_COSTS,
  type Deployment,
  modelByName,
  onTimeGrid,
  parseDeployment,
  type RequestOutcome,
  type StepTimeOf,
  type TickRecord,
  type TraceRequest,
  uniformCluster,
} from '../../src/core/domain/index.ts';
import { hashUnit } from '../../src/core/math/index.ts';
import { fittedStepTime } from '../../src/core/replica/index.ts';
import type { SimulatedFleet } from '../../src/core/sim/index.ts';
import { generateTrace, loadProfiles, type ServiceMix } from '../../src/host/index.ts';
import { worldStateAge, worldStepOutcome } from '../../src/world/index.ts';
import { CONTROLLER_DEFAULTS } from './controller-defaults.ts';

export const LLAMA2 = modelByName('llama2-70b');
const profiles = loadProfiles();

/** `4xTP4` of LLaMA2-70B on H100. */
export const layout = (text: string): Deployment => parseDeployment(text, { model: LLAMA2.name, gpuKind: 'H100-80GB' });

export function controllerConfig(changes: Partial<ControllerConfig> = {}): ControllerConfig {
  const models = changes.models ?? [LLAMA2];
  return {
    ...CONTROLLER_DEFAULTS,
    models,
    engine: DEFAULT_ENGINE_OPTIONS,
    objective: 'p99',
    slo: Object.fromEntries(models.map(({ name }) => [name, DEFAULT_SLO])),
    costs: DEFAULT_SWITCH_COSTS,
    parkedLayouts: [],
    onlyParkedLayouts: false,
    stepTimeOf: fittedStepTime(profiles, models),
    profileVersion: 'test',
    seed: 1,
    ...changes,
  };
}

/** Step times that are off the planner's by up to a tenth per replica, and again per second of a replica. */
function offBy(seed: number, stepTimeOf: StepTimeOf): StepTimeOf {
  return (replicaClass, seedText) => {
    const planned = stepTimeOf(replicaClass, seedText);
    const ofReplica = 0.9 + 0.2 * hashUnit(seed, classKey(replicaClass), seedText);
    return {
      stageSeconds: (prefill, pairs, decoding, context, sequences, atSeconds) => {
        const ofSecond = 0.9 + 0.2 * hashUnit(seed, seedText, Math.floor(atSeconds));
        const seconds = planned.stageSeconds(prefill, pairs, decoding, context, sequences, atSeconds);
        return onTimeGrid(seconds * ofReplica * ofSecond);
      },
    };
  };
}

export interface ContestChanges {
  readonly seed?: number;
  readonly cluster?: Cluster;
  readonly config?: Partial<ControllerConfig>;
  readonly contest?: Partial<Contest>;
}

export function contestOf(
  trace: readonly TraceRequest[],
  { seed = 1, cluster = uniformCluster(16), config = {}, contest = {} }: ContestChanges = {},
): Contest {
  const own = controllerConfig({ seed, ...config });
  return {
    trace,
    cluster,
    config: own,
    budget: { searchNodes: 2000, simulatedRequests: 8000 },
    slowTickSeconds: own.windowSeconds,
    fastTickSeconds: 1,
    seed,
    world: { stepTimeOf: offBy(seed, own.stepTimeOf), stateAgeSeconds: worldStateAge, stepOutcome: worldStepOutcome },
    ...contest,
  };
}

/** Poisson arrivals at a constant rate, lengths of the given services. */
export const constantLoad = (seed: number, minutes: number, ratePerSecond: number, mix: ServiceMix): TraceRequest[] =>
  generateTrace({ seed, minutes, ratePerSecond, variation: 0, from: mix, to: mix });

export interface LoopRun {
  readonly records: readonly TickRecord[];
  readonly outcomes: readonly RequestOutcome[];
  readonly fleet: SimulatedFleet<RequestRouter>;
}

/** The same loop as `simulate`, with everything that can be seen of the fleet afterwards. */
export async function runLoop(
  contest: Contest,
  { controller, watch }: { controller?: Controller; watch?: (fleet: SimulatedFleet<RequestRouter>) => void } = {},
): Promise<LoopRun> {
  const deployment = contest.initial ?? firstDeployment(contest.config, contest.cluster);
  const fleet = controlledFleet(contest, contest.config, deployment);
  watch?.(fleet);
  const records = await driveFleet(fleet, { ...contest, controller: controller ?? makeController(contest.config) });
  return { records, outcomes: fleet.finish().outcomes, fleet };
}

/** When switches were decided, minutes. */
export const switchMinutes = (records: readonly TickRecord[]): number[] =>
  records.filter(({ decision }) => decision.kind === 'switch').map(({ atSeconds }) => atSeconds / 60);
