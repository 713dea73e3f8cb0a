// A layout is a place with a shape: which model, split how, over which GPUs. In a live pool there is at most one engine
// per layout, parked or serving, so the layout names the engine. Plans name replicas by ids of their own; the layout is
// what ties a plan to the engines that exist, also after any process was restarted.
import { type ReplicaClass, strategyName } from '../../core/domain/index.ts';

export interface Layout extends ReplicaClass {
  /** `gpus[p × TP + t]` is the GPU of (stage p, slice t). */
  readonly gpus: readonly number[];
}

/** `0-3`, `0-1.4-5`: runs of GPU numbers in rank order. */
function gpuRuns(gpus: readonly number[]): string {
  const runs: string[] = [];
  for (let i = 0; i < gpus.length; ) {
    let end = i;
    while (end + 1 < gpus.length && gpus[end + 1] === gpus[end]! + 1) end++;
    runs.push(end === i ? `${gpus[i]}` : `${gpus[i]}-${gpus[end]}`);
    i = end + 1;
  }
  return runs.join('.');
}

/** The engine of a layout: `llama2-70b.TP4.g0-3`. Equal layouts, equal names. */
export const engineIdOf = ({ model, strategy, gpus }: Layout): string =>
  `${model}.${strategyName(strategy)}.g${gpuRuns(gpus)}`;

export const sharesGpus = (a: readonly number[], b: readonly number[]): boolean => a.some((gpu) => b.includes(gpu));

/** First GPU first, then by name: the order in which people read a pool. */
export const byPlace = (
  a: { readonly id: string; readonly gpus: readonly number[] },
  b: { readonly id: string; readonly gpus: readonly number[] },
): number => a.gpus[0]! - b.gpus[0]! || (a.id < b.id ? -1 : 1);
