// A switch as plain data: what moves where, and in which order. Made by core/switching, carried out by a fleet.
import type { PlacedDeployment, PlacedReplica } from './deployment.ts';
import type { ReplicaId } from './units.ts';

/** Where bytes come from: a GPU's memory or the memory of the target's own host. */
export type TransferSource =
  | { readonly kind: 'gpu'; readonly gpu: number }
  | { readonly kind: 'host'; readonly nodeIndex: number };

/** One box of one checkpoint tensor on its way to one GPU. Boxes are [start, end) along axis 0 and axis 1. */
export interface Transfer {
  readonly source: TransferSource;
  readonly targetGpu: number;
  readonly tensor: string;
  readonly start: readonly number[];
  readonly shape: readonly number[];
  readonly bytes: number;
}

/** Load of one link. `from`/`to` are `gpu:3`, `host:0`, or `net:0` for a node's network. */
export interface LinkLoad {
  readonly from: string;
  readonly to: string;
  readonly bytes: number;
  readonly seconds: number;
}

/**
 * How a replica comes up, cheapest first (design section 7): weights untouched, woken with its weights, a parked layout
 * filled from host memory or peers, a new process filled from peers, a cold start from disk.
 */
export type Rung = 'keep' | 'wake' | 'parked-fill' | 'new-process' | 'cold';

export type SwitchAction = 'drain' | 'park' | 'release' | 'create' | 'wake' | 'fill' | 'verify' | 'admit';

/** One step. A step starts when all steps in `after` (indices into the plan) have ended. */
export interface SwitchStep {
  readonly replica: ReplicaId;
  readonly action: SwitchAction;
  /** Expected duration, seconds. */
  readonly seconds: number;
  readonly after: readonly number[];
  /** Only for `fill`: bytes to bring in, all GPUs of the replica together. */
  readonly bytes: number;
  /** Only for `fill`: other GPUs, or the memory of the target's own host (also where some boxes come from GPUs). */
  readonly source?: 'host' | 'peers';
}

export interface SwitchPlan {
  readonly id: string;
  readonly from: PlacedDeployment;
  readonly to: PlacedDeployment;
  /** Replicas that stay as they are (same class, same GPUs); their ids are equal in `from` and `to`. */
  readonly kept: readonly ReplicaId[];
  readonly leaving: readonly PlacedReplica[];
  readonly arriving: readonly { readonly replica: PlacedReplica; readonly rung: Rung }[];
  readonly steps: readonly SwitchStep[];
  /** What bringing each replica back, or down, would take, should the switch be rolled back; `after` is empty here. */
  readonly restore?: readonly SwitchStep[];
  /** Bytes that cross links between GPUs, or from host memory. */
  readonly bytes: number;
  readonly links: readonly LinkLoad[];
  /** Expected seconds from first drain to last admit; no faster plan exists than `lowerBoundSeconds` of transfer. */
  readonly seconds: number;
  readonly lowerBoundSeconds: number;
}

/** What each way of coming up costs beside the bytes, seconds, and what parked layouts hold. */
export interface SwitchCosts {
  readonly wakeSeconds: number;
  readonly parkSeconds: number;
  readonly newProcessSeconds: number;
  readonly coldSeconds: number;
  readonly verifySeconds: number;
  /** Longest that running requests may drain before they are cut and moved. */
  readonly drainSeconds: number;
  readonly parkedBytesPerLayout: number;
}

/**
 * Simulated until measured on GPUs: waking a parked layout 2.6 s (upper end of vLLM's sleep level 2, public figures),
 * a re-initialised process 10 s (the paper's bound), a cold start 50 s (the paper).
 */
export const DEFAULT_SWITCH_COSTS: SwitchCosts = {
  wakeSeconds: 2.6,
  parkSeconds: 0.5,
  newProcessSeconds: 10,
  coldSeconds: 50,
  verifySeconds: 0.5,
  drainSeconds: 5,
  parkedBytesPerLayout: 2e9,
};
