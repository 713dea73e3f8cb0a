// Routes one request by a routing table: posterior over types, then the share router. The gateway and the simulator
// both ask this one.
import type { RequestView, RoutingTable } from '../domain/index.ts';
import { type ReplicaLoads, type RouterReplica, ShareRouter } from '../routing/index.ts';
import { posterior } from '../workload/index.ts';

export interface RequestRouter {
  /** @returns index into the replicas last set, or -1 when the request fits on none of them. */
  route(view: RequestView, loads: ReplicaLoads, nowSeconds: number): number;
  /** Replaces the replicas that take requests; shares of classes that are gone go to the others. */
  setReplicas(replicas: readonly RouterReplica[]): void;
}

export function makeRequestRouter(table: RoutingTable, replicas: readonly RouterReplica[]): RequestRouter {
  const { workload, assignment } = table;
  const probabilities = new Float64Array(workload.types.length);
  let shares = new ShareRouter(assignment, replicas);
  return {
    route: (view, loads) => shares.choose(view, posterior(workload, view, probabilities), loads),
    setReplicas: (next) => {
      shares = new ShareRouter(assignment, next).inherit(shares);
    },
  };
}
