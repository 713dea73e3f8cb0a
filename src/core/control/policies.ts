// The policies that `oserve simulate` compares, each a router or a controller over the same simulated pool.
//
//   vllm-static         homogeneous, least outstanding requests; the layout that is best in hindsight for the objective
//   vllm-static-usual   homogeneous, the largest legal tensor parallelism that fits a node: what people start with
//   round-robin         the layout of vllm-static behind a round-robin balancer
//   oserve              starts from the plan for the prior (no traffic seen), then switches and routes by its own loop
//   rate-oracle         oserve with the true rates of the coming minutes and free switches; lengths stay unknown
//
// The clairvoyant ones are references, not bounds.
import {
  type Cluster,
  canonicalDeployment,
  type Deployment,
  gpusOf,
  InfeasibleError,
  mostParkedBytes,
  type PlacedDeployment,
  type Random,
  type RunMetrics,
  type StepTimeOf,
  type SwitchStep,
  summarise,
  type TickRecord,
  type TraceRequest,
  type WorkUnits,
} from '../domain/index.ts';
import { random } from '../math/index.ts';
import { LeastLoadedRouter, RoundRobinRouter, type Router, type RouterReplica } from '../routing/index.ts';
import { candidateClasses } from '../schedule/index.ts';
import { SimulatedFleet, type SimulatedRouter, type SimulationOptions } from '../sim/index.ts';
import { placeDeployment } from '../switching/index.ts';
import { type ControllerConfig, sloOfRequests } from './config.ts';
import { driveFleet } from './drive.ts';
import { makeController } from './oserve-controller.ts';
import { firstDeployment } from './planner.ts';
import { priorWorkload } from './prior.ts';
import { makeRequestRouter, type RequestRouter } from './request-router.ts';
import { asFinished, trueCounts } from './workload-of-trace.ts';

export const POLICIES = ['oserve', 'vllm-static', 'vllm-static-usual', 'round-robin', 'rate-oracle'] as const;
export type PolicyName = (typeof POLICIES)[number];

/** What all policies share: traffic, machines, and the world that judges them. */
export interface Contest {
  readonly trace: readonly TraceRequest[];
  readonly cluster: Cluster;
  /** Of the controllers; its step times are the fitted ones. */
  readonly config: ControllerConfig;
  readonly budget: WorkUnits;
  readonly slowTickSeconds: number;
  readonly fastTickSeconds: number;
  readonly seed: number;
  /** The evaluation world. */
  readonly world: {
    readonly stepTimeOf: StepTimeOf;
    readonly stateAgeSeconds?: (random: Random) => number;
    readonly stepOutcome?: SimulationOptions['stepOutcome'];
  };
  readonly admission?: number;
  /** Deployment that oserve starts from; default: its plan for traffic that it knows nothing of. */
  readonly initial?: Deployment;
  /** Result of vllm-static on the same contest, if it is known: round-robin takes its layout. */
  readonly hindsight?: PolicyResult;
  /** 0..1 of the trace's time. */
  readonly onProgress?: (share: number) => void;
}

export interface PolicyResult extends RunMetrics {
  readonly switches: number;
  /** All switches together, first drain to last admit. */
  readonly switchSeconds: number;
  /** What served at the start, or all the time. */
  readonly deployment: Deployment;
  readonly records: readonly TickRecord[];
}

/** Runs one policy over the whole trace. Equal contests give equal results. */
export async function runPolicy(name: PolicyName, contest: Contest): Promise<PolicyResult> {
  switch (name) {
    case 'vllm-static':
      return bestInHindsight(contest);
    case 'vllm-static-usual':
      return runStatic(contest, usualDeployment(contest), leastLoaded);
    case 'round-robin':
      return runStatic(contest, (contest.hindsight ?? bestInHindsight(contest)).deployment, roundRobin);
    case 'oserve':
      return runControlled(contest, contest.config, false);
    case 'rate-oracle':
      return runControlled(contest, oracleConfig(contest), true);
  }
}

/** Every homogeneous deployment that is legal, fits, and holds all requests of the trace. */
export function homogeneousDeployments({ cluster, config, trace }: Contest): Deployment[] {
  const model = config.models[0]!;
  const kind = cluster.nodes[0]!.gpuKind;
  const longest = trace.reduce((most, request) => Math.max(most, request.inputTokens + request.outputTokens), 0);
  return candidateClasses([model], cluster, config.engine, { leastModelLen: Math.min(longest, model.maxModelLen) })
    .filter((replicaClass) => replicaClass.gpuKind === kind)
    .flatMap((replicaClass) => {
      const size = gpusOf(replicaClass.strategy);
      const count = cluster.nodes.reduce(
        (sum, node) => sum + (node.gpuKind === kind ? Math.floor(node.gpuCount / size) : 0),
        0,
      );
      return count > 0 ? [canonicalDeployment([{ ...replicaClass, count }])] : [];
    });
}

export function usualDeployment(contest: Contest): Deployment {
  const usual = homogeneousDeployments(contest)
    .filter(([group]) => group!.strategy.pipelineParallel === 1)
    .sort(([a], [b]) => b!.strategy.tensorParallel - a!.strategy.tensorParallel)[0];
  if (!usual)
    throw new InfeasibleError('No tensor-parallel layout inside a node holds the model and the longest request.', {
      hint: 'Use more GPUs per node or GPUs with more memory.',
    });
  return usual;
}

function bestInHindsight(contest: Contest): PolicyResult {
  const results = homogeneousDeployments(contest).map((deployment) => runStatic(contest, deployment, leastLoaded));
  const best = results.reduce((a, b) => (scoreOf(contest, b) < scoreOf(contest, a) ? b : a));
  return best;
}

/** Objective over a finished run, smaller is better. */
function scoreOf({ config: { objective } }: Contest, result: PolicyResult): number {
  switch (objective) {
    case 'p99':
      return result.e2eSeconds.p99;
    case 'goodput':
    case 'gpus':
      return -result.goodput;
    case 'throughput':
      return -result.outputTokensPerSecond;
  }
}

type RouterMaker = (replicas: readonly RouterReplica[]) => Router;
const leastLoaded: RouterMaker = (replicas) => new LeastLoadedRouter(replicas);
const roundRobin: RouterMaker = (replicas) => new RoundRobinRouter(replicas);

const NO_TYPES = new Float64Array(0);

function plainRouter(make: RouterMaker, replicas: readonly RouterReplica[]): SimulatedRouter {
  let router = make(replicas);
  return {
    route: (view, loads) => router.choose(view, NO_TYPES, loads),
    setReplicas: (next) => {
      router = make(next);
    },
  };
}

function runStatic(contest: Contest, deployment: Deployment, make: RouterMaker): PolicyResult {
  const fleet = new SimulatedFleet({
    ...common(contest),
    initial: place(contest, deployment),
    parkedBytes: 0,
    makeRouter: (_, replicas) => plainRouter(make, replicas),
  });
  const end = contest.trace.at(-1)?.arrivalSeconds ?? 0;
  for (let share = 0.05; share < 1; share += 0.05) {
    fleet.advanceTo(share * end);
    contest.onProgress?.(share);
  }
  return resultOf(contest, fleet, deployment, []);
}

async function runControlled(contest: Contest, config: ControllerConfig, free: boolean): Promise<PolicyResult> {
  const deployment = contest.initial ?? firstDeployment(config, contest.cluster);
  const fleet = controlledFleet(contest, config, deployment, free);
  const end = Math.max(1, contest.trace.at(-1)?.arrivalSeconds ?? 0);
  const records = await driveFleet(fleet, {
    controller: makeController(config),
    budget: contest.budget,
    slowTickSeconds: contest.slowTickSeconds,
    fastTickSeconds: contest.fastTickSeconds,
    onStep: (atSeconds) => contest.onProgress?.(Math.min(1, atSeconds / end)),
  });
  return resultOf(contest, fleet, deployment, records);
}

/** The pool of a contest with the planned routing in front, for a controller to drive. */
export function controlledFleet(
  contest: Contest,
  config: ControllerConfig,
  deployment: Deployment,
  free = false,
): SimulatedFleet<RequestRouter> {
  const prior = priorWorkload(config.models);
  const noTypes = { typeIds: [], classKeys: [], share: [], variant: { kind: 'plain' } } as const;
  return new SimulatedFleet<RequestRouter>({
    ...common(contest),
    ...(free ? { stepOutcome: FREE } : {}),
    costs: config.costs,
    initial: place(contest, deployment),
    parkedBytes: mostParkedBytes(config.parkedLayouts, config.costs.parkedBytesPerLayout),
    makeRouter: (table, replicas, previous?: RequestRouter) =>
      makeRequestRouter(table ?? { version: 0, workload: prior, assignment: noTypes }, replicas, previous),
  });
}

const FREE = (_: SwitchStep): { readonly seconds: number; readonly failure: null } => ({ seconds: 0, failure: null });

/** True arrivals by type in place of the predictor, and switches that cost nothing. */
function oracleConfig({ config, trace }: Contest): ControllerConfig {
  const requests = asFinished(trace, config.models[0]!.name);
  const { windowSeconds } = config;
  return {
    ...config,
    costs: {
      ...config.costs,
      wakeSeconds: 0,
      parkSeconds: 0,
      newProcessSeconds: 0,
      coldSeconds: 0,
      verifySeconds: 0,
      drainSeconds: 0,
      parkedBytesPerLayout: 0,
    },
    freeSwitches: true,
    minGainShare: 0.01,
    maxSwitchesPerHour: Number.POSITIVE_INFINITY,
    forecastOverride: (workload, atSeconds, windows) => {
      const rates = trueCounts(workload, requests, atSeconds, windowSeconds, windows).map((counts) =>
        Array.from(counts, (count) => count / windowSeconds),
      );
      return { predictor: 'true rates', seenToSeconds: atSeconds, arrivalRate: rates, arrivalRateQuantile90: rates };
    },
  };
}

const place = ({ cluster, config }: Contest, deployment: Deployment): PlacedDeployment =>
  placeDeployment(cluster, [], deployment, config.models, {
    parkedLayouts: config.parkedLayouts.map((layout) => ({ ...layout, gpuKind: cluster.nodes[0]!.gpuKind })),
  });

const common = ({ trace, cluster, config, world, seed, admission }: Contest) => ({
  trace,
  cluster,
  models: config.models,
  engine: config.engine,
  costs: config.costs,
  stepTimeOf: world.stepTimeOf,
  random: random(seed),
  ...(world.stateAgeSeconds ? { stateAgeSeconds: world.stateAgeSeconds } : {}),
  ...(world.stepOutcome ? { stepOutcome: world.stepOutcome } : {}),
  ...(admission === undefined ? {} : { admission }),
});

function resultOf(
  contest: Contest,
  fleet: Pick<SimulatedFleet, 'finish'>,
  deployment: Deployment,
  records: readonly TickRecord[],
): PolicyResult {
  const { outcomes, spanSeconds, switches } = fleet.finish();
  return {
    ...summarise(outcomes, spanSeconds, sloOfRequests(contest.config)),
    switches: switches.length,
    switchSeconds: switches.reduce((sum, ended) => sum + ended.seconds, 0),
    deployment,
    records,
  };
}
