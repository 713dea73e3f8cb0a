// The replicas of a simulated pool: engines in slots, the heap of their next events, and the load that a router sees.
import {
  classKey,
  type EngineOptions,
  gpuKind,
  gpusOf,
  invariant,
  type ModelSpec,
  type PlacedReplica,
  type ReplicaState,
  replicaMemory,
  type StepTimeOf,
} from '../domain/index.ts';
import { BinaryHeap } from '../math/index.ts';
import { ReplicaEngine, type TokenSink } from '../replica/index.ts';

/** A replica that a router may choose. */
export interface RoutableReplica {
  readonly id: string;
  readonly classKey: string;
  readonly model: string;
  readonly gpuCount: number;
  readonly maxModelLen: number;
  readonly kvTokens: number;
}

export interface SimulatedReplica extends RoutableReplica {
  readonly placed: PlacedReplica;
  readonly engine: ReplicaEngine;
  state: ReplicaState;
}

export interface ReplicaFactory {
  readonly models: readonly ModelSpec[];
  readonly engine: EngineOptions;
  readonly stepTimeOf: StepTimeOf;
  /** What parked layouts hold on each GPU. */
  readonly parkedBytes: number;
}

export class SimulatedReplicas {
  readonly #factory: ReplicaFactory;
  /** Slots are never used twice; a replica that left stays as null. */
  readonly #slots: (SimulatedReplica | null)[] = [];
  readonly #slotOf = new Map<string, number>();
  readonly #events = new BinaryHeap();

  constructor(factory: ReplicaFactory) {
    this.#factory = factory;
  }

  /** Puts an empty replica into a new slot. */
  add(placed: PlacedReplica, state: ReplicaState): number {
    const { models, engine, stepTimeOf, parkedBytes } = this.#factory;
    const model = models.find((candidate) => candidate.name === placed.model);
    invariant(model, `model ${placed.model} is known`);
    const memory = replicaMemory(model, placed.strategy, gpuKind(placed.gpuKind), engine, parkedBytes);
    invariant(memory.kvBlocks > 0, `${placed.id} has room for a KV cache`);
    const slot = this.#slots.length;
    this.#slots.push({
      id: placed.id,
      classKey: classKey(placed),
      model: placed.model,
      gpuCount: gpusOf(placed.strategy),
      maxModelLen: memory.maxModelLen,
      kvTokens: memory.kvTokens,
      placed,
      state,
      engine: new ReplicaEngine({
        stepTime: stepTimeOf(placed, placed.id),
        pipelineParallel: placed.strategy.pipelineParallel,
        kvBlocks: memory.kvBlocks,
        engine,
      }),
    });
    this.#slotOf.set(placed.id, slot);
    return slot;
  }

  remove(slot: number): void {
    this.#slotOf.delete(this.at(slot).id);
    this.#slots[slot] = null;
    this.#events.remove(slot);
  }

  at(slot: number): SimulatedReplica {
    const replica = this.#slots[slot];
    invariant(replica, `slot ${slot} holds a replica`);
    return replica;
  }

  /** Slot of a replica that is there, or -1. */
  slotOf(id: string): number {
    return this.#slotOf.get(id) ?? -1;
  }

  /** Slots in use, in the order in which the replicas came. */
  slots(): number[] {
    return [...this.#slotOf.values()];
  }

  nextEventSeconds(): number {
    return this.#events.peekKey();
  }

  /** Lives through the next event of whichever replica has it; ties go to the replica that came first. */
  step(sink: TokenSink): number {
    const slot = this.#events.peek();
    const { engine } = this.at(slot);
    engine.advance(this.#events.peekKey(), sink);
    this.touch(slot);
    return slot;
  }

  /** To be called after anything that may change when the replica's next event is. */
  touch(slot: number): void {
    const next = this.at(slot).engine.nextEventSeconds();
    if (next === Number.POSITIVE_INFINITY) this.#events.remove(slot);
    else this.#events.set(slot, next, slot);
  }
}
