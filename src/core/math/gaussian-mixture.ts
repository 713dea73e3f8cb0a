// Mixtures of normal distributions in the plane: drawn from, and fitted by expectation maximisation (Dempster, Laird and
// Rubin 1977) from the best of a few k-means starts. Equal inputs give equal fits.
import { normal, weightedIndex } from './distributions.ts';
import { kMeans } from './k-means.ts';
import { precondition } from './precondition.ts';
import type { Random } from './random.ts';

/** One component: its weight, its mean, its standard deviations and the correlation of x and y. */
export interface PlaneNormal {
  readonly weight: number;
  readonly meanX: number;
  readonly meanY: number;
  readonly sigmaX: number;
  readonly sigmaY: number;
  readonly correlation: number;
}

/** A point of the mixture, written into `out`. Three uniforms' worth of draws, always. */
export function drawFromMixture(random: Random, components: readonly PlaneNormal[], out: Float64Array): void {
  const weights = components.map((component) => component.weight);
  const component = components[weightedIndex(random, weights)]!;
  const first = normal(random);
  const second = normal(random);
  const rest = Math.sqrt(1 - component.correlation ** 2);
  out[0] = component.meanX + component.sigmaX * first;
  out[1] = component.meanY + component.sigmaY * (component.correlation * first + rest * second);
}

/** No component becomes narrower than this, nor a line: a repeated point would have infinite density. */
const SMALLEST_SIGMA = 0.02;
const LARGEST_CORRELATION = 0.98;

/** Expectation maximisation ends in a local optimum: so many starts run on a part of the points, the best on all. */
const STARTS = 8;
const POINTS_TO_COMPARE = 4000;
const ITERATIONS_TO_COMPARE = 100;
const ITERATIONS = 300;

/**
 * @param points - n × 2, row-major; their order should not matter to what they mean.
 * @returns components, heaviest first.
 */
export function fitMixture(points: Float64Array, componentCount: number, random: Random): PlaneNormal[] {
  const count = points.length / 2;
  precondition(count >= componentCount && componentCount >= 1, 'there are as many points as components');
  const some = everyNth(points, Math.ceil(count / POINTS_TO_COMPARE));
  let best: Fit | null = null;
  for (let start = 0; start < STARTS; start++) {
    const { labels, sizes } = kMeans(some, 2, Math.min(componentCount, some.length / 2), random.fork(`start ${start}`));
    const share = new Float64Array(labels.length * sizes.length);
    labels.forEach((label, i) => {
      share[i * sizes.length + label] = 1;
    });
    const fit = improve(some, maximise(some, share, sizes.length), ITERATIONS_TO_COMPARE);
    if (best === null || fit.logLikelihood > best.logLikelihood) best = fit;
  }
  const { components } = improve(points, best!.components, ITERATIONS);
  return components.sort((a, b) => b.weight - a.weight || a.meanX - b.meanX);
}

interface Fit {
  readonly components: PlaneNormal[];
  readonly logLikelihood: number;
}

function improve(points: Float64Array, start: readonly PlaneNormal[], iterations: number): Fit {
  const count = points.length / 2;
  /** Responsibility of each component for each point. */
  const share = new Float64Array(count * start.length);
  let components = [...start];
  let logLikelihood = Number.NEGATIVE_INFINITY;
  for (let iteration = 0; iteration < iterations; iteration++) {
    const before = logLikelihood;
    logLikelihood = expect(points, components, share);
    components = maximise(points, share, start.length);
    if (logLikelihood - before < 1e-7 * count) break;
  }
  return { components, logLikelihood };
}

function everyNth(points: Float64Array, n: number): Float64Array {
  const count = Math.ceil(points.length / 2 / n);
  const some = new Float64Array(2 * count);
  for (let i = 0; i < count; i++) some.set(points.subarray(2 * i * n, 2 * i * n + 2), 2 * i);
  return some;
}

/** Expectation: who is responsible for each point; returns the log-likelihood. */
function expect(points: Float64Array, components: readonly PlaneNormal[], share: Float64Array): number {
  const clusters = components.length;
  let logLikelihood = 0;
  for (let i = 0; i < points.length / 2; i++) {
    let sum = 0;
    for (let k = 0; k < clusters; k++) {
      const density = components[k]!.weight * densityOf(components[k]!, points[2 * i]!, points[2 * i + 1]!);
      share[i * clusters + k] = density;
      sum += density;
    }
    // A point that is infinitely far from all belongs to all alike.
    for (let k = 0; k < clusters; k++)
      share[i * clusters + k] = sum > 0 ? share[i * clusters + k]! / sum : 1 / clusters;
    logLikelihood += Math.log(Math.max(sum, Number.MIN_VALUE));
  }
  return logLikelihood;
}

function densityOf(component: PlaneNormal, pointX: number, pointY: number): number {
  const { sigmaX, sigmaY, correlation } = component;
  const x = (pointX - component.meanX) / sigmaX;
  const y = (pointY - component.meanY) / sigmaY;
  const free = 1 - correlation * correlation;
  return (
    Math.exp(-(x * x - 2 * correlation * x * y + y * y) / (2 * free)) /
    (2 * Math.PI * sigmaX * sigmaY * Math.sqrt(free))
  );
}

/** Maximisation: weighted moments. */
function maximise(points: Float64Array, share: Float64Array, clusters: number): PlaneNormal[] {
  const count = points.length / 2;
  return Array.from({ length: clusters }, (_, k) => {
    let weight = 0;
    let x = 0;
    let y = 0;
    for (let i = 0; i < count; i++) {
      const w = share[i * clusters + k]!;
      weight += w;
      x += w * points[2 * i]!;
      y += w * points[2 * i + 1]!;
    }
    const meanX = x / weight;
    const meanY = y / weight;
    let xx = 0;
    let yy = 0;
    let xy = 0;
    for (let i = 0; i < count; i++) {
      const w = share[i * clusters + k]!;
      const dx = points[2 * i]! - meanX;
      const dy = points[2 * i + 1]! - meanY;
      xx += w * dx * dx;
      yy += w * dy * dy;
      xy += w * dx * dy;
    }
    const sigmaX = Math.max(SMALLEST_SIGMA, Math.sqrt(xx / weight));
    const sigmaY = Math.max(SMALLEST_SIGMA, Math.sqrt(yy / weight));
    const correlation = Math.min(LARGEST_CORRELATION, Math.max(-LARGEST_CORRELATION, xy / weight / (sigmaX * sigmaY)));
    return { weight: weight / count, meanX, meanY, sigmaX, sigmaY, correlation };
  });
}
