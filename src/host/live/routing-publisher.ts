// Keeps the gateway's routing equal to two things that change apart from each other: the table that the controller
// chose last, and the replicas that may take requests now. Replaces both at once, under a version that only rises,
// also over a restart of this process (it goes on from the gateway's own version).
import {
  type Assignment,
  classKey,
  gpusOf,
  type ModelSpec,
  type RoutingTable,
  type WorkloadModel,
} from '../../core/domain/index.ts';
import type { EngineInfo, RoutableReplica } from '../../wire/index.ts';
import type { GatewayPort } from './gateway-admin-client.ts';
import { byPlace } from './layout.ts';

/** What is assumed of a model's traffic until some was seen: mean lengths in tokens. */
export interface TrafficPrior {
  readonly model: string;
  readonly inputTokens: number;
  readonly outputTokens: number;
}

export const DEFAULT_PRIOR = { inputTokens: 1024, outputTokens: 256 };

/**
 * Routing before anything is known: one type per model, shared out over its classes by GPUs.
 *
 * @param replicas - the replicas that will serve; their classes are the columns of the assignment.
 */
export function priorRouting(
  models: readonly ModelSpec[],
  priors: readonly TrafficPrior[],
  replicas: readonly RoutableReplica[],
): { readonly workload: WorkloadModel; readonly assignment: Assignment } {
  const types = models.map((model) => {
    const prior = priors.find((candidate) => candidate.model === model.name) ?? DEFAULT_PRIOR;
    return {
      id: `${model.name}-prior`,
      model: model.name,
      inputTokens: prior.inputTokens,
      outputTokens: prior.outputTokens,
      logInput: Math.log(prior.inputTokens),
      logOutput: Math.log(prior.outputTokens),
      samples: [[prior.inputTokens, prior.outputTokens] as const],
    };
  });
  const classKeys = [...new Set(replicas.map((replica) => replica.classKey))].sort();
  const share = types.map((type) => {
    const gpus = classKeys.map((key) =>
      replicas.reduce((sum, r) => sum + (r.model === type.model && r.classKey === key ? r.gpuCount : 0), 0),
    );
    const total = gpus.reduce((sum, count) => sum + count, 0);
    return gpus.map((count) => (total === 0 ? 0 : count / total));
  });
  return {
    workload: { version: 0, fittedToSeconds: 0, types, posteriorCounts: {} },
    assignment: { typeIds: types.map((type) => type.id), classKeys, share, variant: { kind: 'plain' } },
  };
}

export const routableReplica = (engine: EngineInfo): RoutableReplica => ({
  id: engine.id,
  url: engine.url,
  model: engine.model,
  classKey: classKey(engine),
  gpuCount: gpusOf(engine.strategy),
  maxModelLen: engine.maxModelLen,
  kvTokens: engine.kvTokens,
});

export interface RoutingPublisherOptions {
  readonly gateway: GatewayPort;
  readonly models: readonly ModelSpec[];
  readonly priors?: readonly TrafficPrior[];
  readonly onTrouble?: (error: Error) => void;
}

export class RoutingPublisher {
  readonly #options: RoutingPublisherOptions;
  readonly #held = new Set<string>();
  #table: RoutingTable | null = null;
  #replicas: readonly RoutableReplica[] = [];
  #version = 0;
  /** Content of the last routing that the gateway took; null: unknown, or it has lost it. */
  #published: string | null = null;
  #queue: Promise<void> = Promise.resolve();

  constructor(options: RoutingPublisherOptions) {
    this.#options = options;
  }

  /** Version that the gateway took last. */
  get version(): number {
    return this.#version;
  }

  get table(): RoutingTable | null {
    return this.#table;
  }

  /** The controller's newest table; takes effect with the next {@link publish}. */
  setTable(table: RoutingTable): void {
    this.#table = table;
  }

  /** Keeps a serving engine out of the routing (it is being drained). */
  hold(engineId: string): void {
    this.#held.add(engineId);
  }

  unhold(engineId: string): void {
    this.#held.delete(engineId);
  }

  isHeld(engineId: string): boolean {
    return this.#held.has(engineId);
  }

  /** The gateway was restarted, or has another version than we think: publish again, above its version. */
  gatewayForgot(gatewayVersion: number): void {
    this.#version = Math.max(this.#version, gatewayVersion);
    this.#published = null;
  }

  /**
   * Brings the gateway up to date with the engines seen now; does nothing when it is.
   *
   * @returns true when the gateway now has this routing, false when it did not answer (the next call tries again).
   */
  publish(engines: Iterable<EngineInfo>): Promise<boolean> {
    const replicas = [...engines]
      .filter((engine) => engine.state === 'serving' && !this.#held.has(engine.id))
      .sort(byPlace)
      .map(routableReplica);
    this.#replicas = replicas;
    const done = this.#queue.then(() => this.#put());
    this.#queue = done.then(() => {});
    return done;
  }

  async #put(): Promise<boolean> {
    const { gateway, models, priors, onTrouble } = this.#options;
    // Read here, not when queued: of several changes that wait, the first call carries all.
    const { workload, assignment } = this.#table ?? priorRouting(models, priors ?? [], this.#replicas);
    const content = JSON.stringify([this.#table?.version ?? null, assignment, workload.version, this.#replicas]);
    if (content === this.#published) return true;
    // With nothing to route to there is nothing to say before the first replica serves.
    if (this.#replicas.length === 0 && this.#published === null && this.#version === 0) return true;
    try {
      const answer = await gateway.putRouting({
        version: this.#version + 1,
        workload,
        assignment,
        replicas: this.#replicas,
      });
      this.#version = answer.version;
      this.#published = content;
      return true;
    } catch (error) {
      this.#published = null;
      onTrouble?.(error as Error);
      return false;
    }
  }
}
