// The Fleet port over a live pool: `observe` puts together what agents and gateway say; `apply` hands a routing table to
// the gateway and a switch to whoever carries switches out, and returns. On the way it keeps the gateway's routing equal
// to what serves, and lets the reconciler repair what died.
import {
  type Cluster,
  type Decision,
  type Fleet,
  type Observation,
  type PlacedDeployment,
  type ReplicaObservation,
  type ReplicaState,
  type RoutingTable,
  replicaId,
  type SwitchPlan,
  unreachable,
} from '../../core/domain/index.ts';
import type { EngineInfo, GatewayObservation } from '../../wire/index.ts';
import type { FleetWatch, PoolView } from './fleet-watch.ts';
import type { GatewayPort } from './gateway-admin-client.ts';
import { byPlace, engineIdOf, type Layout } from './layout.ts';
import type { Reconciler } from './reconciler.ts';
import type { RoutingPublisher } from './routing-publisher.ts';

/** Carries out one switch at a time, beside the loop. */
export interface SwitchRunner {
  /** Id of the switch under way, or null. */
  readonly current: string | null;
  /** GPUs whose replicas the switch under way changes. */
  readonly gpus: ReadonlySet<number>;
  /** Writes the plan down and starts it; throws SwitchError when one is under way or it cannot be written down. */
  start(plan: SwitchPlan, routing: RoutingTable): void;
  /** How the last switch ended; told once. */
  takeEnded(): Observation['switchEnded'];
}

export interface LiveFleetOptions {
  readonly cluster: Cluster;
  readonly watch: FleetWatch;
  readonly gateway: GatewayPort;
  readonly publisher: RoutingPublisher;
  readonly reconciler: Reconciler;
  readonly switches: SwitchRunner;
  readonly nowSeconds: () => number;
  readonly onTrouble?: (what: string, error: Error) => void;
}

export class LiveFleet implements Fleet {
  readonly #options: LiveFleetOptions;
  #incarnation: string | null = null;
  #cursor = 0;
  #queuedCount = 0;
  #gatewaySilent = false;

  constructor(options: LiveFleetOptions) {
    this.#options = options;
  }

  /** Never rejects: a part that does not answer is missing from the observation, and asked again the next time. */
  async observe(kind: 'slow' | 'fast'): Promise<Observation> {
    const { cluster, watch, publisher, switches, nowSeconds } = this.#options;
    const [view, seen] = await Promise.all([watch.refresh(), this.#askGateway()]);
    this.#repair(view);
    // Not waited for: a gateway that hangs must not stop the loop.
    void publisher.publish(view.engines.values());
    return {
      kind,
      atSeconds: nowSeconds(),
      cluster,
      lostGpus: view.lostGpus,
      replicas: observedReplicas(view, this.#options.reconciler.wanted, switches.gpus),
      arrivals: seen?.arrivals ?? [],
      finished: seen?.finished ?? [],
      running: seen?.running ?? [],
      queuedCount: this.#queuedCount,
      switchInProgress: switches.current,
      switchEnded: switches.takeEnded(),
    };
  }

  async apply(decision: Decision): Promise<void> {
    const { publisher, switches, watch } = this.#options;
    switch (decision.kind) {
      case 'none':
        return;
      case 'route':
        publisher.setTable(decision.routing);
        await publisher.publish(watch.view.engines.values());
        return;
      case 'switch':
        switches.start(decision.plan, decision.routing);
        return;
      default:
        unreachable(decision);
    }
  }

  /** Between ticks: something happened in the fleet. */
  async attend(): Promise<void> {
    const view = await this.#options.watch.refresh();
    this.#repair(view);
    await this.#options.publisher.publish(view.engines.values());
  }

  #repair(view: PoolView): void {
    this.#options.reconciler.step(view, this.#options.switches.gpus);
  }

  async #askGateway(): Promise<GatewayObservation | null> {
    const { gateway, publisher, onTrouble } = this.#options;
    const versionAsked = publisher.version;
    try {
      const seen = await gateway.observation(this.#cursor, this.#incarnation);
      if (this.#incarnation !== null && seen.incarnation !== this.#incarnation) {
        // Another process: it may have an older routing, or none.
        publisher.gatewayForgot(seen.routingVersion);
      } else if (seen.routingVersion !== versionAsked && publisher.version === versionAsked) {
        publisher.gatewayForgot(seen.routingVersion);
      }
      this.#incarnation = seen.incarnation;
      this.#cursor = seen.cursor;
      this.#queuedCount = seen.queuedCount;
      this.#gatewaySilent = false;
      return seen;
    } catch (error) {
      if (!this.#gatewaySilent) onTrouble?.('gateway', error as Error);
      this.#gatewaySilent = true;
      return null;
    }
  }
}

const AWAKE: ReadonlySet<EngineInfo['state']> = new Set(['waking', 'filled', 'serving', 'draining']);

/**
 * Engines that hold weights or are about to, and replicas that should serve and are being brought back: their place is
 * taken too. Parked engines are no replicas, whatever becomes of their process.
 */
function observedReplicas(
  view: PoolView,
  wanted: PlacedDeployment,
  switchGpus: ReadonlySet<number>,
): ReplicaObservation[] {
  const seen: ReplicaObservation[] = [];
  for (const engine of view.engines.values())
    if (AWAKE.has(engine.state)) seen.push(observed(engine, engine.state, engine));
  for (const replica of wanted) {
    const id = engineIdOf(replica);
    const engine = view.engines.get(id);
    if ((engine && AWAKE.has(engine.state)) || replica.gpus.some((gpu) => switchGpus.has(gpu))) continue;
    const none = { runningCount: 0, waitingCount: 0, kvUsedShare: 0 };
    seen.push(observed({ ...replica, id }, engine?.state === 'failed' ? 'failed' : 'starting', none));
  }
  return seen.sort(byPlace);
}

const observed = (
  { id, model, gpuKind, strategy, gpus }: Layout & { readonly id: string },
  state: ReplicaState,
  { runningCount, waitingCount, kvUsedShare }: Pick<EngineInfo, 'runningCount' | 'waitingCount' | 'kvUsedShare'>,
): ReplicaObservation => ({
  id: replicaId(id),
  model,
  gpuKind,
  strategy,
  gpus,
  state,
  runningCount,
  waitingCount,
  kvUsedShare,
});
