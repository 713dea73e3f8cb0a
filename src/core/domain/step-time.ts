// How long one step of one replica takes. The fitted profile (core/replica) and the evaluation world (src/world)
// implement it; the simulator and the emulated engine ask it.
import type { ReplicaClass } from './deployment.ts';

/**
 * Seconds of one pipeline stage (the slowest one) for one batch, without waiting. A batch passes `pipelineParallel`
 * such stages one after the other; another batch may enter as soon as the first stage is free.
 *
 * Results are multiples of TIME_GRID_SECONDS. Arguments are numbers, not an object: this is the hottest call there is.
 */
export interface StepTime {
  /**
   * @param prefillTokens - prompt tokens computed in this step, over all sequences.
   * @param prefillPairs - Σ over prompt chunks of chunk × (tokens cached before + chunk / 2): query-key pairs of attention.
   * @param decodeSequences - sequences that compute one token.
   * @param decodeContextTokens - cached tokens that these sequences read, summed.
   * @param sequences - all sequences in the batch.
   * @param atSeconds - when the step starts; only the evaluation world looks at it.
   */
  stageSeconds(
    prefillTokens: number,
    prefillPairs: number,
    decodeSequences: number,
    decodeContextTokens: number,
    sequences: number,
    atSeconds: number,
  ): number;
}

/** Gives the step time of a class (fitted profile) or of one replica (`seedText` = its id, in the evaluation world). */
export type StepTimeOf = (replicaClass: ReplicaClass, seedText: string) => StepTime;
