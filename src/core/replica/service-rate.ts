// How many requests/s a replica sustains (the paper's n_kj), in closed form: the steady state of continuous batching.
//
// In the steady state R requests are in the replica (bounded by sequences and KV memory), spread over the batches of the
// pipeline: d decode sequences a batch. Per step d / (o − 1) requests end, so as many prompts must begin, which makes
// i × d / (o − 1) prompt tokens a step. They come in whole prompts, or in chunks of what the token budget leaves:
// N ~ Binomial(n, ν / n) chunks a step with mean ν, where n is how many fit the budget. In a pipeline the batch with
// most chunks holds up the others, so a step takes as long as the largest of PP draws:
//   mean step = Σ_N (F(N)^PP − F(N − 1)^PP) × step(d, N chunks),     rate = d / (o − 1) / mean step
// When prompts would need more than the token budget leaves, the budget sets d instead: prompt tokens + d = budget.
import {
  type EngineOptions,
  gpuKind,
  type ModelSpec,
  type ReplicaClass,
  replicaMemory,
  type Slo,
  type StepTime,
} from '../domain/index.ts';

export interface MixPart {
  readonly inputTokens: number;
  readonly outputTokens: number;
  /** Relative frequency; need not sum to 1. */
  readonly weight: number;
}

export interface ServiceRateOptions {
  readonly model: ModelSpec;
  readonly replicaClass: ReplicaClass;
  readonly engine: EngineOptions;
  readonly stepTime: StepTime;
  /** Only as fast as the mean TPOT allows, and nothing when the first token alone takes longer than it may. */
  readonly slo?: Slo;
  /** Bytes a GPU that parked layouts hold. */
  readonly parkedBytes?: number;
}

/**
 * Requests/s of one type alone (n_kj).
 *
 * @returns 0 when a request of this length does not fit, or the SLO cannot be met.
 */
export const serviceRate = (
  options: ServiceRateOptions & { readonly inputTokens: number; readonly outputTokens: number },
): number => mixServiceRate({ ...options, parts: [{ ...options, weight: 1 }] });

/**
 * Requests/s of a mix, all parts together, when every part gets its share of them.
 *
 * @returns 0 when some part does not fit, or its SLO cannot be met.
 */
export function mixServiceRate(options: ServiceRateOptions & { readonly parts: readonly MixPart[] }): number {
  const { model, replicaClass, engine, slo } = options;
  const memory = replicaMemory(
    model,
    replicaClass.strategy,
    gpuKind(replicaClass.gpuKind),
    engine,
    options.parkedBytes ?? 0,
  );
  const parts = options.parts.filter(({ weight }) => weight > 0);
  if (parts.length === 0) return 0;
  if (parts.some((part) => part.inputTokens + part.outputTokens > memory.maxModelLen)) return 0;

  const steady = new SteadyState(options, parts);
  const held = steady.meanHeldTokens + engine.kvBlockTokens / 2;
  const sequences = Math.min(engine.maxSequences, memory.kvTokens / held);
  if (slo === undefined) return steady.rate(steady.decodesOf(sequences));

  const longest = Math.max(...parts.map(({ inputTokens }) => inputTokens));
  const meetsSlo = (decodes: number) =>
    steady.tokenSeconds(decodes) <= slo.tpotSeconds &&
    steady.firstTokenSeconds(longest, decodes) <= slo.ttftSeconds + slo.ttftSecondsPerInputToken * longest;
  let high = steady.decodesOf(sequences);
  if (meetsSlo(high)) return steady.rate(high);
  let low = Math.min(1, high);
  if (!meetsSlo(low)) return 0;
  for (let i = 0; i < 40; i++) {
    const middle = (low + high) / 2;
    if (meetsSlo(middle)) low = middle;
    else high = middle;
  }
  return steady.rate(low);
}

/** Means of a mix, and the step times that follow from them for a number of decode sequences a batch. */
class SteadyState {
  readonly meanHeldTokens: number;
  readonly #stepTime: StepTime;
  readonly #pipelineParallel: number;
  readonly #budget: number;
  /** Means per request: prompt tokens, tokens after the first, query-key pairs of the prompt. */
  readonly #inputTokens: number;
  readonly #laterTokens: number;
  readonly #pairs: number;
  /** Cached tokens that a decode reads, averaged over all decodes. */
  readonly #contextTokens: number;

  constructor({ stepTime, replicaClass, engine }: ServiceRateOptions, parts: readonly MixPart[]) {
    this.#stepTime = stepTime;
    this.#pipelineParallel = replicaClass.strategy.pipelineParallel;
    this.#budget = engine.maxBatchedTokens;
    const total = parts.reduce((sum, { weight }) => sum + weight, 0);
    const mean = (value: (part: MixPart) => number) =>
      parts.reduce((sum, part) => sum + part.weight * value(part), 0) / total;
    this.#inputTokens = mean((part) => part.inputTokens);
    this.#laterTokens = mean((part) => part.outputTokens - 1);
    this.#pairs = mean((part) => part.inputTokens ** 2 / 2);
    const contextSum = mean((part) => (part.outputTokens - 1) * (part.inputTokens + part.outputTokens / 2));
    this.#contextTokens = this.#laterTokens === 0 ? 0 : contextSum / this.#laterTokens;
    // A request holds its tokens for about as many steps as it decodes, and one for its prompt.
    const heldSteps = mean((part) => part.outputTokens);
    this.meanHeldTokens = mean((part) => part.outputTokens * (part.inputTokens + part.outputTokens / 2)) / heldSteps;
  }

  /** Decode sequences a batch when this many requests are in the replica, prompts included. */
  decodesOf(sequences: number): number {
    const perBatch = sequences / this.#pipelineParallel;
    const atBudget = (this.#budget * this.#laterTokens) / (this.#inputTokens + this.#laterTokens);
    let decodes = Math.min(perBatch, atBudget);
    // Those whose prompt is being computed do not decode; one correction is enough.
    const inPrompt = this.#prompts(decodes).chunksPerStep;
    decodes = Math.min(Math.max(perBatch - inPrompt, Math.min(perBatch, 1)), atBudget);
    return decodes;
  }

  rate(decodes: number): number {
    if (this.#laterTokens === 0) {
      return this.#budget / this.#inputTokens / this.#step(0, this.#budget);
    }
    return decodes / this.#laterTokens / this.#meanStep(decodes);
  }

  /** Seconds between two tokens of a request: its batch passes every stage. */
  tokenSeconds(decodes: number): number {
    return this.#laterTokens === 0 ? 0 : this.#pipelineParallel * this.#meanStep(decodes);
  }

  /** Seconds to the first token of a prompt that finds the replica at this load and no queue. */
  firstTokenSeconds(inputTokens: number, decodes: number): number {
    const chunk = Math.max(1, Math.min(inputTokens, this.#budget - decodes));
    return Math.ceil(inputTokens / chunk) * this.#pipelineParallel * this.#step(decodes, chunk);
  }

  #prompts(decodes: number): {
    readonly chunk: number;
    readonly chunksPerStep: number;
    readonly mostChunks: number;
  } {
    const left = Math.max(1, this.#budget - decodes);
    const tokensPerStep = Math.min(left, (this.#inputTokens * decodes) / this.#laterTokens);
    const whole = Math.max(1, Math.min(this.#inputTokens, left));
    const mostChunks = Math.max(1, Math.floor(left / whole));
    // Near the budget prompts are split, so that nothing of it is left over.
    const chunk = Math.max(whole, tokensPerStep / mostChunks);
    return { chunk, chunksPerStep: tokensPerStep / chunk, mostChunks };
  }

  #meanStep(decodes: number): number {
    const { chunk, chunksPerStep, mostChunks } = this.#prompts(decodes);
    const share = chunksPerStep / mostChunks;
    // Binomial probabilities one after the other; all mass lies at the top when the budget is used up.
    let probability = share === 1 ? 0 : (1 - share) ** mostChunks;
    let cumulated = probability;
    let below = cumulated ** this.#pipelineParallel;
    let seconds = below === 0 ? 0 : below * this.#step(decodes, 0);
    for (let chunks = 1; chunks <= mostChunks && below < 1 - 1e-9; chunks++) {
      probability = share === 1 ? 0 : (probability * (mostChunks - chunks + 1) * share) / (chunks * (1 - share));
      cumulated = chunks === mostChunks ? 1 : Math.min(1, cumulated + probability);
      const upTo = cumulated ** this.#pipelineParallel;
      if (upTo > below) seconds += (upTo - below) * this.#step(decodes, chunks * chunk);
      below = upTo;
    }
    return seconds;
  }

  #step(decodes: number, promptTokens: number): number {
    // Step times are looked up by whole tokens and sequences.
    const sequences = Math.max(1, Math.round(decodes));
    const prompt = Math.round(promptTokens);
    return this.#stepTime.stageSeconds(
      prompt,
      (prompt * this.#pairs) / this.#inputTokens,
      decodes === 0 ? 0 : sequences,
      decodes * this.#contextTokens,
      sequences + Math.ceil(prompt / this.#inputTokens),
      0,
    );
  }
}
