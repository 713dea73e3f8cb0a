// Brings the pool to what it should be, from whatever it is: after start-up, after an engine or an agent died, after a
// switch that failed half-way. It looks at the inventory, never at what it did before, so it may be killed at any time.
//
// Should be: every layout of the pool has its engine, parked; the replicas of the wanted deployment serve; nothing else
// holds memory on their GPUs. Replicas that a switch is working on are left alone.
import type { PlacedDeployment } from '../../core/domain/index.ts';
import type { EngineInfo } from '../../wire/index.ts';
import type { PoolView } from './fleet-watch.ts';
import { engineIdOf, type Layout, sharesGpus } from './layout.ts';
import type { ReplicaActions, WaitingClock } from './replica-actions.ts';

/** Bytes and seconds of filling one replica from host memory. */
export interface FillCost {
  readonly bytes: number;
  readonly seconds: number;
}

export interface ReconcilerOptions {
  readonly actions: Pick<
    ReplicaActions,
    'create' | 'wake' | 'fill' | 'verify' | 'admit' | 'drain' | 'park' | 'release'
  >;
  /** All layouts that are kept ready; those of the wanted deployment may be missing here. */
  readonly layouts: readonly Layout[];
  readonly clock: WaitingClock;
  readonly fillCost: (layout: Layout) => FillCost;
  /** Most engine processes that are being started at one time. */
  readonly concurrentCreates?: number;
  /** Pause after a failure, doubled each time up to 32-fold, emulated seconds. */
  readonly retrySeconds?: number;
  readonly onEvent?: (event: ReconcileEvent) => void;
}

export type ReconcileEvent =
  | { readonly kind: 'brought-up' | 'created' | 'cleared'; readonly engine: string; readonly seconds: number }
  | { readonly kind: 'failed'; readonly engine: string; readonly why: string };

interface Job {
  readonly gpus: readonly number[];
  /** It changes what memory of these GPUs is held; starting a parked engine does not. */
  readonly memory: boolean;
  readonly done: Promise<void>;
}

/** What a job is doing for, and when it may be tried again. */
interface Setback {
  failures: number;
  notBeforeSeconds: number;
}

export class Reconciler {
  readonly #options: Required<ReconcilerOptions>;
  readonly #jobs = new Map<string, Job>();
  readonly #setbacks = new Map<string, Setback>();
  #wanted: PlacedDeployment = [];

  constructor(options: ReconcilerOptions) {
    this.#options = { concurrentCreates: 4, retrySeconds: 2, onEvent: () => {}, ...options };
  }

  get wanted(): PlacedDeployment {
    return this.#wanted;
  }

  /** The deployment to hold from now on. */
  want(deployment: PlacedDeployment): void {
    this.#wanted = deployment;
  }

  /** Engines that it is working on now. */
  get busy(): ReadonlySet<string> {
    return new Set(this.#jobs.keys());
  }

  /** Resolves when nothing that was started is still going on. */
  async settled(): Promise<void> {
    while (this.#jobs.size > 0) await Promise.all([...this.#jobs.values()].map((job) => job.done));
  }

  /** Resolves when nothing that it started still changes what is held on these GPUs. */
  async leaves(gpus: ReadonlySet<number>): Promise<void> {
    const there = [...this.#jobs.values()].filter((job) => job.memory && job.gpus.some((gpu) => gpus.has(gpu)));
    await Promise.all(there.map((job) => job.done));
  }

  /**
   * Starts what has to be done and returns at once.
   *
   * @param switchGpus - GPUs whose replicas a switch is changing now: hands off.
   */
  step(view: PoolView, switchGpus: ReadonlySet<number>): void {
    const lost = new Set(view.lostGpus);
    const untouchable = (gpus: readonly number[]) => gpus.some((gpu) => switchGpus.has(gpu) || lost.has(gpu));
    const wantedIds = new Set(this.#wanted.map(engineIdOf));

    // 1. Every layout has an engine process; a failed one makes room for a new one.
    const layouts = new Map<string, Layout>();
    for (const layout of [...this.#wanted, ...this.#options.layouts]) layouts.set(engineIdOf(layout), layout);
    for (const [id, layout] of layouts) {
      const engine = view.engines.get(id);
      if (engine && engine.state !== 'failed') continue;
      if (layout.gpus.some((gpu) => lost.has(gpu))) continue;
      this.#start(id, layout, false, async () => {
        if (engine) await this.#options.actions.release(layout);
        await this.#options.actions.create(layout);
        return 'created';
      });
    }

    // 2. What is not wanted gives its memory back; only then is there room for what is.
    for (const engine of view.engines.values()) {
      if (engine.state === 'parked' || engine.state === 'failed' || engine.state === 'starting') continue;
      if (wantedIds.has(engine.id) || untouchable(engine.gpus)) continue;
      this.#start(engine.id, engine, true, async () => {
        if (engine.state === 'serving' || engine.state === 'draining') await this.#options.actions.drain(engine);
        await this.#options.actions.park(engine);
        return 'cleared';
      });
    }

    // 3. Wanted replicas come up where nothing else holds memory.
    for (const replica of this.#wanted) {
      const id = engineIdOf(replica);
      const engine = view.engines.get(id);
      if (!engine || engine.state === 'serving' || engine.state === 'failed' || engine.state === 'starting') continue;
      if (untouchable(replica.gpus) || holdsMemoryElsewhere(view, engine)) continue;
      this.#start(id, replica, true, () => this.#bringUp(replica, engine));
    }
  }

  async #bringUp(replica: Layout, engine: EngineInfo): Promise<'brought-up'> {
    const { actions, fillCost } = this.#options;
    // A drain that was not followed by anything: empty it fully, then it starts over like any other.
    if (engine.state === 'draining') await actions.park(replica);
    const { bytes, seconds } = fillCost(replica);
    await actions.wake(replica);
    await actions.fill(replica, 'host', bytes, seconds);
    await actions.verify(replica);
    await actions.admit(replica);
    return 'brought-up';
  }

  /** Runs one job per engine, and never two that change memory on the same GPU. */
  #start(id: string, layout: Layout, memory: boolean, work: () => Promise<'brought-up' | 'created' | 'cleared'>): void {
    const { clock, concurrentCreates, retrySeconds, onEvent } = this.#options;
    if (this.#jobs.has(id)) return;
    const setback = this.#setbacks.get(id);
    if (setback && clock.nowSeconds() < setback.notBeforeSeconds) return;
    const others = [...this.#jobs.values()];
    if (memory && others.some((job) => job.memory && sharesGpus(job.gpus, layout.gpus))) return;
    if (!memory && others.filter((job) => !job.memory).length >= concurrentCreates) return;
    const startSeconds = clock.nowSeconds();
    const done = work()
      .then((kind) => {
        this.#setbacks.delete(id);
        onEvent({ kind, engine: id, seconds: clock.nowSeconds() - startSeconds });
      })
      .catch((error: Error) => {
        const failures = (this.#setbacks.get(id)?.failures ?? 0) + 1;
        const pause = retrySeconds * 2 ** Math.min(5, failures - 1);
        this.#setbacks.set(id, { failures, notBeforeSeconds: clock.nowSeconds() + pause });
        onEvent({ kind: 'failed', engine: id, why: error.message });
      })
      .finally(() => {
        this.#jobs.delete(id);
      });
    this.#jobs.set(id, { gpus: layout.gpus, memory, done });
  }
}

/** Some other engine on these GPUs is neither parked nor gone. */
const holdsMemoryElsewhere = (view: PoolView, engine: EngineInfo): boolean =>
  [...view.engines.values()].some(
    (other) =>
      other.id !== engine.id &&
      other.state !== 'parked' &&
      other.state !== 'failed' &&
      other.state !== 'starting' &&
      sharesGpus(other.gpus, engine.gpus),
  );
