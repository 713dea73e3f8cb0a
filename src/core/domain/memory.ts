// What fits on a GPU: weights + activations + parked layouts + KV cache, in vLLM's way (a utilisation share of the
// device; what weights and activations leave is the KV pool). Shared by the replica model, the search and the switch.
import type { GpuKind } from './cluster.ts';
import { kvBytesPerToken, layerParameterCount, type ModelSpec } from './model.ts';
import { layersByStage, type Strategy } from './strategy.ts';

export interface EngineOptions {
  /** Most tokens computed in one step (vLLM's max_num_batched_tokens). */
  readonly maxBatchedTokens: number;
  /** Most sequences in one step (vLLM's max_num_seqs). */
  readonly maxSequences: number;
  /** Tokens per KV block. */
  readonly kvBlockTokens: number;
  /** Share of the GPU's memory that the engine may use, 0..1. */
  readonly memoryUtilisationShare: number;
  /** Activations, graphs and communicators of one serving engine, bytes per GPU. */
  readonly activationBytes: number;
}

export const DEFAULT_ENGINE_OPTIONS: EngineOptions = {
  maxBatchedTokens: 2048,
  maxSequences: 256,
  kvBlockTokens: 16,
  memoryUtilisationShare: 0.9,
  activationBytes: 3e9,
};

/** Vocabulary rows per TP rank: vLLM pads the vocabulary to a multiple of 64 and then to the rank count. */
export function paddedVocabulary(vocabularySize: number, tensorParallel: number): number {
  const padded = Math.ceil(vocabularySize / 64) * 64;
  return Math.ceil(padded / tensorParallel) * tensorParallel;
}

/**
 * Weight bytes on each rank of a pipeline stage. Key/value heads are replicated when there are fewer than ranks;
 * the first stage holds the embeddings, the last one the output head.
 */
export function weightBytesByStage(model: ModelSpec, { tensorParallel, pipelineParallel }: Strategy): number[] {
  const { hiddenSize, headDim, kvHeadCount, bytesPerParameter } = model;
  const keyValue = 2 * hiddenSize * kvHeadCount * headDim;
  const kvHeadsPerRank = Math.max(1, kvHeadCount / tensorParallel);
  const norms = (model.biases ? 4 : 2) * hiddenSize;
  const perLayer =
    (layerParameterCount(model) - keyValue - norms) / tensorParallel +
    2 * hiddenSize * kvHeadsPerRank * headDim +
    norms;
  const embedding = (paddedVocabulary(model.vocabularySize, tensorParallel) / tensorParallel) * hiddenSize;
  return layersByStage(model.layerCount, pipelineParallel).map((layers, stage) => {
    let parameters = layers * perLayer;
    const first = stage === 0;
    const last = stage === pipelineParallel - 1;
    if (first) parameters += embedding + model.positionTableRows * hiddenSize;
    if (last && !(first && model.tiedEmbeddings)) parameters += embedding;
    if (last) parameters += hiddenSize;
    return parameters * bytesPerParameter;
  });
}

/** KV bytes of one token on one rank of a stage with `layers` layers. */
export const kvBytesPerTokenOnRank = (model: ModelSpec, layers: number, tensorParallel: number): number =>
  ((kvBytesPerToken(model) / model.layerCount) * layers * Math.max(1, model.kvHeadCount / tensorParallel)) /
  model.kvHeadCount;

export interface ReplicaMemory {
  /** Weight bytes on the fullest GPU. */
  readonly weightBytes: number;
  /** Bytes left for the KV cache on the GPU that limits it; negative when the replica does not fit. */
  readonly kvPoolBytes: number;
  /** KV blocks of the whole replica (the smallest stage counts). */
  readonly kvBlocks: number;
  /** Tokens that the KV cache holds. */
  readonly kvTokens: number;
  /** Longest input + output that one request may have here, tokens; 0 when the replica does not fit. */
  readonly maxModelLen: number;
}

/**
 * Memory of one replica.
 *
 * @param parkedBytes - bytes per GPU that parked layouts hold beside the serving engine.
 */
export function replicaMemory(
  model: ModelSpec,
  strategy: Strategy,
  gpu: GpuKind,
  engine: EngineOptions,
  parkedBytes = 0,
): ReplicaMemory {
  const usable = gpu.memoryBytes * engine.memoryUtilisationShare - engine.activationBytes - parkedBytes;
  const weights = weightBytesByStage(model, strategy);
  const layers = layersByStage(model.layerCount, strategy.pipelineParallel);
  let kvBlocks = Number.POSITIVE_INFINITY;
  let kvPoolBytes = Number.POSITIVE_INFINITY;
  weights.forEach((bytes, stage) => {
    const pool = usable - bytes;
    const blockBytes = kvBytesPerTokenOnRank(model, layers[stage]!, strategy.tensorParallel) * engine.kvBlockTokens;
    kvPoolBytes = Math.min(kvPoolBytes, pool);
    kvBlocks = Math.min(kvBlocks, Math.max(0, Math.floor(pool / blockBytes)));
  });
  const kvTokens = kvBlocks * engine.kvBlockTokens;
  return {
    weightBytes: Math.max(...weights),
    kvPoolBytes,
    kvBlocks,
    kvTokens,
    maxModelLen: Math.min(model.maxModelLen, kvTokens),
  };
}

/** Layouts that are parked beside the one that serves, on the GPU that has most of them. */
export function mostParkedLayouts(layouts: readonly { readonly gpus: readonly number[] }[]): number {
  const perGpu = new Map<number, number>();
  for (const { gpus } of layouts) for (const gpu of gpus) perGpu.set(gpu, (perGpu.get(gpu) ?? 0) + 1);
  return Math.max(0, Math.max(0, ...perGpu.values()) - 1);
}

/** Bytes that they take from the KV cache; charged to every GPU, so that equal replicas stay equal. */
export const mostParkedBytes = (
  layouts: readonly { readonly gpus: readonly number[] }[],
  bytesPerLayout: number,
): number => mostParkedLayouts(layouts) * bytesPerLayout;
