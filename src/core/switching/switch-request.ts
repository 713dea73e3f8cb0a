// What is asked of the planner, as plain data.
import type {
  Cluster,
  EngineOptions,
  ModelSpec,
  PlacedDeployment,
  PlacedReplica,
  ReplicaId,
  Rung,
  SwitchCosts,
} from '../domain/index.ts';

/** An engine that is parked: bound to its GPUs and strategy, without weights unless `holdsWeights`. */
export interface ParkedLayout extends Omit<PlacedReplica, 'id'> {
  readonly id?: ReplicaId;
  /** Its weights lie on its GPUs still: rung `wake`. */
  readonly holdsWeights?: boolean;
}

export interface PlacementOptions {
  /** Gives ids to new replicas; the default counts up from `r0` past the ids in use. */
  readonly nextId?: () => ReplicaId;
  readonly lostGpus?: readonly number[];
  /** New replicas are put where a layout of theirs is parked, rather than where fewest bytes move. */
  readonly parkedLayouts?: readonly ParkedLayout[];
}

export interface SwitchRequest {
  readonly id: string;
  readonly cluster: Cluster;
  readonly models: readonly ModelSpec[];
  readonly from: PlacedDeployment;
  readonly to: PlacedDeployment;
  readonly engine: EngineOptions;
  readonly costs: SwitchCosts;
  readonly parkedLayouts: readonly ParkedLayout[];
  readonly planner: 'greedy' | 'optimal';
  readonly lostGpus?: readonly number[];
  /** Ways of coming up that the fleet can and may use; default: all. */
  readonly rungs?: readonly Rung[];
  /** Each node's host memory holds the checkpoint of every model; default true. */
  readonly hostCache?: boolean;
  /**
   * When old weights leave a GPU on which old and new replicas do not fit together.
   * `after-fill`: draining gives the KV cache back, the old weights stay until the new layout is filled from them
   * (vLLM: release of the KV cache alone). `before-wake` (default): waking takes weights and KV cache at once, so the
   * old replica parks first and the bytes come from elsewhere.
   */
  readonly oldWeightsLeave?: 'after-fill' | 'before-wake';
  /** Bytes per GPU that KV pools leave to parked layouts. */
  readonly parkedReserveBytes?: number;
  /** Most parked layouts on one GPU after the switch; a replica that would be one more is released. */
  readonly mostParkedLayouts?: number;
  /** Components change side by side as long as they take no more than this share of all GPUs, 0..1; default 0.25. */
  readonly mostUnavailableShare?: number;
}
