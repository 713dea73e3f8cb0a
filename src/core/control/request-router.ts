// Routes one request by a routing table: posterior over types, then the share router. The gateway and the simulator
// both ask this one.
import type { RequestView, RoutingTable } from '../domain/index.ts';
import { type ReplicaLoads, type RouterReplica, ShareRouter } from '../routing/index.ts';
import { posterior } from '../workload/index.ts';

export class RequestRouter {
  readonly #table: RoutingTable;
  readonly #probabilities: Float64Array;
  #shares: ShareRouter;

  /** @param previous - the router that this one replaces: what each type is owed by each class goes on. */
  constructor(table: RoutingTable, replicas: readonly RouterReplica[], previous?: RequestRouter) {
    this.#table = table;
    this.#probabilities = new Float64Array(table.workload.types.length);
    this.#shares = new ShareRouter(table.assignment, replicas);
    if (previous) this.#shares.inherit(previous.#shares);
  }

  /** @returns index into the replicas last set, or -1 when the request fits on none of them. */
  route(view: RequestView, loads: ReplicaLoads): number {
    return this.#shares.choose(view, posterior(this.#table.workload, view, this.#probabilities), loads);
  }

  /** Replaces the replicas that take requests; shares of classes that are gone go to the others. */
  setReplicas(replicas: readonly RouterReplica[]): void {
    this.#shares = new ShareRouter(this.#table.assignment, replicas).inherit(this.#shares);
  }
}

export const makeRequestRouter = (
  table: RoutingTable,
  replicas: readonly RouterReplica[],
  previous?: RequestRouter,
): RequestRouter => new RequestRouter(table, replicas, previous);
