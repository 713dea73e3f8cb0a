// Routers of plain load balancers, which know nothing of workload types: the peers that ours is compared with.
import type { RequestView } from '../domain/index.ts';
import { claimedTokens, type ReplicaLoads, ReplicasByModel, type Router, type RouterReplica } from './router.ts';

/** Every replica of the model in turn; a replica that a request does not fit is passed over. */
export class RoundRobinRouter implements Router {
  readonly #replicas: readonly RouterReplica[];
  readonly #byModel: ReplicasByModel;
  readonly #next = new Map<string, number>();

  constructor(replicas: readonly RouterReplica[]) {
    this.#replicas = replicas;
    this.#byModel = new ReplicasByModel(replicas);
    for (const model of this.#byModel.models()) this.#next.set(model, 0);
  }

  choose(view: RequestView, _posterior: ArrayLike<number>, _loads: ReplicaLoads): number {
    const own = this.#byModel.of(view.model);
    const need = claimedTokens(view);
    const start = this.#next.get(view.model) ?? 0;
    for (let step = 0; step < own.length; step++) {
      const place = (start + step) % own.length;
      if (this.#replicas[own[place]!]!.maxModelLen < need) continue;
      this.#next.set(view.model, (place + 1) % own.length);
      return own[place]!;
    }
    return -1;
  }
}

/** Fewest outstanding requests among all replicas of the model; ties go round, as in common load balancers. */
export class LeastLoadedRouter implements Router {
  readonly #replicas: readonly RouterReplica[];
  readonly #byModel: ReplicasByModel;
  readonly #next = new Map<string, number>();

  constructor(replicas: readonly RouterReplica[]) {
    this.#replicas = replicas;
    this.#byModel = new ReplicasByModel(replicas);
    for (const model of this.#byModel.models()) this.#next.set(model, 0);
  }

  choose(view: RequestView, _posterior: ArrayLike<number>, loads: ReplicaLoads): number {
    const own = this.#byModel.of(view.model);
    const need = claimedTokens(view);
    const start = this.#next.get(view.model) ?? 0;
    let best = -1;
    let fewest = Number.POSITIVE_INFINITY;
    for (let step = 0; step < own.length; step++) {
      const place = (start + step) % own.length;
      const index = own[place]!;
      if (this.#replicas[index]!.maxModelLen < need) continue;
      const requests = loads.requests[index] ?? 0;
      if (best < 0 || requests < fewest) {
        best = place;
        fewest = requests;
      }
    }
    if (best < 0) return -1;
    this.#next.set(view.model, (best + 1) % own.length);
    return own[best]!;
  }
}
