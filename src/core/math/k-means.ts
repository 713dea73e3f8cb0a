// k-means: k-means++ seeds (Arthur and Vassilvitskii 2007) and Lloyd's iterations, for a few thousand points of few
// dimensions. Equal inputs and streams give equal results; ties go to the lower index.
import { precondition } from './precondition.ts';
import type { Random } from './random.ts';

export interface KMeansOptions {
  /** Upper limit of Lloyd's iterations. */
  readonly iterations?: number;
  /** Centroids to start from (k × d) instead of k-means++ seeds. */
  readonly start?: Float64Array;
}

export interface Clustering {
  /** k × d, row-major; fewer rows than asked for when there are fewer distinct points. */
  readonly centroids: Float64Array;
  /** Nearest centroid of each point. */
  readonly labels: Int32Array;
  /** Points of each cluster; none is empty. */
  readonly sizes: Int32Array;
  /** Sum over points of the squared distance to their centroid. */
  readonly inertia: number;
}

/**
 * @param points - n × d, row-major, n ≥ 1.
 * @param clusterCount - wanted k ≥ 1.
 */
export function kMeans(
  points: Float64Array,
  dimensions: number,
  clusterCount: number,
  random: Random,
  options: KMeansOptions = {},
): Clustering {
  const count = points.length / dimensions;
  precondition(Number.isInteger(count) && count >= 1, 'points are a full n × d matrix with n ≥ 1');
  precondition(
    Number.isInteger(clusterCount) && clusterCount >= 1,
    `k is a positive whole number, not ${clusterCount}`,
  );
  let centroids = options.start?.slice() ?? seed(points, dimensions, clusterCount, random);
  const labels = new Int32Array(count).fill(-1);
  const distances = new Float64Array(count);
  const limit = options.iterations ?? 50;
  for (let iteration = 0; ; iteration++) {
    const moved = label(points, dimensions, centroids, labels, distances);
    if (moved === 0 || iteration === limit) break;
    centroids = recentre(points, dimensions, centroids, labels, distances);
  }
  return tidy(points, dimensions, centroids, labels);
}

/** k-means++: each next seed is drawn in proportion to its squared distance from the seeds so far. */
function seed(points: Float64Array, dimensions: number, clusterCount: number, random: Random): Float64Array {
  const count = points.length / dimensions;
  const seeds: number[] = [Math.floor(random.next() * count)];
  const nearest = new Float64Array(count).fill(Number.POSITIVE_INFINITY);
  while (seeds.length < clusterCount) {
    const last = seeds.at(-1)! * dimensions;
    let total = 0;
    for (let i = 0; i < count; i++) {
      const distance = squaredDistance(points, i * dimensions, points, last, dimensions);
      if (distance < nearest[i]!) nearest[i] = distance;
      total += nearest[i]!;
    }
    if (!(total > 0)) break; // every point is a seed already
    let left = random.next() * total;
    let chosen = -1;
    for (let i = 0; i < count; i++) {
      if (nearest[i]! > 0) {
        chosen = i;
        left -= nearest[i]!;
        if (left < 0) break;
      }
    }
    seeds.push(chosen);
  }
  const centroids = new Float64Array(seeds.length * dimensions);
  seeds.forEach((point, k) => {
    centroids.set(points.subarray(point * dimensions, (point + 1) * dimensions), k * dimensions);
  });
  return centroids;
}

/** Gives each point its nearest centroid; returns how many changed. */
function label(
  points: Float64Array,
  dimensions: number,
  centroids: Float64Array,
  labels: Int32Array,
  distances: Float64Array,
): number {
  const clusters = centroids.length / dimensions;
  let moved = 0;
  for (let i = 0, p = 0; i < labels.length; i++, p += dimensions) {
    let best = 0;
    let bestDistance = Number.POSITIVE_INFINITY;
    for (let k = 0, c = 0; k < clusters; k++, c += dimensions) {
      let distance = 0;
      for (let d = 0; d < dimensions; d++) {
        const difference = points[p + d]! - centroids[c + d]!;
        distance += difference * difference;
      }
      if (distance < bestDistance) {
        bestDistance = distance;
        best = k;
      }
    }
    if (labels[i] !== best) {
      labels[i] = best;
      moved++;
    }
    distances[i] = bestDistance;
  }
  return moved;
}

/** Means of the clusters; an empty cluster restarts at the point that is worst served now. */
function recentre(
  points: Float64Array,
  dimensions: number,
  centroids: Float64Array,
  labels: Int32Array,
  distances: Float64Array,
): Float64Array {
  const clusters = centroids.length / dimensions;
  const sums = new Float64Array(centroids.length);
  const sizes = new Int32Array(clusters);
  for (let i = 0, p = 0; i < labels.length; i++, p += dimensions) {
    const k = labels[i]!;
    sizes[k]!++;
    for (let d = 0; d < dimensions; d++) sums[k * dimensions + d]! += points[p + d]!;
  }
  for (let k = 0; k < clusters; k++) {
    if (sizes[k]! > 0) {
      for (let d = 0; d < dimensions; d++) sums[k * dimensions + d]! /= sizes[k]!;
      continue;
    }
    let worst = 0;
    for (let i = 1; i < distances.length; i++) if (distances[i]! > distances[worst]!) worst = i;
    sums.set(points.subarray(worst * dimensions, (worst + 1) * dimensions), k * dimensions);
    distances[worst] = 0;
  }
  return sums;
}

/** Drops clusters that stayed empty, and adds up what is left. */
function tidy(points: Float64Array, dimensions: number, centroids: Float64Array, labels: Int32Array): Clustering {
  const clusters = centroids.length / dimensions;
  const sizes = new Int32Array(clusters);
  for (const k of labels) sizes[k]!++;
  const kept = Array.from(sizes.keys()).filter((k) => sizes[k]! > 0);
  const renamed = new Int32Array(clusters);
  const tidied = new Float64Array(kept.length * dimensions);
  kept.forEach((k, index) => {
    renamed[k] = index;
    tidied.set(centroids.subarray(k * dimensions, (k + 1) * dimensions), index * dimensions);
  });
  let inertia = 0;
  for (let i = 0; i < labels.length; i++) {
    const k = renamed[labels[i]!]!;
    labels[i] = k;
    inertia += squaredDistance(points, i * dimensions, tidied, k * dimensions, dimensions);
  }
  return { centroids: tidied, labels, sizes: Int32Array.from(kept, (k) => sizes[k]!), inertia };
}

/** Squared distance of two rows, given where they start. */
function squaredDistance(a: Float64Array, at: number, b: Float64Array, bt: number, dimensions: number): number {
  let sum = 0;
  for (let d = 0; d < dimensions; d++) {
    const difference = a[at + d]! - b[bt + d]!;
    sum += difference * difference;
  }
  return sum;
}

/**
 * How well a clustering separates its points: the simplified silhouette, the mean over points of 1 − a/b with a the
 * distance to the own centroid and b to the nearest other one. In 0..1, larger is better; 0 for a single cluster.
 */
export function simplifiedSilhouette(points: Float64Array, dimensions: number, clustering: Clustering): number {
  const clusters = clustering.centroids.length / dimensions;
  if (clusters < 2) return 0;
  let sum = 0;
  for (let i = 0; i < clustering.labels.length; i++) {
    let own = 0;
    let other = Number.POSITIVE_INFINITY;
    for (let k = 0; k < clusters; k++) {
      const distance = squaredDistance(points, i * dimensions, clustering.centroids, k * dimensions, dimensions);
      if (k === clustering.labels[i]) own = distance;
      else if (distance < other) other = distance;
    }
    sum += other > 0 ? 1 - Math.sqrt(own / Math.max(own, other)) : 0;
  }
  return sum / clustering.labels.length;
}
