// The twin: the simulator with the fitted step times, asked how a candidate would do on predicted traffic.
import {
  type Cluster,
  type Deployment,
  gpusUsed,
  meetsSlo,
  mostParkedBytes,
  type PlacedDeployment,
  type RequestOutcome,
  type RoutingTable,
  replicaId,
  type SwitchPlan,
  type TraceRequest,
  type WorkloadModel,
} from '../domain/index.ts';
import { random } from '../math/index.ts';
import { SimulatedFleet, type SimulationResult } from '../sim/index.ts';
import { type ControllerConfig, sloOfRequests } from './config.ts';
import type { Candidate } from './planner.ts';
import { makeRequestRouter, type RequestRouter } from './request-router.ts';
import { tailMean } from './statistics.ts';

/** The tail that `p99` is judged by: the mean of the slowest 2 %, which is steadier than the percentile and adds up. */
const TAIL_SHARE = 0.02;
/** Objective `gpus`: share of requests that must meet their SLO. */
const SLO_SHARE = 0.99;

/** A switch inside the run: from what stands, at its start. */
export interface SwitchInside {
  readonly plan: SwitchPlan;
  readonly cluster: Cluster;
}

export class Twin {
  readonly #config: ControllerConfig;
  readonly #workload: WorkloadModel;
  #simulatedRequests = 0;

  constructor(config: ControllerConfig, workload: WorkloadModel) {
    this.#config = config;
    this.#workload = workload;
  }

  get simulatedRequests(): number {
    return this.#simulatedRequests;
  }

  /** What a run of the candidate on this traffic gives. Equal arguments give equal outcomes. */
  play(candidate: Candidate, traffic: readonly TraceRequest[], inside?: SwitchInside): SimulationResult {
    this.#simulatedRequests += traffic.length;
    const { models, engine, stepTimeOf, costs, parkedLayouts } = this.#config;
    const routing: RoutingTable = { version: 0, workload: this.#workload, assignment: candidate.assignment };
    const fleet = new SimulatedFleet<RequestRouter>({
      trace: traffic,
      cluster: inside?.cluster ?? { nodes: [] },
      models,
      engine,
      stepTimeOf,
      parkedBytes: mostParkedBytes(parkedLayouts, costs.parkedBytesPerLayout),
      initial: inside ? inside.plan.from : anywhere(candidate.deployment),
      makeRouter: (table, replicas, previous) => makeRequestRouter(table ?? routing, replicas, previous),
      costs,
      random: random('twin'),
    });
    if (inside) fleet.startSwitch(inside.plan, routing);
    return fleet.finish();
  }

  /** The objective over several runs together, smaller is better. */
  score(runs: readonly SimulationResult[], deployment: Deployment): number {
    const sloOf = sloOfRequests(this.#config);
    const outcomes = runs.flatMap((run) => run.outcomes);
    const spanSeconds = runs.reduce((sum, run) => sum + run.spanSeconds, 0);
    const good = () => outcomes.filter((outcome) => outcome.completed && meetsSlo(outcome, sloOf(outcome))).length;
    switch (this.#config.objective) {
      case 'p99':
        return tailMean(outcomes.map(secondsOf), TAIL_SHARE);
      case 'goodput':
        return -good() / spanSeconds;
      case 'throughput':
        return -outcomes.reduce((sum, outcome) => sum + outcome.outputTokens, 0) / spanSeconds;
      case 'gpus': {
        const missing = Math.max(0, SLO_SHARE - good() / Math.max(1, outcomes.length));
        return gpusUsed(deployment) * (1 + 100 * missing);
      }
    }
  }
}

/** A request that the candidate refuses counts as very slow, but finite, so that means and differences stay defined. */
const secondsOf = (outcome: RequestOutcome): number => (outcome.completed ? outcome.e2eSeconds : 3600);

/** Where replicas stand does not matter to a run without a switch. */
const anywhere = (deployment: Deployment): PlacedDeployment =>
  deployment.flatMap((group, g) =>
    Array.from({ length: group.count }, (_, i) => ({
      id: replicaId(`${g}-${i}`),
      model: group.model,
      gpuKind: group.gpuKind,
      strategy: group.strategy,
      gpus: [],
    })),
  );
