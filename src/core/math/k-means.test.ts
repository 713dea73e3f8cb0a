import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { kMeans, normal, random, simplifiedSilhouette } from './index.ts';

/** Gaussian blobs around the given centres. */
function blobs(centres: readonly (readonly [number, number])[], each: number, sigma: number, seed: string) {
  const stream = random(seed);
  const points = new Float64Array(centres.length * each * 2);
  for (let i = 0; i < centres.length * each; i++) {
    const [x, y] = centres[i % centres.length]!;
    points[2 * i] = x + sigma * normal(stream);
    points[2 * i + 1] = y + sigma * normal(stream);
  }
  return points;
}

const centres = [
  [0, 0],
  [10, 0],
  [0, 10],
  [10, 10],
  [5, 25],
] as const;

const someMatrix = fc
  .array(fc.tuple(fc.double({ min: -50, max: 50, noNaN: true }), fc.double({ min: -50, max: 50, noNaN: true })), {
    minLength: 1,
    maxLength: 60,
  })
  .map((rows) => Float64Array.from(rows.flat()));

describe('kMeans', () => {
  test('finds well separated blobs, whatever the seed of the best of a few starts', () => {
    for (let k = 2; k <= 5; k++) {
      const points = blobs(centres.slice(0, k), 200, 0.5, `blobs ${k}`);
      const runs = Array.from({ length: 5 }, (_, start) => kMeans(points, 2, k, random(start)));
      const best = runs.reduce((a, b) => (b.inertia < a.inertia ? b : a));
      // 2 coordinates × σ² a point.
      expect(best.inertia / (200 * k)).toBeCloseTo(0.5, 1);
      expect([...best.sizes].every((size) => size === 200)).toBe(true);
    }
  });

  test('at its end each point has its nearest centroid, no cluster is empty, and the inertia is the sum it claims', () => {
    fc.assert(
      fc.property(someMatrix, fc.integer({ min: 1, max: 8 }), fc.integer(), (points, k, seed) => {
        const { centroids, labels, sizes, inertia } = kMeans(points, 2, k, random(seed));
        const clusters = centroids.length / 2;
        const squared = (i: number, c: number) =>
          (points[2 * i]! - centroids[2 * c]!) ** 2 + (points[2 * i + 1]! - centroids[2 * c + 1]!) ** 2;
        let sum = 0;
        labels.forEach((own, i) => {
          for (let c = 0; c < clusters; c++) expect(squared(i, own)).toBeLessThanOrEqual(squared(i, c));
          sum += squared(i, own);
        });
        expect(inertia).toBeCloseTo(sum, 6);
        expect(clusters).toBeLessThanOrEqual(k);
        expect(sizes.every((size) => size > 0)).toBe(true);
        expect(sizes.reduce((a, b) => a + b, 0)).toBe(labels.length);
      }),
    );
  });

  test('more clusters from the same start never fit worse than one cluster', () => {
    fc.assert(
      fc.property(someMatrix, fc.integer(), (points, seed) => {
        const one = kMeans(points, 2, 1, random(seed)).inertia;
        expect(kMeans(points, 2, 4, random(seed)).inertia).toBeLessThanOrEqual(one + 1e-9);
      }),
    );
  });

  test('equal points make one cluster, however many are asked for', () => {
    const { centroids, inertia } = kMeans(new Float64Array(40).fill(3), 2, 4, random(1));
    expect([...centroids]).toEqual([3, 3]);
    expect(inertia).toBe(0);
  });

  test('starts from given centroids and keeps their order', () => {
    const points = blobs(centres.slice(0, 3), 100, 0.3, 'start');
    const { centroids } = kMeans(points, 2, 3, random(1), { start: Float64Array.of(1, 9, 1, 1, 9, 1) });
    expect([...centroids].map((value) => Math.round(value) + 0)).toEqual([0, 10, 0, 0, 10, 0]);
  });

  test('equal seeds give equal clusterings', () => {
    const points = blobs(centres, 100, 3, 'same');
    expect(kMeans(points, 2, 4, random(8))).toEqual(kMeans(points, 2, 4, random(8)));
  });
});

test('the simplified silhouette is largest at the true number of clusters', () => {
  for (let truth = 2; truth <= 5; truth++) {
    const points = blobs(centres.slice(0, truth), 150, 0.6, `silhouette ${truth}`);
    const score = (k: number) => {
      const runs = Array.from({ length: 6 }, (_, start) => kMeans(points, 2, k, random(start)));
      return simplifiedSilhouette(
        points,
        2,
        runs.reduce((a, b) => (b.inertia < a.inertia ? b : a)),
      );
    };
    const scores = [2, 3, 4, 5, 6, 7, 8].map(score);
    expect(2 + scores.indexOf(Math.max(...scores))).toBe(truth);
  }
});
