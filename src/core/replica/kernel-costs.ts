// Seconds of the parts of a step on one rank, from a profile's coefficients. Formulas only; which of them make up a
// pipeline stage is told in fitted-step-time.ts. Symbols: T tokens of the batch, h hidden size, t tensor parallelism.
import { ConfigError, type ModelSpec, type Strategy } from '../domain/index.ts';
import type { LinkCost, ProfileCoefficients } from './profile.ts';

/** Product of m × k activations with k × n weights: kernel + (memory^p + compute^p)^(1/p). */
export function gemmSeconds(gemm: ProfileCoefficients['gemm'], m: number, n: number, k: number, bytes = 2): number {
  const memory = (bytes * (n * k + m * n + m * k)) / gemm.memoryBytesPerSecond;
  const compute = (2 * m * n * k) / gemm.flopsPerSecond;
  const larger = Math.max(memory, compute);
  const ratio = Math.min(memory, compute) / larger;
  return gemm.kernelSeconds + larger * (1 + ratio ** gemm.sharpness) ** (1 / gemm.sharpness);
}

export const linkSeconds = (link: LinkCost, bytes: number): number => link.latencySeconds + bytes / link.bytesPerSecond;

/** n and k of the matrix products of one layer on one rank; key/value heads are replicated below one per rank. */
export function layerGemms(model: ModelSpec, tensorParallel: number): readonly (readonly [n: number, k: number])[] {
  const { hiddenSize, headCount, headDim, intermediateSize, gatedMlp } = model;
  const queryColumns = (headCount * headDim) / tensorParallel;
  const mlpColumns = intermediateSize / tensorParallel;
  return [
    [queryColumns + 2 * kvHeadsPerRank(model, tensorParallel) * headDim, hiddenSize],
    [hiddenSize, queryColumns],
    [(gatedMlp ? 2 : 1) * mlpColumns, hiddenSize],
    [hiddenSize, mlpColumns],
  ];
}

export const kvHeadsPerRank = (model: ModelSpec, tensorParallel: number): number =>
  Math.max(1, model.kvHeadCount / tensorParallel);

/** Bytes that the element-wise kernels of a layer move per token: two norms and the residual add see all of h. */
export const elementwiseBytesPerToken = (model: ModelSpec, tensorParallel: number): number =>
  model.bytesPerParameter *
  (7 * model.hiddenSize +
    ((model.gatedMlp ? 3 : 2) * model.intermediateSize) / tensorParallel +
    2 * (model.headCount / tensorParallel + kvHeadsPerRank(model, tensorParallel)) * model.headDim);

/** One layer without attention, on one rank, for T tokens: matrix products, element-wise kernels, two all-reduces. */
export function layerSeconds(c: ProfileCoefficients, model: ModelSpec, tensorParallel: number, tokens: number): number {
  let seconds =
    c.elementwise.kernelSeconds +
    (tokens * elementwiseBytesPerToken(model, tensorParallel)) / c.elementwise.bytesPerSecond;
  for (const [n, k] of layerGemms(model, tensorParallel)) {
    seconds += gemmSeconds(c.gemm, tokens, n, k, model.bytesPerParameter);
  }
  if (tensorParallel > 1) {
    const link = c.allReduce[tensorParallel];
    if (link === undefined) {
      throw new ConfigError(`The profile knows no all-reduce over ${tensorParallel} ranks.`, {
        hint: `It was measured for ${Object.keys(c.allReduce).join(', ')} ranks in one node; use more pipeline stages.`,
      });
    }
    seconds += 2 * linkSeconds(link, tokens * model.hiddenSize * model.bytesPerParameter);
  }
  return seconds;
}

/** Output head: only the last position of each sequence is projected to the vocabulary. */
export const headSeconds = (
  c: ProfileCoefficients,
  model: ModelSpec,
  tensorParallel: number,
  sequences: number,
): number =>
  gemmSeconds(c.gemm, sequences, model.vocabularySize / tensorParallel, model.hiddenSize, model.bytesPerParameter);

/** Seconds of attention of one layer on one rank, per unit of work. */
export interface AttentionCosts {
  readonly kernelSeconds: number;
  readonly perDecodeSequence: number;
  /** Per cached token that a decode reads. */
  readonly perContextToken: number;
  readonly perPrefillToken: number;
  /** Per query-key pair of a prompt chunk. */
  readonly perPair: number;
}

export function attentionCosts(c: ProfileCoefficients, model: ModelSpec, tensorParallel: number): AttentionCosts {
  const { attention } = c;
  const { headDim, headCount, bytesPerParameter } = model;
  const queryHeads = headCount / tensorParallel;
  const kvHeads = kvHeadsPerRank(model, tensorParallel);
  return {
    kernelSeconds: attention.kernelSeconds,
    perDecodeSequence: attention.decodeSequenceSeconds,
    perContextToken: (2 * kvHeads * headDim * bytesPerParameter) / attention.decodeBytesPerSecond,
    perPrefillToken: (2 * (queryHeads + kvHeads) * headDim * bytesPerParameter) / attention.prefillBytesPerSecond,
    perPair: (4 * queryHeads * headDim) / attention.prefillFlopsPerSecond,
  };
}

/**
 * Hidden states and residual of T tokens to the next stage. A replica larger than a node hands over between nodes:
 * each rank sends its share over its own network card and the node gathers the rest inside.
 */
export function handOverSeconds(
  c: ProfileCoefficients,
  model: ModelSpec,
  { tensorParallel, pipelineParallel }: Strategy,
  gpusPerNode: number,
  tokens: number,
): number {
  if (pipelineParallel === 1) return 0;
  const bytes = 2 * tokens * model.hiddenSize * model.bytesPerParameter;
  const inside = linkSeconds(c.handOver.insideNode, bytes);
  if (tensorParallel * pipelineParallel <= gpusPerNode) return inside;
  return inside + linkSeconds(c.handOver.betweenNodes, bytes / tensorParallel);
}
