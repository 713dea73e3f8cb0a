// What every router has in common: the replicas it may choose from, their load, and who may take a request at all.
// A router is asked once per request, live by the gateway and in simulation by the event loop. It is synchronous, keeps
// its own small state, and allocates nothing while it chooses.
import type { RequestView } from '../domain/index.ts';

/** A replica that takes requests now. */
export interface RouterReplica {
  readonly id: string;
  readonly classKey: string;
  readonly model: string;
  readonly gpuCount: number;
  /** Longest input + output that one request may have here, tokens. */
  readonly maxModelLen: number;
  /** Tokens that the KV cache holds. */
  readonly kvTokens: number;
}

/** What is outstanding on each replica; same order as the replicas. May be a little old. */
export interface ReplicaLoads {
  readonly requests: ArrayLike<number>;
  readonly tokens: ArrayLike<number>;
}

export interface Router {
  /**
   * @param posterior - probability of each workload type, J entries, types of the request's model only.
   * @returns index into the replicas, or -1 when the request fits on none of them.
   */
  choose(view: RequestView, posterior: ArrayLike<number>, loads: ReplicaLoads): number;
}

/** Replicas of one model, as indices into the list that the router was made with; empty for an unknown model. */
export class ReplicasByModel {
  readonly #byModel = new Map<string, Int32Array>();

  constructor(replicas: readonly RouterReplica[]) {
    for (const { model } of replicas) {
      if (this.#byModel.has(model)) continue;
      this.#byModel.set(
        model,
        Int32Array.from(replicas.keys()).filter((index) => replicas[index]!.model === model),
      );
    }
  }

  of(model: string): Int32Array {
    return this.#byModel.get(model) ?? NONE;
  }

  models(): Iterable<string> {
    return this.#byModel.keys();
  }
}

const NONE = new Int32Array(0);

/** The longest length that a request may claim: its prompt and all that the client allows to be generated. */
export const claimedTokens = (view: RequestView): number => view.inputTokens + view.maxTokens;

/**
 * The least loaded of `among[from..to)` that holds `needTokens`: fewest outstanding tokens per GPU, then fewest requests,
 * then the first in order. Returns an index into `replicas`, or -1.
 */
export function leastLoaded(
  replicas: readonly RouterReplica[],
  among: Int32Array,
  from: number,
  to: number,
  needTokens: number,
  loads: ReplicaLoads,
): number {
  let best = -1;
  let bestTokens = Number.POSITIVE_INFINITY;
  let bestRequests = Number.POSITIVE_INFINITY;
  for (let i = from; i < to; i++) {
    const index = among[i]!;
    const replica = replicas[index]!;
    if (replica.maxModelLen < needTokens) continue;
    const tokens = (loads.tokens[index] ?? 0) / replica.gpuCount;
    const requests = loads.requests[index] ?? 0;
    if (tokens < bestTokens || (tokens === bestTokens && requests < bestRequests) || best < 0) {
      best = index;
      bestTokens = tokens;
      bestRequests = requests;
    }
  }
  return best;
}
