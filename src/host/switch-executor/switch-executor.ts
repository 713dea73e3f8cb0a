// Carries switch plans out on a live pool, beside the control loop. The order of steps is core/switching's
// (SwitchExecution); here each step becomes calls to agents and gateway. Before anything is done, the state that says so
// is in the journal, and every action may be repeated: a process that is killed at any point leaves a state from which
// the next one goes on, or rolls back.
import {
  invariant,
  type Observation,
  type PlacedDeployment,
  type PlacedReplica,
  type RoutingTable,
  SwitchError,
  type SwitchPlan,
  type SwitchStep,
} from '../../core/domain/index.ts';
import { SwitchExecution, type SwitchExecutionState } from '../../core/switching/index.ts';
import { type ReplicaActions, type RoutingPublisher, type SwitchRunner, sharesGpus } from '../live/index.ts';

/** Where switches are written down, synchronously: on disk when the call returns. */
export interface SwitchJournal {
  /** @param progress.note - for people: `fill r7 started`. */
  switchStep(progress: {
    readonly state: SwitchExecutionState;
    readonly atSeconds: number;
    readonly note: string;
  }): void;
  /** The newest switch of this pool, ended or not; null when there was none. */
  lastSwitch(): { readonly openedSeconds: number; readonly state: SwitchExecutionState } | null;
}

export type SwitchEvent =
  | { readonly kind: 'started' | 'resumed'; readonly plan: SwitchPlan }
  | { readonly kind: 'step'; readonly plan: SwitchPlan; readonly step: SwitchStep; readonly seconds: number }
  | { readonly kind: 'step-failed'; readonly plan: SwitchPlan; readonly step: SwitchStep; readonly why: string }
  | { readonly kind: 'moved'; readonly plan: SwitchPlan; readonly step: SwitchStep; readonly requests: number }
  | {
      readonly kind: 'ended';
      readonly plan: SwitchPlan;
      readonly outcome: 'done' | 'rolled-back' | 'failed';
      readonly seconds: number;
      readonly why: string;
    }
  | { readonly kind: 'journal-failed'; readonly plan: SwitchPlan; readonly why: string };

export interface SwitchExecutorOptions {
  readonly actions: ReplicaActions;
  readonly publisher: RoutingPublisher;
  readonly journal: SwitchJournal;
  readonly nowSeconds: () => number;
  /** Called once before the first step: resolves when nobody else is working on replicas of these GPUs. */
  readonly exclusive: (gpus: ReadonlySet<number>) => Promise<void>;
  /** The deployment that stands from now on. */
  readonly onDeployment: (deployment: PlacedDeployment) => void;
  readonly onEvent?: (event: SwitchEvent) => void;
}

export class SwitchExecutor implements SwitchRunner {
  readonly #options: SwitchExecutorOptions;
  #running: { readonly plan: SwitchPlan; readonly gpus: ReadonlySet<number>; readonly ended: Promise<void> } | null =
    null;
  #ended: Observation['switchEnded'] = null;
  /** No switch of this pool was made by a process before this one. */
  readonly #isFirst: boolean;

  constructor(options: SwitchExecutorOptions) {
    this.#options = options;
    this.#isFirst = options.journal.lastSwitch() === null;
  }

  get current(): string | null {
    return this.#running?.plan.id ?? null;
  }

  get gpus(): ReadonlySet<number> {
    return this.#running?.gpus ?? new Set();
  }

  takeEnded(): Observation['switchEnded'] {
    const ended = this.#ended;
    this.#ended = null;
    return ended;
  }

  /** Resolves when no switch is under way. */
  async idle(): Promise<void> {
    await this.#running?.ended;
  }

  start(planned: SwitchPlan, routing: RoutingTable): void {
    if (this.#running) {
      throw new SwitchError(`Switch ${planned.id} cannot start: ${this.#running.plan.id} is still under way.`);
    }
    const startedAtSeconds = this.#options.nowSeconds();
    // A controller that was restarted counts its switches from 1 again; the journal wants each id once.
    const plan = this.#isFirst ? planned : { ...planned, id: `${planned.id}@${Math.floor(startedAtSeconds)}` };
    const execution = new SwitchExecution(plan);
    try {
      this.#options.journal.switchStep({ state: execution.toJSON(), atSeconds: startedAtSeconds, note: 'planned' });
    } catch (error) {
      throw new SwitchError(`Switch ${plan.id} cannot be written to the journal, so it is not started.`, {
        hint: 'Free space on the disk that holds the state directory.',
        cause: error,
      });
    }
    this.#options.onEvent?.({ kind: 'started', plan });
    this.#launch(execution, routing, startedAtSeconds);
  }

  /**
   * Takes up what the process before this one left: goes on with a switch that had not ended.
   *
   * @param routing - table for the replicas that arrive; null when it is not known any more, then the present one stays.
   * @returns the deployment that stands after the newest switch; null when there was none.
   */
  resume(routing: RoutingTable | null): PlacedDeployment | null {
    const last = this.#options.journal.lastSwitch();
    if (!last) return null;
    const execution = SwitchExecution.fromJSON(last.state);
    if (!execution.done) {
      this.#options.onEvent?.({ kind: 'resumed', plan: execution.plan });
      this.#launch(execution, routing, last.openedSeconds);
    }
    return deploymentAfter(execution);
  }

  #launch(execution: SwitchExecution, routing: RoutingTable | null, startedAtSeconds: number): void {
    const { plan } = execution;
    const gpus = new Set([...plan.leaving, ...plan.arriving.map(({ replica }) => replica)].flatMap((r) => r.gpus));
    // Deferred by one turn, so that `current` is set before the first step looks at it.
    const ended = Promise.resolve().then(() => this.#run(execution, routing, startedAtSeconds));
    this.#running = { plan, gpus, ended };
  }

  /** Never rejects: whatever goes wrong becomes the outcome of a step. */
  async #run(execution: SwitchExecution, routing: RoutingTable | null, startedAtSeconds: number): Promise<void> {
    const { exclusive, nowSeconds, onDeployment, onEvent } = this.#options;
    const { plan } = execution;
    await exclusive(this.gpus);
    const underWay = new Map<number, Promise<number>>();
    while (!execution.done) {
      const ready = execution.ready();
      for (const index of ready) execution.started(index);
      // Before acting: what is on disk may say that a step began that did not, never the other way round.
      if (ready.length > 0) this.#save(execution, ready.map((index) => sentence(execution.steps[index]!)).join(', '));
      for (const index of ready) underWay.set(index, this.#carryOut(execution, index, routing));
      invariant(underWay.size > 0, `switch ${plan.id} has a step to wait for`);
      underWay.delete(await Promise.race(underWay.values()));
    }
    const outcome = execution.outcome;
    invariant(outcome !== null, 'a switch that is done has an outcome');
    if (outcome === 'done' && routing) this.#useTable(routing);
    onDeployment(deploymentAfter(execution));
    this.#save(execution, outcome === 'done' ? 'done' : `${outcome}: ${execution.why}`);
    const seconds = nowSeconds() - startedAtSeconds;
    this.#ended = { id: plan.id, outcome, seconds, why: execution.why };
    this.#running = null;
    onEvent?.({ kind: 'ended', plan, outcome, seconds, why: execution.why });
  }

  /** One step, told to the execution; resolves to its index. */
  async #carryOut(execution: SwitchExecution, index: number, routing: RoutingTable | null): Promise<number> {
    const { nowSeconds, onEvent } = this.#options;
    const { plan } = execution;
    const step = execution.steps[index]!;
    const startSeconds = nowSeconds();
    try {
      await this.#perform(plan, step, execution.rollingBack ? null : routing);
      execution.succeeded(index);
      onEvent?.({ kind: 'step', plan, step, seconds: nowSeconds() - startSeconds });
    } catch (error) {
      const why = (error as Error).message;
      execution.failed(index, why);
      onEvent?.({ kind: 'step-failed', plan, step, why });
    }
    return index;
  }

  /** @param routing - table for the replicas that arrive; null in a roll-back, where the old one stays. */
  async #perform(plan: SwitchPlan, step: SwitchStep, routing: RoutingTable | null): Promise<void> {
    const { actions, onEvent } = this.#options;
    const replica = replicaOf(plan, step);
    switch (step.action) {
      case 'drain': {
        const requests = await actions.drain(replica);
        if (requests > 0) onEvent?.({ kind: 'moved', plan, step, requests });
        return;
      }
      case 'park':
        return actions.park(replica);
      case 'release':
        return actions.release(replica);
      case 'create':
        await actions.create(replica);
        return;
      case 'wake':
        return actions.wake(replica);
      case 'fill':
        return actions.fill(replica, step.source ?? 'host', step.bytes, step.seconds);
      case 'verify':
        return actions.verify(replica);
      case 'admit':
        if (routing) this.#useTable(routing);
        return actions.admit(replica);
    }
  }

  /** A fast tick may have sent a newer table meanwhile: that one stays. */
  #useTable(routing: RoutingTable): void {
    const { publisher } = this.#options;
    if ((publisher.table?.version ?? -1) <= routing.version) publisher.setTable(routing);
  }

  /**
   * In the middle of a switch a journal that fails does not stop it: standing still with half of the pool drained would
   * be worse, and an older state on disk only means that steps are repeated after a crash.
   */
  #save(execution: SwitchExecution, note: string): void {
    const { journal, nowSeconds, onEvent } = this.#options;
    try {
      journal.switchStep({ state: execution.toJSON(), atSeconds: nowSeconds(), note });
    } catch (error) {
      onEvent?.({ kind: 'journal-failed', plan: execution.plan, why: (error as Error).message });
    }
  }
}

function replicaOf(plan: SwitchPlan, { replica: id, action }: SwitchStep): PlacedReplica {
  const replica =
    plan.leaving.find((candidate) => candidate.id === id) ??
    plan.arriving.find((candidate) => candidate.replica.id === id)?.replica;
  invariant(replica, `step ${action} of switch ${plan.id} is about a replica that leaves or arrives`);
  return replica;
}

const sentence = ({ action, replica }: SwitchStep): string => `${action} ${replica}`;

/**
 * What should serve after a switch: what does, and, where a roll-back could not bring a replica back, that replica: its
 * GPUs must not stay idle, and repairing it is the reconciler's work.
 */
function deploymentAfter(execution: SwitchExecution): PlacedDeployment {
  const serving = execution.deployment();
  const missing = execution.plan.leaving.filter(
    (replica) => execution.outcome !== 'done' && serving.every((other) => !sharesGpus(other.gpus, replica.gpus)),
  );
  return [...serving, ...missing];
}
