// Carries switch plans out in virtual time, with the state machine that the live executor uses too.
import { invariant, type PlacedReplica, type Random, type SwitchPlan, type SwitchStep } from '../domain/index.ts';
import { SwitchExecution } from '../switching/index.ts';
import type { SimulatedReplicas } from './simulated-replicas.ts';

export interface EndedSwitch {
  readonly id: string;
  readonly outcome: 'done' | 'rolled-back' | 'failed';
  readonly seconds: number;
  readonly why: string;
}

export interface SimulatedSwitchOptions {
  readonly replicas: SimulatedReplicas;
  readonly drainSeconds: number;
  readonly random: Random;
  readonly stepOutcome: (
    step: SwitchStep,
    random: Random,
  ) => { readonly seconds: number; readonly failure: string | null };
  /** Replicas take requests, or no longer do. */
  readonly servingChanged: () => void;
  /** Sends what still runs on a draining replica elsewhere. */
  readonly moveOut: (slot: number) => void;
}

interface RunningStep {
  readonly index: number;
  readonly endSeconds: number;
  readonly failure: string | null;
}

export class SimulatedSwitch {
  readonly ended: EndedSwitch[] = [];
  readonly #options: SimulatedSwitchOptions;
  #execution: SwitchExecution | null = null;
  #startedSeconds = 0;
  /** Few at a time; the earliest first, then the smallest index. */
  #running: RunningStep[] = [];
  /** Which step drains the replica in a slot. */
  readonly #draining = new Map<number, number>();

  constructor(options: SimulatedSwitchOptions) {
    this.#options = options;
  }

  /** Id of the switch under way, or null. */
  get current(): string | null {
    return this.#execution?.plan.id ?? null;
  }

  nextSeconds(): number {
    return this.#running[0]?.endSeconds ?? Number.POSITIVE_INFINITY;
  }

  start(plan: SwitchPlan, nowSeconds: number): void {
    invariant(this.#execution === null, 'one switch at a time');
    this.#execution = new SwitchExecution(plan);
    this.#startedSeconds = nowSeconds;
    this.#pump(nowSeconds);
  }

  /** The earliest step under way ends. */
  step(nowSeconds: number): void {
    const { index, failure } = this.#running.shift()!;
    this.#end(index, failure);
    this.#pump(nowSeconds);
  }

  /** A draining replica may have become empty: its drain ends early. */
  drainedMaybe(slot: number, nowSeconds: number): void {
    const index = this.#draining.get(slot);
    if (index === undefined || !this.#isEmpty(slot)) return;
    this.#running = this.#running.filter((step) => step.index !== index);
    this.#end(index, null);
    this.#pump(nowSeconds);
  }

  #pump(nowSeconds: number): void {
    const execution = this.#execution;
    if (!execution) return;
    // Steps that end at once make others ready.
    for (let ready = execution.ready(); ready.length > 0; ready = execution.ready()) {
      for (const index of ready) this.#begin(index, nowSeconds);
    }
    if (!execution.done) return;
    this.#execution = null;
    this.ended.push({
      id: execution.plan.id,
      outcome: execution.outcome ?? 'failed',
      seconds: nowSeconds - this.#startedSeconds,
      why: execution.why,
    });
    // Without a switch, requests that fit nowhere need not wait any longer.
    this.#options.servingChanged();
  }

  #begin(index: number, nowSeconds: number): void {
    const execution = this.#execution!;
    const step = execution.steps[index]!;
    const { replicas, random, stepOutcome, drainSeconds, servingChanged } = this.#options;
    execution.started(index);
    if (step.action === 'drain') {
      const slot = replicas.slotOf(step.replica);
      invariant(slot >= 0, `${step.replica} is there to drain`);
      replicas.at(slot).state = 'draining';
      servingChanged();
      if (this.#isEmpty(slot)) this.#end(index, null);
      else {
        this.#draining.set(slot, index);
        this.#schedule({ index, endSeconds: nowSeconds + drainSeconds, failure: null });
      }
      return;
    }
    const { seconds, failure } = stepOutcome(step, random.fork(`${execution.plan.id} ${index}`));
    if (seconds === 0 && failure === null) this.#end(index, null);
    else this.#schedule({ index, endSeconds: nowSeconds + seconds, failure });
  }

  #schedule(step: RunningStep): void {
    this.#running.push(step);
    this.#running.sort((a, b) => a.endSeconds - b.endSeconds || a.index - b.index);
  }

  #end(index: number, failure: string | null): void {
    const execution = this.#execution!;
    if (failure !== null) {
      execution.failed(index, failure);
      return;
    }
    this.#effect(execution.steps[index]!);
    execution.succeeded(index);
  }

  #effect(step: SwitchStep): void {
    const { replicas, moveOut, servingChanged } = this.#options;
    const slot = replicas.slotOf(step.replica);
    switch (step.action) {
      case 'drain':
        this.#draining.delete(slot);
        if (!this.#isEmpty(slot)) moveOut(slot);
        return;
      case 'park':
      case 'release':
        if (slot >= 0) replicas.remove(slot);
        return;
      case 'admit':
        if (slot < 0) replicas.add(this.#placed(step), 'serving');
        else replicas.at(slot).state = 'serving';
        servingChanged();
        return;
      default:
        return; // the others only take time
    }
  }

  #placed(step: SwitchStep): PlacedReplica {
    const { from, to } = this.#execution!.plan;
    const placed = [...to, ...from].find((replica) => replica.id === step.replica);
    invariant(placed, `${step.replica} belongs to the switch`);
    return placed;
  }

  #isEmpty(slot: number): boolean {
    const { engine } = this.#options.replicas.at(slot);
    return engine.runningCount + engine.waitingCount === 0;
  }
}
