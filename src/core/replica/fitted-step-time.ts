// The parametric step time: what a step takes on a profile's GPU, as a sum of parts that are each fitted to measurements
// (larger of memory and compute time of the matrix products, attention, collectives, hand-over, host). It is linear in
// the cached tokens, so that a stretch of pure decoding can be summed in closed form; every part is on the time grid, so
// that such a sum equals adding the steps one by one, bit for bit.
import {
  ConfigError,
  classKey,
  layersByStage,
  MODELS,
  type ModelSpec,
  onTimeGrid,
  type ReplicaClass,
  type StepTime,
  type StepTimeOf,
} from '../domain/index.ts';
import { attentionCosts, handOverSeconds, headSeconds, layerSeconds } from './kernel-costs.ts';
import type { Profile } from './profile.ts';

/** Batches of up to this many tokens are looked up after their first use. */
const TABLE_TOKENS = 1 << 15;

/** Step time of one class of replicas; see {@link StepTime} for the arguments. */
export class FittedStepTime implements StepTime {
  /** Seconds of a step per cached token that is read, and per sequence that decodes, beside `stageSeconds`' base. */
  readonly perContextToken: number;
  readonly perDecodeSequence: number;
  readonly #perPrefillToken: number;
  readonly #perPair: number;

  readonly #profile: Profile;
  readonly #model: ModelSpec;
  readonly #replicaClass: ReplicaClass;
  readonly #layers: number;
  readonly #layersOfLastStage: number;
  /** By tokens: everything that depends on the batch's tokens alone; 0 where not computed yet. */
  #byTokens = new Float64Array(4096);
  /** By sequences: output head and host, of the last stage beyond what the longest stage takes anyway. */
  #bySequences = new Float64Array(512);

  constructor(profile: Profile, model: ModelSpec, replicaClass: ReplicaClass) {
    const { tensorParallel, pipelineParallel } = replicaClass.strategy;
    const layers = layersByStage(model.layerCount, pipelineParallel);
    this.#profile = profile;
    this.#model = model;
    this.#replicaClass = replicaClass;
    this.#layers = Math.max(...layers);
    this.#layersOfLastStage = layers.at(-1)!;
    const attention = attentionCosts(profile.coefficients, model, tensorParallel);
    this.perContextToken = onTimeGrid(this.#layers * attention.perContextToken);
    this.perDecodeSequence = onTimeGrid(this.#layers * attention.perDecodeSequence);
    this.#perPrefillToken = this.#layers * attention.perPrefillToken;
    this.#perPair = this.#layers * attention.perPair;
  }

  stageSeconds(
    prefillTokens: number,
    prefillPairs: number,
    decodeSequences: number,
    decodeContextTokens: number,
    sequences: number,
    _atSeconds = 0,
  ): number {
    const seconds =
      this.#tokenSeconds(prefillTokens + decodeSequences) +
      this.#sequenceSeconds(sequences) +
      this.perDecodeSequence * decodeSequences +
      this.perContextToken * decodeContextTokens;
    if (prefillTokens === 0) return seconds;
    return seconds + onTimeGrid(this.#perPrefillToken * prefillTokens + this.#perPair * prefillPairs);
  }

  #tokenSeconds(tokens: number): number {
    if (tokens >= this.#byTokens.length) this.#byTokens = grown(this.#byTokens, tokens);
    const known = this.#byTokens[tokens];
    if (known !== undefined && known > 0) return known;
    const { coefficients, gpusPerNode } = this.#profile;
    const { strategy } = this.#replicaClass;
    const seconds = onTimeGrid(
      this.#layers *
        (layerSeconds(coefficients, this.#model, strategy.tensorParallel, tokens) +
          coefficients.attention.kernelSeconds) +
        handOverSeconds(coefficients, this.#model, strategy, gpusPerNode, tokens) +
        coefficients.host.stepSeconds,
    );
    if (tokens < this.#byTokens.length) this.#byTokens[tokens] = seconds;
    return seconds;
  }

  /** A last stage with fewer layers than the longest one has that much time for the output head. */
  #sequenceSeconds(sequences: number): number {
    if (sequences >= this.#bySequences.length) this.#bySequences = grown(this.#bySequences, sequences);
    const known = this.#bySequences[sequences];
    if (known !== undefined && known > 0) return known;
    const { coefficients } = this.#profile;
    const { tensorParallel } = this.#replicaClass.strategy;
    const slackSeconds =
      (this.#layers - this.#layersOfLastStage) * layerSeconds(coefficients, this.#model, tensorParallel, 1);
    const seconds = onTimeGrid(
      Math.max(0, headSeconds(coefficients, this.#model, tensorParallel, sequences) - slackSeconds) +
        coefficients.host.sequenceSeconds * sequences,
    );
    if (sequences < this.#bySequences.length) this.#bySequences[sequences] = seconds;
    return seconds;
  }
}

function grown(table: Float64Array<ArrayBuffer>, index: number): Float64Array<ArrayBuffer> {
  if (index >= TABLE_TOKENS) return table;
  const larger = new Float64Array(Math.min(TABLE_TOKENS, Math.max(index + 1, 2 * table.length)));
  larger.set(table);
  return larger;
}

/**
 * Step times from fitted profiles, one per class (all replicas of a class are alike here).
 *
 * @param profiles - one or several, told apart by their GPU kind.
 * @param models - where a class' model is looked up.
 * @throws {@link ConfigError} (when asked for a class) if its GPU kind has no profile or its model is unknown.
 */
export function fittedStepTime(
  profiles: Profile | readonly Profile[],
  models: readonly ModelSpec[] = MODELS,
): StepTimeOf {
  const list = 'coefficients' in profiles ? [profiles] : profiles;
  const known = new Map<string, FittedStepTime>();
  return (replicaClass) => {
    const key = classKey(replicaClass);
    let stepTime = known.get(key);
    if (stepTime === undefined) {
      const profile = list.find((candidate) => candidate.gpuKind === replicaClass.gpuKind);
      if (profile === undefined) {
        throw new ConfigError(`There is no profile for ${replicaClass.gpuKind}.`, {
          hint: `Profiles are there for ${list.map((p) => p.gpuKind).join(', ') || 'no GPU at all'}; see oserve calibrate --help.`,
        });
      }
      const model = models.find((candidate) => candidate.name === replicaClass.model);
      if (model === undefined) {
        throw new ConfigError(`Unknown model "${replicaClass.model}".`, {
          hint: `Known models: ${models.map((m) => m.name).join(', ')}.`,
        });
      }
      stepTime = new FittedStepTime(profile, model, replicaClass);
      known.set(key, stepTime);
    }
    return stepTime;
  };
}
