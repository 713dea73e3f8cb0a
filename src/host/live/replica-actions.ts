// What can be done to one replica of a live pool, each safe to repeat: the switch executor and the reconciler are made
// of these. The order inside a drain is what keeps streams whole: first nothing new is sent there, then the engine
// refuses what may still be under way, then short requests get time to end, then those that can go on elsewhere token by
// token are moved, and only those that cannot get a longer deadline of their own.
import type { EngineInfo, EngineState } from '../../wire/index.ts';
import type { AgentPort } from './fleet-client.ts';
import type { FleetWatch } from './fleet-watch.ts';
import type { GatewayPort } from './gateway-admin-client.ts';
import { RefusedError, UnreachableError } from './json-client.ts';
import { engineIdOf, type Layout } from './layout.ts';
import type { RoutingPublisher } from './routing-publisher.ts';

/** The pool's clock as far as waiting needs it; emulated seconds. */
export interface WaitingClock {
  nowSeconds(): number;
  /** Resolves after an emulated duration. */
  delay(seconds: number, signal?: AbortSignal): Promise<void>;
}

export interface DrainLimits {
  /** Running requests may end by themselves for this long before those that can be moved are cut. */
  readonly drainSeconds: number;
  /** Requests that cannot be moved may end by themselves for this long, counted from the start of the drain. */
  readonly drainDeadlineSeconds: number;
}

export interface ReplicaActionsOptions {
  readonly watch: FleetWatch;
  readonly gateway: GatewayPort;
  readonly publisher: RoutingPublisher;
  readonly clock: WaitingClock;
  readonly drainLimits: DrainLimits;
  /** Between two looks at a draining engine, emulated seconds. */
  readonly pollSeconds?: number;
  /** How often a call that nobody answered is repeated, and the first pause before that, emulated seconds. */
  readonly retries?: number;
  readonly retryPauseSeconds?: number;
}

const TAKES_REQUESTS: ReadonlySet<EngineState> = new Set(['serving', 'draining']);
const HOLDS_MEMORY: ReadonlySet<EngineState> = new Set(['waking', 'filled', 'serving', 'draining']);

export class ReplicaActions {
  readonly #options: Required<ReplicaActionsOptions>;

  constructor(options: ReplicaActionsOptions) {
    this.#options = { pollSeconds: 0.25, retries: 5, retryPauseSeconds: 0.5, ...options };
  }

  /** The engine process of a layout, parked; already there, nothing happens. A failed one is released first. */
  async create(layout: Layout): Promise<EngineInfo> {
    const id = engineIdOf(layout);
    const { model, gpuKind, strategy, gpus } = layout;
    return this.#call(layout, (agent) =>
      agent.create({ id, model, gpuKind, strategy: { ...strategy }, gpus: [...gpus] }),
    );
  }

  /** Takes the memory and brings up graphs and communicators. Creates the engine when it is missing. */
  async wake(layout: Layout): Promise<void> {
    try {
      await this.#tell(layout, 'wake');
    } catch (error) {
      if (!(error instanceof RefusedError && error.status === 404)) throw error;
      await this.create(layout);
      await this.#tell(layout, 'wake');
    }
  }

  async fill(layout: Layout, source: 'host' | 'peers', bytes: number, seconds: number): Promise<void> {
    await this.#call(layout, (agent) => agent.fill(engineIdOf(layout), { source, bytes, seconds }));
  }

  async verify(layout: Layout): Promise<void> {
    await this.#tell(layout, 'verify');
  }

  /** From now on the engine takes requests, and the gateway sends some. */
  async admit(layout: Layout): Promise<void> {
    const { publisher } = this.#options;
    await this.#tell(layout, 'admit');
    publisher.unhold(engineIdOf(layout));
    await this.#publishNow();
  }

  /** Empties a replica; see the head of this file. Returns how many requests went on elsewhere. */
  async drain(layout: Layout): Promise<number> {
    const { publisher, clock, drainLimits, pollSeconds, gateway } = this.#options;
    const id = engineIdOf(layout);
    publisher.hold(id);
    await this.#publishNow();
    if (!(await this.#unlessOver(layout, TAKES_REQUESTS, () => this.#tell(layout, 'drain')))) return 0;
    const startSeconds = clock.nowSeconds();
    let moved = 0;
    for (;;) {
      const elapsed = clock.nowSeconds() - startSeconds;
      const mode = elapsed >= drainLimits.drainSeconds ? 'cut' : 'wait';
      let runningCount = 0;
      try {
        const answer = await gateway.evacuate(id, mode);
        runningCount = answer.runningCount;
        moved += answer.movedCount;
      } catch (error) {
        // A gateway that is gone has no streams there; one that does not know the replica has none either.
        if (!(error instanceof UnreachableError || (error instanceof RefusedError && error.status === 404)))
          throw error;
      }
      if (runningCount === 0) {
        // The engine's own word comes last: it may still be closing what the gateway has given up.
        const engine = (await this.#options.watch.refresh()).engines.get(id);
        if (!engine || engine.state === 'failed' || engine.runningCount + engine.waitingCount === 0) return moved;
      }
      if (elapsed >= drainLimits.drainDeadlineSeconds) return moved;
      await clock.delay(pollSeconds);
    }
  }

  /** Gives back weights and KV memory; requests that are still there end with an error. */
  async park(layout: Layout): Promise<void> {
    this.#options.publisher.hold(engineIdOf(layout));
    await this.#unlessOver(layout, HOLDS_MEMORY, () =>
      this.#call(layout, (agent) => agent.park(engineIdOf(layout), false)),
    );
    // Parked, it is in no routing anyway; when it serves again it must be.
    this.#options.publisher.unhold(engineIdOf(layout));
  }

  async release(layout: Layout): Promise<void> {
    try {
      await this.#tell(layout, 'release');
    } catch (error) {
      if (!(error instanceof RefusedError && error.status === 404)) throw error;
    }
    this.#options.publisher.unhold(engineIdOf(layout));
  }

  /**
   * Drain and park ask for something to end. Where it has ended already (the engine died in the meantime, or never took
   * a request), that is no failure. The reconciler makes a new engine of one that died.
   *
   * @returns false when there is nothing to end.
   */
  async #unlessOver(
    layout: Layout,
    notOver: ReadonlySet<EngineState>,
    operation: () => Promise<EngineInfo>,
  ): Promise<boolean> {
    try {
      await operation();
      return true;
    } catch (error) {
      if (!(error instanceof RefusedError)) throw error;
      const engine = (await this.#options.watch.refresh()).engines.get(engineIdOf(layout));
      if (engine?.state === 'failed') await this.release(layout);
      else if (engine && notOver.has(engine.state)) throw error;
      return false;
    }
  }

  /** Asks the agents and publishes what serves now. */
  async #publishNow(): Promise<void> {
    const view = await this.#options.watch.refresh();
    await this.#options.publisher.publish(view.engines.values());
  }

  #tell(layout: Layout, verb: 'wake' | 'verify' | 'admit' | 'drain' | 'release'): Promise<EngineInfo> {
    return this.#call(layout, (agent) => agent.tell(engineIdOf(layout), verb));
  }

  /** Repeats a call that nobody answered (operations are idempotent); a refusal is final. */
  async #call(layout: Layout, operation: (agent: AgentPort) => Promise<EngineInfo>): Promise<EngineInfo> {
    const { watch, clock, retries, retryPauseSeconds } = this.#options;
    const agent = watch.agentOf(layout.gpus);
    for (let attempt = 0; ; attempt++) {
      try {
        return await operation(agent);
      } catch (error) {
        if (!(error instanceof UnreachableError) || attempt >= retries) throw error;
        await clock.delay(retryPauseSeconds * 2 ** attempt);
      }
    }
  }
}
