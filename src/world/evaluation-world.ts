// The evaluation world: what policies are judged in. It is deliberately not the model that plans them: step times come
// from kernel tables, each replica is a bit faster or slower than its class, each second has its own noise, the router's
// knowledge is old, and switches take random times and sometimes fail.
import {
  ConfigError,
  classKey,
  invariant,
  type ModelSpec,
  onTimeGrid,
  type Random,
  type StepTime,
  type StepTimeOf,
  type SwitchStep,
} from '../core/domain/index.ts';
import { hashUnit, logNormal } from '../core/math/index.ts';
import type { KernelTables } from '../core/replica/index.ts';
import { TableStepTime, WorldTables } from './table-step-time.ts';

/** Spread of whole replicas, and of single seconds of a replica (standard deviation of the logarithm). */
export const REPLICA_SIGMA = 0.06;
export const SECOND_SIGMA = 0.05;
/** How old the load is that the router knows: uniform between these. */
export const WORLD_STATE_AGE_SECONDS = { least: 0.2, most: 1 } as const;
/** Spread of the steps of a switch, and how often a replica that comes up is found to be wrong. */
export const SWITCH_STEP_SIGMA = 0.2;
export const SWITCH_FAILURE_SHARE = 0.01;

export interface WorldOptions {
  /** One per kind of GPU in the cluster. */
  readonly tables: readonly KernelTables[];
  readonly models: readonly ModelSpec[];
  readonly seed: number;
  /**
   * How far the world is from the planner's model: 0 is the model itself without noise, 1 the measured kernels with
   * their noise, 2 twice as far (in logarithms) with twice the noise. Default 1.
   */
  readonly mismatch?: number;
  /** The planner's model; needed unless `mismatch` is 1. */
  readonly fitted?: StepTimeOf;
}

export interface EvaluationWorld {
  readonly stepTimeOf: StepTimeOf;
  readonly stateAgeSeconds: (random: Random) => number;
  /** Real duration of a step of a switch, and why it failed (null: it did not). */
  readonly stepOutcome: (
    step: SwitchStep,
    random: Random,
  ) => { readonly seconds: number; readonly failure: string | null };
}

/**
 * @throws {@link ConfigError} (when asked for a class) if its GPU kind has no tables or its model is unknown.
 */
export function worldStepTime({ tables, models, seed, mismatch = 1, fitted }: WorldOptions): StepTimeOf {
  invariant(mismatch === 1 || fitted !== undefined, 'a mismatch other than 1 is measured from the fitted model');
  const byGpu = new Map(tables.map((kernels) => [kernels.gpuKind, kernels]));
  const worldTables = new Map<string, WorldTables>();
  const byClass = new Map<string, TableStepTime>();
  return (replicaClass, seedText) => {
    const key = classKey(replicaClass);
    let stepTime = byClass.get(key);
    if (stepTime === undefined) {
      const { gpuKind } = replicaClass;
      const kernels = byGpu.get(gpuKind);
      if (kernels === undefined) {
        throw new ConfigError(`The evaluation world has no kernel tables of ${gpuKind}.`, {
          hint: `It has ${[...byGpu.keys()].join(', ') || 'none at all'}.`,
        });
      }
      const model = models.find((candidate) => candidate.name === replicaClass.model);
      if (model === undefined) throw new ConfigError(`Unknown model "${replicaClass.model}".`);
      let known = worldTables.get(gpuKind);
      if (known === undefined) {
        known = new WorldTables(kernels);
        worldTables.set(gpuKind, known);
      }
      stepTime = new TableStepTime(known, model, replicaClass);
      byClass.set(key, stepTime);
    }
    return new NoisyStepTime(stepTime, fitted?.(replicaClass, seedText) ?? null, mismatch, seed, seedText);
  };
}

/** Standard normal as a pure function of its key (Box and Muller). */
const hashNormal = (key: number, index: number): number =>
  Math.sqrt(-2 * Math.log(1 - hashUnit(key, index, 0))) * Math.cos(2 * Math.PI * hashUnit(key, index, 1));

/** exp(σ z), with mean 1. */
const meanOneFactor = (sigma: number, z: number): number => Math.exp(sigma * z - sigma ** 2 / 2);

/** One replica: the class' time, times its own factor, times the noise of the second in which the step starts. */
class NoisyStepTime implements StepTime {
  readonly #table: TableStepTime;
  readonly #fitted: StepTime | null;
  readonly #mismatch: number;
  /** Hash of the seed and the replica's id. */
  readonly #key: number;
  readonly #replicaFactor: number;
  #second = Number.NaN;
  #factor = 1;

  constructor(table: TableStepTime, fitted: StepTime | null, mismatch: number, seed: number, replica: string) {
    this.#table = table;
    this.#fitted = fitted;
    this.#mismatch = mismatch;
    this.#key = hashUnit(seed, replica);
    this.#replicaFactor = meanOneFactor(mismatch * REPLICA_SIGMA, hashNormal(this.#key, -1));
  }

  stageSeconds(
    prefillTokens: number,
    prefillPairs: number,
    decodeSequences: number,
    decodeContextTokens: number,
    sequences: number,
    atSeconds: number,
  ): number {
    const second = Math.floor(atSeconds);
    if (second !== this.#second) {
      this.#second = second;
      const noise = hashNormal(this.#key, second);
      this.#factor = this.#replicaFactor * meanOneFactor(this.#mismatch * SECOND_SIGMA, noise);
    }
    let seconds = this.#table.seconds(prefillTokens, prefillPairs, decodeSequences, decodeContextTokens, sequences);
    if (this.#mismatch !== 1) {
      const planned = this.#fitted!.stageSeconds(
        prefillTokens,
        prefillPairs,
        decodeSequences,
        decodeContextTokens,
        sequences,
        atSeconds,
      );
      seconds = planned * (seconds / planned) ** this.#mismatch;
    }
    return onTimeGrid(seconds * this.#factor);
  }
}

/** Age of the router's knowledge at one moment. */
export const worldStateAge = (draw: Random): number =>
  WORLD_STATE_AGE_SECONDS.least + (WORLD_STATE_AGE_SECONDS.most - WORLD_STATE_AGE_SECONDS.least) * draw.next();

/** Steps take about as long as planned; a verification finds 1 % of the replicas wrong. */
export function worldStepOutcome(step: SwitchStep, draw: Random): ReturnType<EvaluationWorld['stepOutcome']> {
  const seconds = step.seconds * logNormal(draw.fork('seconds'), -(SWITCH_STEP_SIGMA ** 2) / 2, SWITCH_STEP_SIGMA);
  const fails = step.action === 'verify' && draw.fork('failure').next() < SWITCH_FAILURE_SHARE;
  return { seconds, failure: fails ? 'the weights differ from the checkpoint' : null };
}

/** Everything that a simulation asks of the world. */
export function evaluationWorld(options: WorldOptions): EvaluationWorld {
  const free = options.mismatch === 0;
  return {
    stepTimeOf: worldStepTime(options),
    stateAgeSeconds: free ? () => 0 : worldStateAge,
    stepOutcome: free ? ({ seconds }) => ({ seconds, failure: null }) : worldStepOutcome,
  };
}
