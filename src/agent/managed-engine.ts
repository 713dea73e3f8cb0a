// One engine of an agent and its way through the states of the fleet protocol. Every action is idempotent: asked again
// in or past the state that it leads to, it answers at once; asked again while it is under way, it answers with it.
// `park` and `release` cut short what is under way (a roll-back must not wait for the wake that it undoes); any other
// action waits its turn. Durations are emulated, with deadlines on the pool's clock.
import { EngineError, OserveError, type SwitchCosts } from '../core/domain/index.ts';
import type { PoolClock } from '../host/index.ts';
import type { CreateEngine, EngineInfo, EngineState, Fill } from '../wire/index.ts';
import type { RunningEngine } from './engine-control.ts';
import type { EventLog } from './event-log.ts';
import { type MemoryLedger, parkedBytesByGpu } from './memory-ledger.ts';

/** A call that the state of its engine does not allow. */
export const wrongState = (message: string, hint: string) => new OserveError('wrong_state', message, { hint });

export interface ManagedEngineParts {
  readonly spec: CreateEngine;
  readonly clock: PoolClock;
  readonly costs: SwitchCosts;
  readonly events: EventLog;
  readonly ledger: MemoryLedger;
  /** Bytes by GPU when awake. */
  readonly awakeBytes: ReadonlyMap<number, number>;
  readonly kvTokens: number;
  readonly maxModelLen: number;
  launch(gone: (why: string) => void): Promise<RunningEngine>;
}

type Action = 'start' | 'wake' | 'fill' | 'verify' | 'admit' | 'drain' | 'park' | 'release';
/** What each action may cut short. */
const CUTS: Partial<Record<Action, readonly Action[]>> = {
  park: ['wake', 'fill', 'verify'],
  release: ['start', 'wake', 'fill', 'verify', 'park'],
};
const AWAKE: readonly EngineState[] = ['waking', 'filled', 'serving', 'draining'];

export class ManagedEngine {
  readonly #parts: ManagedEngineParts;
  #state: EngineState = 'starting';
  #failure: string | null = null;
  #running: RunningEngine | null = null;
  /** Graphs and communicators are up (`waking` has ended its work), weights were checked. */
  #woken = false;
  #verified = false;
  #underWay: { readonly action: Action; readonly done: Promise<void>; readonly abort: AbortController } | null = null;

  constructor(parts: ManagedEngineParts) {
    this.#parts = parts;
  }

  get spec(): CreateEngine {
    return this.#parts.spec;
  }

  get state(): EngineState {
    return this.#state;
  }

  /** The weights are in its GPUs' memory. */
  get holdsWeights(): boolean {
    return this.#state === 'filled' || this.#state === 'serving' || this.#state === 'draining';
  }

  async info(): Promise<EngineInfo> {
    const { spec, kvTokens, maxModelLen } = this.#parts;
    // An engine that dies while it is asked has no load; its exit tells the rest.
    const load = await this.#running?.load().catch(() => null);
    return {
      ...spec,
      state: this.#state,
      url: this.#running?.url ?? '',
      pid: this.#running?.pid ?? null,
      runningCount: load?.runningCount ?? 0,
      waitingCount: load?.waitingCount ?? 0,
      kvUsedShare: load?.kvUsedShare ?? 0,
      kvTokens,
      maxModelLen,
      failure: this.#failure,
    };
  }

  /** Brings the process up, parked. Also revives an engine that failed. */
  start(): Promise<void> {
    return this.#perform('start', async (signal) => {
      if (this.#running && this.#state !== 'failed') return;
      const { spec, clock, costs, ledger } = this.#parts;
      const deadline = clock.nowSeconds() + costs.newProcessSeconds;
      ledger.take(spec.id, parkedBytesByGpu(spec.gpus, costs.parkedBytesPerLayout), `the parked layout ${spec.id}`);
      this.#failure = null;
      this.#enter('starting');
      try {
        this.#running = await this.#parts.launch((why) => this.#died(why));
        await clock.delayUntil(deadline, signal);
      } catch (error) {
        if (this.#failure === null) {
          await this.#end();
          if (!signal.aborted) this.#fail(error instanceof Error ? error.message : String(error));
        }
        throw error;
      }
      this.#enter('parked');
    });
  }

  wake(): Promise<void> {
    return this.#perform('wake', async (signal) => {
      if (AWAKE.includes(this.#state) && this.#woken) return;
      this.#mustBe(['parked'], 'wake', 'Create it, or park it, first.');
      const { spec, clock, costs, ledger, awakeBytes } = this.#parts;
      const deadline = clock.nowSeconds() + costs.wakeSeconds;
      ledger.take(spec.id, awakeBytes, `weights and KV cache of ${spec.id}`);
      this.#enter('waking');
      await clock.delayUntil(deadline, signal);
      this.#woken = true;
    });
  }

  fill(fill: Fill): Promise<void> {
    return this.#perform('fill', async (signal) => {
      if (this.holdsWeights) return;
      this.#mustBe(['waking'], 'fill', 'Wake it first.');
      await this.#parts.clock.delay(fill.seconds, signal);
      this.#verified = false;
      this.#enter('filled');
    });
  }

  verify(): Promise<void> {
    return this.#perform('verify', async (signal) => {
      this.#mustBe(['filled', 'serving', 'draining'], 'verify', 'Fill it first.');
      if (this.#verified) return;
      await this.#parts.clock.delay(this.#parts.costs.verifySeconds, signal);
      this.#verified = true;
    });
  }

  /** Lets requests in; also takes a `drain` back. */
  admit(): Promise<void> {
    return this.#perform('admit', async () => {
      if (this.#state === 'serving') return;
      this.#mustBe(['filled', 'draining'], 'admit', 'Wake, fill and verify it first.');
      if (!this.#verified) throw wrongState(`Engine ${this.spec.id} is not verified.`, 'Call verify before admit.');
      await this.#process().setAdmitting(true);
      this.#enter('serving');
    });
  }

  /** Lets no new request in; the running ones go on. */
  drain(): Promise<void> {
    return this.#perform('drain', async () => {
      if (this.#state === 'parked' || this.#state === 'draining') return;
      this.#mustBe(['serving'], 'drain', 'Only an engine that serves can drain.');
      await this.#process().setAdmitting(false);
      this.#enter('draining');
    });
  }

  /** Gives weights and KV cache back; requests that still run are ended with `abort`. */
  park(): Promise<void> {
    return this.#perform('park', async (signal) => {
      if (this.#state === 'parked') return;
      this.#mustBe(['waking', 'filled', 'draining'], 'park', 'Drain it first.');
      const { spec, clock, costs, ledger } = this.#parts;
      const deadline = clock.nowSeconds() + costs.parkSeconds;
      await this.#process().abortAll();
      this.#woken = false;
      this.#verified = false;
      await clock.delayUntil(deadline, signal);
      ledger.take(spec.id, parkedBytesByGpu(spec.gpus, costs.parkedBytesPerLayout), `the parked layout ${spec.id}`);
      this.#enter('parked');
    });
  }

  /** Ends the process and gives all memory back. */
  release(): Promise<void> {
    return this.#perform('release', async () => {
      await this.#end();
      this.#parts.events.add(this.spec.id, 'released', this.#state);
    });
  }

  /** The engine is lost with its GPU: as if its process had died. */
  async kill(why: string): Promise<void> {
    const running = this.#running;
    this.#died(why);
    await running?.stop();
  }

  async #perform(action: Action, work: (signal: AbortSignal) => Promise<void>): Promise<void> {
    for (let current = this.#underWay; current; current = this.#underWay) {
      if (current.action === action) return current.done;
      if (CUTS[action]?.includes(current.action)) {
        current.abort.abort(new EngineError(`"${current.action}" of ${this.spec.id} was cut short by "${action}".`));
      }
      await current.done.catch(() => {}); // whoever called that action hears of its error
    }
    const abort = new AbortController();
    const done = work(abort.signal);
    this.#underWay = { action, done, abort };
    try {
      await done;
    } finally {
      this.#underWay = null;
    }
  }

  #enter(state: EngineState): void {
    if (this.#state === state && state !== 'starting') return;
    this.#state = state;
    this.#parts.events.add(this.spec.id, state === 'starting' ? 'created' : 'state', state);
  }

  #mustBe(allowed: readonly EngineState[], action: Action, hint: string): void {
    if (!allowed.includes(this.#state)) {
      throw wrongState(`Engine ${this.spec.id} is ${this.#state}: it cannot ${action}.`, hint);
    }
  }

  #process(): RunningEngine {
    if (!this.#running) throw new EngineError(`Engine ${this.spec.id} does not run.`);
    return this.#running;
  }

  async #end(): Promise<void> {
    const running = this.#running;
    this.#running = null;
    await running?.stop();
    this.#parts.ledger.free(this.spec.id);
  }

  #died(why: string): void {
    this.#running = null;
    this.#parts.ledger.free(this.spec.id);
    this.#fail(why);
    this.#underWay?.abort.abort(new EngineError(`Engine ${this.spec.id} died: ${why}.`));
  }

  #fail(why: string): void {
    this.#woken = false;
    this.#verified = false;
    this.#failure = why;
    this.#state = 'failed';
    this.#parts.events.add(this.spec.id, 'died', why);
  }
}
