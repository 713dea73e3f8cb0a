// An emulated node agent: the GPUs of one node, the engines on them, and what the fleet protocol may do to them.
import {
  type GpuKind,
  gpuKind,
  gpusOf,
  InfeasibleError,
  illegalBecause,
  type ModelSpec,
  OserveError,
  type ReplicaMemory,
  replicaMemory,
} from '../core/domain/index.ts';
import { shardBoxes } from '../core/switching/index.ts';
import type { PoolClock } from '../host/index.ts';
import type { CreateEngine, EngineInfo, Fill, Inventory, Manifest } from '../wire/index.ts';
import type { LaunchEngine } from './engine-control.ts';
import { EventLog } from './event-log.ts';
import { ManagedEngine } from './managed-engine.ts';
import { awakeBytesByGpu, MemoryLedger } from './memory-ledger.ts';
import type { AgentOptions } from './options.ts';

const refusal = (code: string, message: string, hint?: string) =>
  new OserveError(code, message, hint === undefined ? {} : { hint });

/** What was released is remembered, so that a repeated `release` is answered as the first one was. */
const REMEMBERED_RELEASES = 200;

export class Agent {
  readonly events: EventLog;
  readonly #options: AgentOptions;
  readonly #clock: PoolClock;
  readonly #launch: LaunchEngine;
  readonly #gpus: ReadonlyMap<number, GpuKind>;
  readonly #models: ReadonlyMap<string, ModelSpec>;
  readonly #ledger: MemoryLedger;
  readonly #engines = new Map<string, ManagedEngine>();
  readonly #released = new Map<string, EngineInfo>();
  readonly #lost = new Set<number>();

  constructor(options: AgentOptions, clock: PoolClock, launch: LaunchEngine) {
    this.#options = options;
    this.#clock = clock;
    this.#launch = launch;
    this.events = new EventLog(clock);
    this.#gpus = new Map(options.gpus.map(({ gpu, gpuKind: kind }) => [gpu, gpuKind(kind)]));
    this.#models = new Map(options.models.map((model) => [model.name, model]));
    this.#ledger = new MemoryLedger([...this.#gpus].map(([gpu, kind]) => ({ gpu, kind })));
  }

  async inventory(): Promise<Inventory> {
    const { agent, nodeIndex, speed } = this.#options;
    // Events up to this number are in the states below.
    const lastEvent = this.events.last;
    return {
      agent,
      nodeIndex,
      emulated: true,
      speed,
      gpus: [...this.#gpus].map(([gpu, kind]) => ({
        gpu,
        gpuKind: kind.name,
        memoryBytes: kind.memoryBytes,
        usedBytes: this.#ledger.usedBytes(gpu),
        lost: this.#lost.has(gpu),
      })),
      engines: await Promise.all([...this.#engines.values()].map((engine) => engine.info())),
      capabilities: { rungs: ['keep', 'parked-fill'], partialRelease: false, hostCache: true, kvTransfer: false },
      lastEvent,
    };
  }

  /** Brings an engine up, parked. The same id again: answers as it is, or revives it when it failed. */
  async create(spec: CreateEngine): Promise<EngineInfo> {
    const known = this.#engines.get(spec.id);
    if (known && !sameLayout(known.spec, spec)) {
      throw refusal(
        'engine_exists',
        `Engine ${spec.id} exists with another layout.`,
        'Release it, or take another id.',
      );
    }
    const { model, memory } = this.#check(spec);
    const engine = known ?? this.#manage(spec, model, memory);
    this.#engines.set(spec.id, engine);
    try {
      await engine.start();
    } catch (error) {
      // Refused before anything happened: it never existed. One that failed stays, and says why.
      if (!known && error instanceof InfeasibleError) this.#engines.delete(spec.id);
      throw error;
    }
    return engine.info();
  }

  wake(id: string): Promise<EngineInfo> {
    const engine = this.#engine(id);
    const lost = engine.spec.gpus.find((gpu) => this.#lost.has(gpu));
    if (lost !== undefined) throw refusal('gpu_lost', `GPU ${lost} of engine ${id} is lost.`);
    return this.#after(engine, engine.wake());
  }

  fill(id: string, fill: Fill): Promise<EngineInfo> {
    const engine = this.#engine(id);
    return this.#after(engine, engine.fill(fill));
  }

  verify(id: string): Promise<EngineInfo> {
    const engine = this.#engine(id);
    return this.#after(engine, engine.verify());
  }

  admit(id: string): Promise<EngineInfo> {
    const engine = this.#engine(id);
    return this.#after(engine, engine.admit());
  }

  drain(id: string): Promise<EngineInfo> {
    const engine = this.#engine(id);
    return this.#after(engine, engine.drain());
  }

  park(id: string, keepWeights = false): Promise<EngineInfo> {
    if (keepWeights) throw capabilityMissing('parking with weights (rung "wake")');
    const engine = this.#engine(id);
    return this.#after(engine, engine.park());
  }

  async release(id: string): Promise<EngineInfo> {
    const before = this.#released.get(id);
    if (!this.#engines.has(id) && before) return before;
    const engine = this.#engine(id);
    await engine.release();
    const info = await engine.info();
    if (this.#engines.get(id) === engine) this.#engines.delete(id);
    this.#released.set(id, info);
    const oldest = this.#released.keys().next();
    if (this.#released.size > REMEMBERED_RELEASES && !oldest.done) this.#released.delete(oldest.value);
    return info;
  }

  /** Which boxes of the checkpoint each rank holds now: none without weights. */
  manifest(id: string): Manifest {
    const engine = this.#engine(id);
    const { model, strategy, gpus } = engine.spec;
    const spec = this.#models.get(model)!;
    return {
      engine: id,
      ranks: gpus.map((gpu, rank) => ({
        gpu,
        boxes: engine.holdsWeights
          ? shardBoxes(spec, strategy, rank).map(({ tensor, start, shape, bytes }) => ({
              tensor,
              start: [...start],
              shape: [...shape],
              bytes,
            }))
          : [],
      })),
    };
  }

  /** Emulates the loss of a GPU: engines on it die, nothing can be created or woken there. */
  async loseGpu(gpu: number): Promise<void> {
    this.#knowGpu(gpu);
    this.#lost.add(gpu);
    const hit = [...this.#engines.values()].filter(({ spec, state }) => spec.gpus.includes(gpu) && state !== 'failed');
    await Promise.all(hit.map((engine) => engine.kill(`GPU ${gpu} is lost`)));
  }

  restoreGpu(gpu: number): void {
    this.#knowGpu(gpu);
    this.#lost.delete(gpu);
  }

  /** Ends all engines. */
  async close(): Promise<void> {
    this.events.close();
    await Promise.all([...this.#engines.values()].map((engine) => engine.release()));
    this.#engines.clear();
  }

  async #after(engine: ManagedEngine, action: Promise<void>): Promise<EngineInfo> {
    await action;
    return engine.info();
  }

  #engine(id: string): ManagedEngine {
    const engine = this.#engines.get(id);
    if (!engine) throw refusal('engine_unknown', `There is no engine ${id} on ${this.#options.agent}.`);
    return engine;
  }

  #knowGpu(gpu: number): GpuKind {
    const kind = this.#gpus.get(gpu);
    if (kind) return kind;
    const known = [...this.#gpus.keys()].join(', ');
    throw refusal('gpu_unknown', `GPU ${gpu} is not on ${this.#options.agent}.`, `Its GPUs are ${known}.`);
  }

  #check(spec: CreateEngine): { readonly model: ModelSpec; readonly memory: ReplicaMemory } {
    const { id, strategy, gpus } = spec;
    const model = this.#models.get(spec.model);
    if (!model) {
      const known = [...this.#models.keys()].join(', ');
      throw refusal(
        'model_unknown',
        `${this.#options.agent} has no model "${spec.model}".`,
        `Its models are ${known}.`,
      );
    }
    const illegal = illegalBecause(model, strategy);
    if (illegal) throw refusal('strategy_illegal', `${illegal}.`);
    if (gpus.length !== gpusOf(strategy) || new Set(gpus).size !== gpus.length) {
      throw refusal('gpus_wrong', `Engine ${id} needs ${gpusOf(strategy)} different GPUs, got ${gpus.join(', ')}.`);
    }
    const kind = gpuKind(spec.gpuKind);
    for (const gpu of gpus) {
      const actual = this.#knowGpu(gpu);
      if (actual.name !== kind.name) throw refusal('gpus_wrong', `GPU ${gpu} is a ${actual.name}, not a ${kind.name}.`);
      if (this.#lost.has(gpu)) throw refusal('gpu_lost', `GPU ${gpu} is lost.`);
    }
    const { engine, parkedReserveBytes } = this.#options;
    const memory = replicaMemory(model, strategy, kind, engine, parkedReserveBytes);
    if (memory.maxModelLen < 1) {
      throw new InfeasibleError(
        `${model.name} needs ${memory.weightBytes} bytes of weights on a ${kind.name} of ${kind.memoryBytes} bytes: nothing is left for the KV cache.`,
        { hint: 'Use more GPUs for the replica.' },
      );
    }
    return { model, memory };
  }

  #manage(spec: CreateEngine, model: ModelSpec, memory: ReplicaMemory): ManagedEngine {
    const { engine, costs, speed, host, profiles } = this.#options;
    return new ManagedEngine({
      spec,
      clock: this.#clock,
      costs,
      events: this.events,
      ledger: this.#ledger,
      awakeBytes: awakeBytesByGpu(model, spec.strategy, spec.gpus, engine, memory),
      kvTokens: memory.kvTokens,
      maxModelLen: memory.maxModelLen,
      launch: (gone) =>
        this.#launch(
          {
            id: spec.id,
            model,
            gpuKind: spec.gpuKind,
            strategy: spec.strategy,
            engine,
            kvBlocks: memory.kvBlocks,
            maxModelLen: memory.maxModelLen,
            profiles: profiles.filter((profile) => profile.gpuKind === spec.gpuKind),
            admitting: false,
            epochMs: this.#clock.epochMs,
            speed,
            host,
            port: 0,
          },
          gone,
        ),
    });
  }
}

export const capabilityMissing = (what: string) =>
  refusal('capability_missing', `This agent cannot do ${what}.`, 'See capabilities in the inventory.');

function sameLayout(a: CreateEngine, b: CreateEngine): boolean {
  return (
    a.model === b.model &&
    a.gpuKind === b.gpuKind &&
    a.strategy.tensorParallel === b.strategy.tensorParallel &&
    a.strategy.pipelineParallel === b.strategy.pipelineParallel &&
    a.gpus.length === b.gpus.length &&
    a.gpus.every((gpu, rank) => gpu === b.gpus[rank])
  );
}
