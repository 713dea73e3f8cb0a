// Lengths → types: k-means over (log input, log output) of finished requests, per model. Logarithms, because what matters
// about a length is its ratio to another; natural ones on both axes, so that a type's radius means the same factor in both.
// Re-fits start from the standing centroids and keep their ids, so that a type's history stays its own.
import {
  type FinishedRequest,
  invariant,
  type Random,
  type WorkloadModel,
  type WorkloadType,
} from '../domain/index.ts';
import { type Clustering, hungarian, kMeans, simplifiedSilhouette } from '../math/index.ts';
import { describe, type TypeCore, type WorkloadOptions } from './describe.ts';

export interface WorkloadFit {
  /** Any order; requests of several models together. */
  readonly finished: readonly FinishedRequest[];
  readonly previous: WorkloadModel | null;
  readonly random: Random;
  readonly options?: WorkloadOptions;
}

const DEFAULT_TYPE_COUNT = 4;
/** A model with fewer finished requests keeps the types it has. */
const FEWEST_TO_REFIT = 32;
/** Starts are compared on this many points; the best one is then polished on all. */
const POINTS_TO_COMPARE = 1024;
const STARTS = 3;
/** A fresh clustering must be this much better than the standing one, moved along, to replace it. */
const FRESH_START_GAIN = 0.95;
/** And another number of types must separate this much better. */
const TYPE_COUNT_GAIN = 0.02;
/** Centroids further apart than this (natural log units, a factor of e) are not the same type. */
const SAME_TYPE_DISTANCE = 1;

/**
 * Fits types, posterior and samples to what finished lately.
 *
 * @returns the next version of the model; without any finished request and previous model it has no types.
 */
export function fitWorkload({ finished, previous, random, options = {} }: WorkloadFit): WorkloadModel {
  const version = (previous?.version ?? 0) + 1;
  const standing = previous?.types ?? [];
  const kept: TypeCore[] = [];
  const fresh: TypeCore[] = [];
  const models = new Set([...standing.map((type) => type.model), ...finished.map((request) => request.model)]);
  for (const model of [...models].sort()) {
    const before = standing.filter((type) => type.model === model);
    const members = finished.filter((request) => request.model === model);
    if (members.length < FEWEST_TO_REFIT && before.length > 0) kept.push(...before);
    else if (members.length > 0) {
      const centroids = cluster(logLengths(members), before, random.fork(`types of ${model}`), options);
      nameTypes(model, version, fresh.length, centroids, before, kept, fresh);
    }
  }
  // Types that stay keep their order; new ones follow.
  const order = new Map(standing.map((type, index) => [type.id, index]));
  kept.sort((a, b) => order.get(a.id)! - order.get(b.id)!);
  return describe({ version, types: [...kept, ...fresh], finished, previous, random, options });
}

/** The same types with newer posterior, samples and mean lengths: what a tick without drift does. */
export function refreshWorkload({ finished, previous, random, options = {} }: WorkloadFit): WorkloadModel {
  invariant(previous !== null, 'there is a model to refresh');
  return describe({ version: previous.version + 1, types: previous.types, finished, previous, random, options });
}

function logLengths(members: readonly FinishedRequest[]): Float64Array {
  const points = new Float64Array(members.length * 2);
  members.forEach((request, i) => {
    points[2 * i] = Math.log(Math.max(1, request.inputTokens));
    points[2 * i + 1] = Math.log(Math.max(1, request.outputTokens));
  });
  return points;
}

/** Centroids (k × 2) for one model. */
function cluster(
  points: Float64Array,
  before: readonly WorkloadType[],
  random: Random,
  options: WorkloadOptions,
): Float64Array {
  const count = points.length / 2;
  const some = sample(points, POINTS_TO_COMPARE, random.fork('points'));
  const wanted = options.typeCount ?? DEFAULT_TYPE_COUNT;
  const typeCount = wanted === 'auto' ? chooseTypeCount(some, before.length, random) : wanted;
  // A handful of requests supports fewer types.
  const clusters = Math.max(1, Math.min(typeCount, Math.floor(count / 8)));
  const start = bestStart(some, clusters, random);
  const found = kMeans(points, 2, clusters, random, { start: start.centroids });
  if (before.length !== clusters) return found.centroids;
  const moved = kMeans(points, 2, clusters, random, {
    start: Float64Array.from(before.flatMap((type) => [type.logInput, type.logOutput])),
  });
  return found.inertia < FRESH_START_GAIN * moved.inertia ? found.centroids : moved.centroids;
}

/** k in 2..8 with the largest silhouette; the standing k stays unless another is clearly better. */
function chooseTypeCount(points: Float64Array, standing: number, random: Random): number {
  let best = 1;
  let bestScore = 0;
  let standingScore = Number.NEGATIVE_INFINITY;
  for (let k = 2; k <= Math.min(8, points.length / 2); k++) {
    const score = simplifiedSilhouette(points, 2, bestStart(points, k, random));
    if (k === standing) standingScore = score;
    if (score > bestScore) {
      best = k;
      bestScore = score;
    }
  }
  return bestScore <= standingScore + TYPE_COUNT_GAIN ? standing : best;
}

function bestStart(points: Float64Array, clusters: number, random: Random): Clustering {
  let best: Clustering | null = null;
  for (let start = 0; start < STARTS; start++) {
    const found = kMeans(points, 2, clusters, random.fork(`start ${clusters}.${start}`));
    if (best === null || found.inertia < best.inertia) best = found;
  }
  return best!;
}

/** At most `limit` rows, drawn without replacement. */
function sample(points: Float64Array, limit: number, random: Random): Float64Array {
  const count = points.length / 2;
  if (count <= limit) return points;
  const chosen = new Float64Array(limit * 2);
  let taken = 0;
  // Selection sampling: keeps the order, one draw a row.
  for (let i = 0; i < count && taken < limit; i++) {
    if (random.next() * (count - i) >= limit - taken) continue;
    chosen[2 * taken] = points[2 * i]!;
    chosen[2 * taken + 1] = points[2 * i + 1]!;
    taken++;
  }
  return chosen;
}

/**
 * Matches centroids to the standing types at the smallest total distance; what matches nothing nearby is a new type, with
 * an id that was never used before.
 */
function nameTypes(
  model: string,
  version: number,
  firstNumber: number,
  centroids: Float64Array,
  before: readonly WorkloadType[],
  kept: TypeCore[],
  fresh: TypeCore[],
): void {
  const clusters = centroids.length / 2;
  const size = Math.max(clusters, before.length);
  const cost = new Float64Array(size * size);
  for (let row = 0; row < clusters; row++) {
    for (let column = 0; column < size; column++) {
      const type = before[column];
      // Beyond the limit all distances are equally no match.
      const distance = type
        ? Math.hypot(type.logInput - centroids[2 * row]!, type.logOutput - centroids[2 * row + 1]!)
        : SAME_TYPE_DISTANCE;
      cost[row * size + column] = Math.min(distance, SAME_TYPE_DISTANCE);
    }
  }
  const match = hungarian(cost, size);
  const unmatched: { logInput: number; logOutput: number }[] = [];
  for (let row = 0; row < clusters; row++) {
    const centroid = { logInput: centroids[2 * row]!, logOutput: centroids[2 * row + 1]! };
    const type = before[match[row]!];
    if (type && cost[row * size + match[row]!]! < SAME_TYPE_DISTANCE) kept.push({ id: type.id, model, ...centroid });
    else unmatched.push(centroid);
  }
  // First the cheap ones: an order that does not depend on the draws.
  unmatched.sort((a, b) => a.logInput + a.logOutput - (b.logInput + b.logOutput) || a.logInput - b.logInput);
  unmatched.forEach((centroid, index) => {
    fresh.push({ id: `${model}/${version}.${firstNumber + index}`, model, ...centroid });
  });
}
