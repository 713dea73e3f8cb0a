// Draws from the usual distributions. Each takes the stream and its parameters and keeps no state, so equal streams give
// equal draws.
import { precondition } from './precondition.ts';
import type { Random } from './random.ts';

/** Exponential with the given mean. */
export const exponential = (random: Random, mean: number): number => -mean * Math.log(1 - random.next());

/** Standard normal (Box and Muller; two draws each, so that streams stay in step). */
export function normal(random: Random): number {
  const radius = Math.sqrt(-2 * Math.log(1 - random.next()));
  return radius * Math.cos(2 * Math.PI * random.next());
}

/** exp(mu + sigma × normal). Its median is exp(mu), its mean exp(mu + sigma²/2). */
export const logNormal = (random: Random, mu: number, sigma: number): number => Math.exp(mu + sigma * normal(random));

/** Gamma with the given shape and scale (mean shape × scale); Marsaglia and Tsang 2000. */
export function gamma(random: Random, shape: number, scale: number): number {
  precondition(shape > 0 && scale >= 0, `a gamma needs shape > 0 and scale >= 0, not ${shape} and ${scale}`);
  // Below shape 1: draw at shape + 1 and shrink by a power of a uniform.
  if (shape < 1) return gamma(random, shape + 1, scale) * (1 - random.next()) ** (1 / shape);
  const d = shape - 1 / 3;
  const c = 1 / Math.sqrt(9 * d);
  for (;;) {
    const x = normal(random);
    const v = (1 + c * x) ** 3;
    if (v <= 0) continue;
    if (Math.log(1 - random.next()) < 0.5 * x * x + d - d * v + d * Math.log(v)) return d * v * scale;
  }
}

/** Poisson count with the given mean; exact at any mean (inversion below 10, Hörmann's PTRS 1993 above). */
export function poissonCount(random: Random, mean: number): number {
  precondition(mean >= 0 && mean < Number.POSITIVE_INFINITY, `a Poisson mean is finite and not negative, not ${mean}`);
  return mean < 10 ? poissonByInversion(random, mean) : poissonByRejection(random, mean);
}

function poissonByInversion(random: Random, mean: number): number {
  let probability = Math.exp(-mean);
  let left = random.next();
  let count = 0;
  while (left >= probability && probability > 0) {
    left -= probability;
    count++;
    probability *= mean / count;
  }
  return count;
}

function poissonByRejection(random: Random, mean: number): number {
  const root = Math.sqrt(mean);
  const b = 0.931 + 2.53 * root;
  const a = -0.059 + 0.02483 * b;
  const inverseAlpha = 1.1239 + 1.1328 / (b - 3.4);
  const vR = 0.9277 - 3.6224 / (b - 2);
  for (;;) {
    const u = random.next() - 0.5;
    const v = random.next();
    const us = 0.5 - Math.abs(u);
    const count = Math.floor(((2 * a) / us + b) * u + mean + 0.43);
    if (us >= 0.07 && v <= vR) return count;
    if (count < 0 || (us < 0.013 && v > us)) continue;
    if (Math.log((v * inverseAlpha) / (a / (us * us) + b)) <= count * Math.log(mean) - mean - logFactorial(count))
      return count;
  }
}

/** Index drawn with probability proportional to its weight. */
export function weightedIndex(random: Random, weights: ArrayLike<number>): number {
  let total = 0;
  for (let i = 0; i < weights.length; i++) total += weights[i]!;
  precondition(total > 0, 'weights to draw from have a positive sum');
  let left = random.next() * total;
  for (let i = 0; i < weights.length; i++) {
    left -= weights[i]!;
    if (left < 0) return i;
  }
  // Rounding may leave a crumb: the last index that can be drawn at all.
  for (let i = weights.length - 1; ; i--) if (weights[i]! > 0) return i;
}

/** ln(n!), by Stirling's series above 15 (error below 1e-12). */
export function logFactorial(n: number): number {
  if (n < 16) {
    let product = 1;
    for (let i = 2; i <= n; i++) product *= i;
    return Math.log(product);
  }
  const x = n + 1;
  const inverse = 1 / x;
  const square = inverse * inverse;
  return (
    (x - 0.5) * Math.log(x) -
    x +
    0.5 * Math.log(2 * Math.PI) +
    inverse * (1 / 12 - square * (1 / 360 - square * (1 / 1260 - square / 1680)))
  );
}
