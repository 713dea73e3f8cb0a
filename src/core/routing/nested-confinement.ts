// Soft nested confinement: long prompts stall the decoding of whatever shares their replica, so the longest may use only
// the first part of a model's replicas, while shorter ones may go anywhere and take the least loaded. Walls that keep
// short prompts out as well cost more than they give, and so does one replica too few for the long ones.
//
//   replicas of a model, best for long prompts first    [ r3 | r1 | r0 | r2 ]
//   longest 10 %  (replicaShare 0.5)                      ──────────┤
//   longest 20 %  (replicaShare 0.75)                     ───────────────┤
//   all others                                            ────────────────────┤
import type { RequestView, RoutingVariant } from '../domain/index.ts';
import { claimedTokens, leastLoaded, type ReplicaLoads, ReplicasByModel, type RouterReplica } from './router.ts';

type NestedVariant = Extract<RoutingVariant, { kind: 'nested' }>;

interface ModelReplicas {
  /** Indices into the replicas, best suited for long prompts first. */
  readonly order: Int32Array;
  /** How many of `order` a prompt may use that is longer than threshold i. */
  readonly allowed: Int32Array;
}

export class NestedConfinement {
  readonly #replicas: readonly RouterReplica[];
  readonly #longerThanTokens: Float64Array;
  readonly #byModel = new Map<string, ModelReplicas>();

  constructor(variant: NestedVariant, replicas: readonly RouterReplica[]) {
    this.#replicas = replicas;
    this.#longerThanTokens = Float64Array.from(variant.longerThanTokens);
    const byModel = new ReplicasByModel(replicas);
    for (const model of byModel.models()) {
      const order = longPromptOrder(replicas, byModel.of(model));
      const allowed = Int32Array.from(variant.replicaShares, (share) => leadingReplicas(replicas, order, share));
      this.#byModel.set(model, { order, allowed });
    }
  }

  choose(view: RequestView, loads: ReplicaLoads): number {
    const own = this.#byModel.get(view.model);
    if (own === undefined) return -1;
    let allowed = own.order.length;
    for (let i = 0; i < this.#longerThanTokens.length; i++) {
      if (view.inputTokens > this.#longerThanTokens[i]!) allowed = Math.min(allowed, own.allowed[i]!);
    }
    const need = claimedTokens(view);
    const inside = leastLoaded(this.#replicas, own.order, 0, allowed, need, loads);
    // Confinement is soft: what fits on no replica of its part goes where it fits.
    return inside >= 0 ? inside : leastLoaded(this.#replicas, own.order, allowed, own.order.length, need, loads);
  }
}

/** Longer context first, then more room for KV, then the order given. */
function longPromptOrder(replicas: readonly RouterReplica[], own: Int32Array): Int32Array {
  return own
    .slice()
    .sort(
      (a, b) =>
        replicas[b]!.maxModelLen - replicas[a]!.maxModelLen || replicas[b]!.kvTokens - replicas[a]!.kvTokens || a - b,
    );
}

/** Smallest number of leading replicas that hold at least `share` of the GPUs; at least one. */
function leadingReplicas(replicas: readonly RouterReplica[], order: Int32Array, share: number): number {
  let total = 0;
  for (const index of order) total += replicas[index]!.gpuCount;
  let held = 0;
  for (let count = 1; count <= order.length; count++) {
    held += replicas[order[count - 1]!]!.gpuCount;
    if (held >= share * total - 1e-9) return count;
  }
  return order.length;
}
