// How one replica is split over GPUs, and which splits are legal for a model.
import type { ModelSpec } from './model.ts';

/** Tensor × pipeline parallelism of one replica. Rank of (stage p, slice t) = p × tensorParallel + t. */
export interface Strategy {
  readonly tensorParallel: number;
  readonly pipelineParallel: number;
}

export const gpusOf = (strategy: Strategy): number => strategy.tensorParallel * strategy.pipelineParallel;

/** `TP4`, `TP2PP2`. */
export const strategyName = ({ tensorParallel, pipelineParallel }: Strategy): string =>
  pipelineParallel === 1 ? `TP${tensorParallel}` : `TP${tensorParallel}PP${pipelineParallel}`;

/**
 * Why a strategy is illegal for a model, or null when it is legal. Query heads must divide evenly (LLaMA-30B has 52:
 * no TP8), key/value heads must divide or be replicated evenly, and each pipeline stage needs a layer.
 */
export function illegalBecause(model: ModelSpec, { tensorParallel, pipelineParallel }: Strategy): string | null {
  if (model.headCount % tensorParallel !== 0)
    return `${model.name} has ${model.headCount} heads, which TP${tensorParallel} does not divide`;
  if (model.kvHeadCount % tensorParallel !== 0 && tensorParallel % model.kvHeadCount !== 0) {
    return `${model.name} has ${model.kvHeadCount} key/value heads, which neither divide nor are divided by TP${tensorParallel}`;
  }
  if (model.intermediateSize % tensorParallel !== 0)
    return `${model.name} has an MLP of ${model.intermediateSize}, which TP${tensorParallel} does not divide`;
  if (pipelineParallel > model.layerCount)
    return `${model.name} has ${model.layerCount} layers, too few for PP${pipelineParallel}`;
  return null;
}

/**
 * Layers of each pipeline stage, as vLLM splits them: even, the rest one each to the stages before the last
 * (the last one also holds the output head).
 */
export function layersByStage(layerCount: number, pipelineParallel: number): number[] {
  const base = Math.floor(layerCount / pipelineParallel);
  const layers = new Array<number>(pipelineParallel).fill(base);
  const rest = layerCount % pipelineParallel;
  for (let i = 2; i < rest + 2; i++) layers[pipelineParallel - i]! += 1;
  return layers;
}
