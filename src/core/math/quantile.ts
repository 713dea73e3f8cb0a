// Quantiles: of samples, of the normal and of the Poisson distribution.
import { logFactorial } from './distributions.ts';
import { precondition } from './precondition.ts';

/**
 * Quantile of sorted values, linear between neighbours (Hyndman and Fan's type 7); NaN when there are none.
 *
 * @param length - how many of the values count (from the start), for buffers that are not full.
 */
export function quantile(sorted: ArrayLike<number>, share: number, length: number = sorted.length): number {
  if (length === 0) return Number.NaN;
  const position = Math.min(Math.max(share, 0), 1) * (length - 1);
  const below = Math.floor(position);
  const low = sorted[below]!;
  return below + 1 < length ? low + (position - below) * (sorted[below + 1]! - low) : low;
}

/** First index of a sorted array whose value is at least `value`; `length` when there is none. */
export function lowerBound(sorted: ArrayLike<number>, value: number, length: number = sorted.length): number {
  let low = 0;
  let high = length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (sorted[middle]! < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Inverse of the standard normal distribution (Acklam's rational fit, relative error below 1.2e-9). */
export function normalQuantile(share: number): number {
  precondition(share > 0 && share < 1, `a quantile's share lies in (0, 1), not ${share}`);
  if (share < 0.02425) return tail(Math.sqrt(-2 * Math.log(share)));
  if (share > 1 - 0.02425) return -tail(Math.sqrt(-2 * Math.log(1 - share)));
  const q = share - 0.5;
  const r = q * q;
  const numerator =
    ((((-3.969683028665376e1 * r + 2.209460984245205e2) * r - 2.759285104469687e2) * r + 1.38357751867269e2) * r -
      3.066479806614716e1) *
      r +
    2.506628277459239;
  const denominator =
    ((((-5.447609879822406e1 * r + 1.615858368580409e2) * r - 1.556989798598866e2) * r + 6.680131188771972e1) * r -
      1.328068155288572e1) *
      r +
    1;
  return (numerator * q) / denominator;
}

function tail(q: number): number {
  const numerator =
    ((((-7.784894002430293e-3 * q - 3.223964580411365e-1) * q - 2.400758277161838) * q - 2.549732539343734) * q +
      4.374664141464968) *
      q +
    2.938163982698783;
  const denominator =
    (((7.784695709041462e-3 * q + 3.224671290700398e-1) * q + 2.445134137142996) * q + 3.754408661907416) * q + 1;
  return numerator / denominator;
}

/**
 * Smallest count whose cumulative Poisson probability reaches `share`: exact below a mean of 200, above it by the
 * Cornish-Fisher expansion (off by at most 1).
 */
export function poissonQuantile(mean: number, share: number): number {
  precondition(mean >= 0 && Number.isFinite(mean), `a Poisson mean is finite and not negative, not ${mean}`);
  if (mean === 0) return 0;
  const z = normalQuantile(share);
  const guess = Math.max(0, Math.round(mean + z * Math.sqrt(mean) + (z * z - 1) / 6));
  if (mean >= 200) return guess;
  let cumulative = 0;
  let count = 0;
  // Below 200 neither e^−mean nor the terms underflow.
  for (let probability = Math.exp(-mean); ; probability *= mean / ++count) {
    cumulative += probability;
    if (cumulative >= share || count > guess + 60) return count;
  }
}

/** Probability of exactly `count` Poisson events. */
export const poissonProbability = (mean: number, count: number): number =>
  mean === 0 ? (count === 0 ? 1 : 0) : Math.exp(count * Math.log(mean) - mean - logFactorial(count));
