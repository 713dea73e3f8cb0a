// Carries a switch plan out, step by step, as a pure state machine: it says which steps may start now and is told how
// they ended. The simulated fleet runs it on virtual time, the live executor on the wall clock; a journal stores it as
// JSON before each step and continues it after a crash. When a step fails, nothing new starts, what runs may end, and
// the components that are half-way are rolled back (rollback.ts); components that are finished stay as they are.
import { invariant, type PlacedReplica, type ReplicaId, type SwitchPlan, type SwitchStep } from '../domain/index.ts';
import { componentsOf } from './components.ts';
import { rollBackSteps } from './rollback.ts';

export type StepState = 'pending' | 'running' | 'done' | 'failed' | 'skipped';
export type SwitchOutcome = 'done' | 'rolled-back' | 'failed';

/**
 * Where a replica of the switch stands. The -ing forms say that a step was started and has not (yet) succeeded, so
 * that its effect may or may not be there.
 */
export type ReplicaCondition =
  | 'absent'
  | 'creating'
  | 'parked'
  | 'awake'
  | 'admitting'
  | 'serving'
  | 'draining'
  | 'parking'
  | 'releasing';

/** Everything that a journal has to keep. Plain data. */
export interface SwitchExecutionState {
  readonly plan: SwitchPlan;
  /** The plan's steps, then those of the roll-back. */
  readonly steps: readonly SwitchStep[];
  readonly states: readonly StepState[];
  readonly conditions: Readonly<Record<string, ReplicaCondition>>;
  readonly phase: 'forward' | 'stopping' | 'rolling-back' | 'ended';
  readonly outcome: SwitchOutcome | null;
  readonly why: string;
}

export class SwitchExecution {
  readonly plan: SwitchPlan;
  #steps: SwitchStep[];
  #states: StepState[];
  #conditions: Map<string, ReplicaCondition>;
  #phase: SwitchExecutionState['phase'] = 'forward';
  #outcome: SwitchOutcome | null = null;
  #why = '';
  /** Some replica could not be brought back. */
  #broken = false;

  /**
   * @param journalled - where an execution of this plan stood, see {@link SwitchExecution.fromJSON}.
   */
  constructor(plan: SwitchPlan, journalled?: SwitchExecutionState) {
    this.plan = plan;
    this.#steps = [...(journalled?.steps ?? plan.steps)];
    this.#states = this.#steps.map(() => 'pending');
    this.#conditions = initialConditions(plan);
    if (journalled) this.#continueFrom(journalled);
    this.#settle();
  }

  /** All steps by index: the plan's, then those that a roll-back has added. */
  get steps(): readonly SwitchStep[] {
    return this.#steps;
  }

  get states(): readonly StepState[] {
    return this.#states;
  }

  get done(): boolean {
    return this.#phase === 'ended';
  }

  /** How it ended; null while it goes on. */
  get outcome(): SwitchOutcome | null {
    return this.#outcome;
  }

  /** Whether what is ready now belongs to a roll-back. */
  get rollingBack(): boolean {
    return this.#phase === 'stopping' || this.#phase === 'rolling-back';
  }

  /** What went wrong first; empty when nothing did. */
  get why(): string {
    return this.#why;
  }

  conditionOf(replica: ReplicaId): ReplicaCondition | 'kept' {
    return this.#conditions.get(replica) ?? 'kept';
  }

  /** The replicas that serve now: what stands when the switch is over, whatever its outcome. */
  deployment(): readonly PlacedReplica[] {
    const kept = this.plan.to.filter(({ id }) => this.plan.kept.includes(id));
    const moved = [...this.plan.leaving, ...this.plan.arriving.map(({ replica }) => replica)];
    return [...kept, ...moved.filter(({ id }) => this.#conditions.get(id) === 'serving')];
  }

  /** Indices of the steps that may start now, smallest first. */
  ready(): number[] {
    if (this.#phase === 'ended' || this.#phase === 'stopping') return [];
    const ready: number[] = [];
    for (let i = 0; i < this.#steps.length; i++) {
      if (this.#states[i] === 'pending' && this.#steps[i]!.after.every((before) => this.#hasEnded(before))) {
        ready.push(i);
      }
    }
    return ready;
  }

  started(index: number): void {
    invariant(this.ready().includes(index), `step ${index} of switch ${this.plan.id} may start`);
    this.#states[index] = 'running';
    const { replica, action } = this.#steps[index]!;
    this.#conditions.set(replica, conditionDuring(action, this.#conditions.get(replica) ?? 'absent'));
  }

  succeeded(index: number): void {
    invariant(this.#states[index] === 'running', `step ${index} of switch ${this.plan.id} runs`);
    this.#states[index] = 'done';
    const { replica, action } = this.#steps[index]!;
    this.#conditions.set(replica, conditionAfter(action));
    this.#settle();
  }

  /** A step failed: forward, the roll-back begins; in the roll-back, the replica is given up and put away. */
  failed(index: number, why: string): void {
    invariant(this.#states[index] === 'running', `step ${index} of switch ${this.plan.id} runs`);
    this.#states[index] = 'failed';
    const { replica, action } = this.#steps[index]!;
    if (this.#why === '') this.#why = `${action} of ${replica} failed: ${why}`;
    if (this.#phase === 'rolling-back') this.#giveUp(index);
    else this.#phase = 'stopping';
    this.#settle();
  }

  /** Stops the switch from outside; what is half-way is rolled back. No effect once a roll-back has begun. */
  abort(why: string): void {
    if (this.#phase !== 'forward') return;
    this.#why = why;
    this.#phase = 'stopping';
    this.#settle();
  }

  toJSON(): SwitchExecutionState {
    return {
      plan: this.plan,
      steps: this.#steps,
      states: this.#states,
      conditions: Object.fromEntries(this.#conditions),
      phase: this.#phase,
      outcome: this.#outcome,
      why: this.#why,
    };
  }

  /**
   * Continues from a journal. Steps that ran when the journal was written are started again (every action is
   * idempotent), except when the switch was stopping: then the roll-back begins at once.
   */
  static fromJSON(state: SwitchExecutionState): SwitchExecution {
    return new SwitchExecution(state.plan, state);
  }

  #continueFrom(state: SwitchExecutionState): void {
    const interrupted: StepState = state.phase === 'stopping' ? 'failed' : 'pending';
    this.#states = state.states.map((each) => (each === 'running' ? interrupted : each));
    this.#conditions = new Map(Object.entries(state.conditions));
    this.#phase = state.phase;
    this.#outcome = state.outcome;
    this.#why = state.why;
    this.#broken = state.states.some(
      (each, i) => each === 'failed' && i >= state.plan.steps.length && state.steps[i]!.action !== 'drain',
    );
  }

  /** Forward, a step needs success before it; in a roll-back it is enough that the step before it has ended. */
  #hasEnded(index: number): boolean {
    const state = this.#states[index];
    return state === 'done' || (index >= this.plan.steps.length && (state === 'failed' || state === 'skipped'));
  }

  /** Moves to the next phase when nothing of the present one is left. */
  #settle(): void {
    if (this.#phase === 'stopping' && !this.#states.includes('running')) {
      this.#phase = 'rolling-back';
      for (let i = 0; i < this.#states.length; i++) if (this.#states[i] === 'pending') this.#states[i] = 'skipped';
      this.#append(rollBackSteps(this.plan, this.#halfWay(), (id) => this.#conditions.get(id) ?? 'absent'));
    }
    if (this.#phase === 'ended' || this.#states.some((state) => state === 'pending' || state === 'running')) return;
    this.#outcome = this.#phase === 'forward' ? 'done' : this.#broken ? 'failed' : 'rolled-back';
    this.#phase = 'ended';
  }

  /** Replicas of the components in which something was started and something is not done. */
  #halfWay(): { leaving: PlacedReplica[]; arriving: PlacedReplica[] }[] {
    const arriving = this.plan.arriving.map(({ replica }) => replica);
    const initial = initialConditions(this.plan);
    return componentsOf(this.plan.leaving, arriving)
      .map((component) => ({
        leaving: component.leaving.map((i) => this.plan.leaving[i]!),
        arriving: component.arriving.map((i) => arriving[i]!),
      }))
      .filter((component) => {
        const ids = new Set([...component.leaving, ...component.arriving].map(({ id }) => id));
        const states = this.plan.steps.flatMap(({ replica }, i) => (ids.has(replica) ? [this.#states[i]] : []));
        // A step that ran during a crash counts as not started, but its replica may be elsewhere already.
        const touched = [...ids].some((id) => this.#conditions.get(id) !== initial.get(id));
        return (touched || states.some((state) => state !== 'skipped')) && states.some((state) => state !== 'done');
      });
  }

  #append(steps: readonly SwitchStep[]): number {
    const first = this.#steps.length;
    for (const step of steps) {
      this.#steps.push({ ...step, after: step.after.map((index) => index + first) });
      this.#states.push('pending');
    }
    return first;
  }

  /**
   * A step of the roll-back failed. A drain that fails is no loss: parking comes next. Otherwise the replica is put
   * away: parked, and where that fails, released; what was still to be done with it is skipped.
   */
  #giveUp(index: number): void {
    const { replica, action } = this.#steps[index]!;
    if (action === 'drain') return;
    this.#broken = true;
    for (let i = this.plan.steps.length; i < this.#steps.length; i++) {
      if (this.#states[i] === 'pending' && this.#steps[i]!.replica === replica) this.#states[i] = 'skipped';
    }
    if (action === 'release') {
      this.#conditions.set(replica, 'absent'); // not even its end was confirmed: nothing of it is relied on any more
      return;
    }
    const last = this.#append([
      { replica, action: action === 'park' ? 'release' : 'park', seconds: 0, after: [], bytes: 0 },
    ]);
    // Whoever waited for the failed step waits for its substitute as well: it is what frees the memory.
    for (let i = this.plan.steps.length; i < last; i++) {
      const step = this.#steps[i]!;
      if (step.after.includes(index)) this.#steps[i] = { ...step, after: [...step.after, last] };
    }
  }
}

function initialConditions(plan: SwitchPlan): Map<string, ReplicaCondition> {
  const conditions = new Map<string, ReplicaCondition>();
  for (const { id } of plan.leaving) {
    // A replica that is not to be drained is dead already (its GPU is lost).
    const lives = plan.steps.some(({ replica, action }) => replica === id && action === 'drain');
    conditions.set(id, lives ? 'serving' : 'absent');
  }
  for (const { replica, rung } of plan.arriving) {
    conditions.set(replica.id, rung === 'wake' || rung === 'parked-fill' ? 'parked' : 'absent');
  }
  return conditions;
}

function conditionDuring(action: SwitchStep['action'], before: ReplicaCondition): ReplicaCondition {
  switch (action) {
    case 'create':
      return 'creating';
    case 'wake':
    case 'fill':
    case 'verify':
      return 'awake';
    case 'admit':
      return before === 'draining' ? 'draining' : 'admitting';
    case 'drain':
      return 'draining';
    case 'park':
      return 'parking';
    case 'release':
      return 'releasing';
  }
}

function conditionAfter(action: SwitchStep['action']): ReplicaCondition {
  switch (action) {
    case 'create':
    case 'park':
      return 'parked';
    case 'wake':
    case 'fill':
    case 'verify':
      return 'awake';
    case 'admit':
      return 'serving';
    case 'drain':
      return 'draining';
    case 'release':
      return 'absent';
  }
}
