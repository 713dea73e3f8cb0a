// The control loop's values and ports: what is observed, what is decided, and the record that says why.
import type { Assignment } from './assignment.ts';
import type { Cluster } from './cluster.ts';
import type { ReplicaClass } from './deployment.ts';
import type { FinishedRequest, RequestView } from './request.ts';
import type { SwitchPlan } from './switch-plan.ts';
import type { ReplicaId } from './units.ts';
import type { Forecast, WorkloadModel } from './workload.ts';

export type ReplicaState = 'starting' | 'parked' | 'waking' | 'filled' | 'serving' | 'draining' | 'failed';

/** One replica as the fleet sees it now. */
export interface ReplicaObservation extends ReplicaClass {
  readonly id: ReplicaId;
  readonly gpus: readonly number[];
  readonly state: ReplicaState;
  readonly runningCount: number;
  readonly waitingCount: number;
  /** Share of the KV blocks in use, 0..1. */
  readonly kvUsedShare: number;
}

export interface Observation {
  readonly kind: 'slow' | 'fast';
  readonly atSeconds: number;
  readonly cluster: Cluster;
  /** GPUs that cannot be used now (lost, or their agent does not answer). */
  readonly lostGpus: readonly number[];
  readonly replicas: readonly ReplicaObservation[];
  /** Requests that arrived since the last observation, also those queued or refused. */
  readonly arrivals: readonly RequestView[];
  /** Requests that ended since the last observation. */
  readonly finished: readonly FinishedRequest[];
  /** Requests that are running now with their tokens so far (right-censored output lengths). */
  readonly running: readonly (RequestView & { readonly generatedTokens: number })[];
  /** Requests that wait at the gateway because no replica could take them. */
  readonly queuedCount: number;
  /** Id of the switch that is being carried out, or null. */
  readonly switchInProgress: string | null;
  /** How the last switch ended, if it ended since the last observation. */
  readonly switchEnded: {
    readonly id: string;
    readonly outcome: 'done' | 'rolled-back' | 'failed';
    readonly seconds: number;
    readonly why: string;
  } | null;
}

/** What the gateway needs to route: replaced as a whole, versioned. */
export interface RoutingTable {
  readonly version: number;
  readonly workload: WorkloadModel;
  readonly assignment: Assignment;
}

export type Decision =
  | { readonly kind: 'none' }
  | { readonly kind: 'route'; readonly routing: RoutingTable }
  | { readonly kind: 'switch'; readonly plan: SwitchPlan; readonly routing: RoutingTable };

/** One deployment that was weighed. Seconds of latency are what the twin expects under the objective. */
export interface ConsideredCandidate {
  readonly deployment: string;
  readonly variant: string;
  readonly servedShare: number;
  readonly utilisation: number;
  /** Objective value by the twin; smaller is better, whatever the objective. */
  readonly score: number;
  readonly switchSeconds: number;
  readonly switchBytes: number;
  /** Score lost to the switch itself. */
  readonly switchLoss: number;
  /** Lower 90 % bound of (stay − candidate), paired over common random numbers. */
  readonly gainLowerBound: number;
}

/** The one record of a tick: logs, metrics, dashboard, golden files and bug reports read it. */
export interface TickRecord {
  readonly tick: number;
  readonly kind: 'slow' | 'fast';
  readonly atSeconds: number;
  readonly seen: {
    readonly arrivals: number;
    readonly finished: number;
    readonly queued: number;
    readonly running: number;
    /** requests/s by type over the last window, as of now. */
    readonly arrivalRate: readonly number[];
    readonly deployment: string;
    readonly lostGpus: number;
    readonly switchInProgress: string | null;
  };
  readonly types: readonly {
    readonly id: string;
    readonly model: string;
    readonly inputTokens: number;
    readonly outputTokens: number;
  }[];
  readonly predicted: Forecast | null;
  readonly considered: readonly ConsideredCandidate[];
  /** Objective bound of the search: best value found, proven bound and relative gap of the linear share model. */
  readonly search: {
    readonly value: number;
    readonly upperBound: number;
    readonly gap: number;
    readonly nodes: number;
  } | null;
  readonly chosen: string;
  readonly decision: Decision;
  /** One sentence for people. */
  readonly why: string;
  readonly versions: { readonly workload: number; readonly routing: number; readonly profile: string };
  /** Work units spent, so that equal seeds decide equally. */
  readonly work: { readonly searchNodes: number; readonly simulatedRequests: number };
}

/** Budgets in units of work, never in time. */
export interface WorkUnits {
  readonly searchNodes: number;
  readonly simulatedRequests: number;
}

export interface Controller {
  /** Pure and synchronous: equal observations give equal records. */
  tick(observation: Observation, budget: WorkUnits): TickRecord;
}

export interface Fleet {
  observe(kind: 'slow' | 'fast'): Promise<Observation>;
  /** Hands the decision over and returns; a switch goes on beside the loop. */
  apply(decision: Decision): Promise<void>;
}

export interface Journal {
  append(record: TickRecord): void;
}

export interface Clock {
  nowSeconds(): number;
}
