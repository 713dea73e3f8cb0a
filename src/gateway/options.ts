// What the gateway is told when it starts. Durations in pool time are emulated seconds; the others say "real".
import type { Clock, RequestView, RoutingTable } from '../core/domain/index.ts';
import type { Logger } from '../host/index.ts';
import type { RoutableReplica } from '../wire/index.ts';

/** Outstanding work per replica, in the order of the replicas that the router was made with. */
export interface ReplicaLoads {
  readonly requests: ArrayLike<number>;
  readonly tokens: ArrayLike<number>;
}

/** Chooses a replica for one request: its index, or -1 when it fits none. Synchronous, in microseconds. */
export interface RequestRouter {
  route(view: RequestView, loads: ReplicaLoads, nowSeconds: number): number;
  /** Goes on with other replicas under the same table, keeping what it knows of who is owed what. */
  setReplicas?(replicas: readonly RoutableReplica[]): void;
}

/** `previous` is the router that is replaced: what it knows of who is owed what may go on. */
export type RouterFactory = (
  table: RoutingTable,
  replicas: readonly RoutableReplica[],
  previous?: RequestRouter,
) => RequestRouter;

export interface ServedModel {
  readonly name: string;
  /** Longest input + output of one request, tokens. */
  readonly maxModelLen: number;
}

/** The pool's clock; `realMs` turns a duration in pool time into real milliseconds. */
export interface GatewayClock extends Clock {
  readonly speed: number;
  realMs(durationSeconds: number): number;
}

export interface GatewayOptions {
  readonly clock: GatewayClock;
  readonly makeRouter: RouterFactory;
  readonly log: Logger;
  /** Address and port for clients; port 0 takes a free one. */
  readonly host: string;
  readonly port: number;
  /** Admin port, on loopback only, and its bearer token. */
  readonly adminPort: number;
  readonly token: string;
  readonly emulated: boolean;
  /** Models that this pool serves; more are learnt from routing updates. */
  readonly models: readonly ServedModel[];
  /** Where the last routing update is kept over a restart; null: nowhere. */
  readonly stateFile: string | null;
  readonly maxQueuedRequests: number;
  /** Longest wait for a replica, pool time; never less than `shortestWaitMs` in real time. */
  readonly queueTimeoutSeconds: number;
  /** Longest silence of an engine in the middle of a stream, pool time; never less than `shortestIdleMs`. */
  readonly idleTimeoutSeconds: number;
  /** How long running answers may go on after a shutdown was asked for, real time. */
  readonly shutdownSeconds: number;
  readonly maxBodyBytes: number;
  /** Request bodies and buffered answers held at one time, bytes. */
  readonly maxHeldBytes: number;
  /** How long idle client connections stay open, real time. */
  readonly keepAliveSeconds: number;
  /** A stream that waits longer than this gets `: keep-alive` comments, real time. */
  readonly pingSeconds: number;
  /** Most requests in flight at one replica; 0: the engines decide. */
  readonly maxRequestsPerReplica: number;
  /** Failed tries of one request without any progress before it is given up. */
  readonly maxTries: number;
  /** An accelerated pool shortens its waits, but processes do not start and answer faster: floors in real time. */
  readonly shortestWaitMs: number;
  readonly shortestIdleMs: number;
}

export const GATEWAY_DEFAULTS = {
  host: '127.0.0.1',
  port: 8080,
  adminPort: 0,
  emulated: false,
  models: [],
  stateFile: null,
  maxQueuedRequests: 1024,
  queueTimeoutSeconds: 60,
  idleTimeoutSeconds: 600,
  shutdownSeconds: 30,
  maxBodyBytes: 16 * 1024 * 1024,
  maxHeldBytes: 1024 * 1024 * 1024,
  keepAliveSeconds: 75,
  pingSeconds: 10,
  maxRequestsPerReplica: 0,
  maxTries: 3,
  shortestWaitMs: 5000,
  shortestIdleMs: 10_000,
} as const satisfies Partial<GatewayOptions>;

/** Spreads requests by outstanding requests alone, where no better router is given. */
export const leastLoadedRouter: RouterFactory = (_table, replicas) => ({
  route(view, loads) {
    let best = -1;
    for (let i = 0; i < replicas.length; i++) {
      const replica = replicas[i]!;
      if (replica.model !== view.model || view.inputTokens + view.maxTokens > replica.maxModelLen) continue;
      if (best < 0 || loads.requests[i]! < loads.requests[best]!) best = i;
    }
    return best;
  },
});
