// The few statistics that a decision rests on.

/** One-sided 90 % quantiles of Student's t for 1, 2, … degrees of freedom; the normal quantile beyond. */
const STUDENT_T90 = [3.078, 1.886, 1.638, 1.533, 1.476, 1.44, 1.415, 1.397, 1.383, 1.372];

/** Lower bound, one-sided 90 %, of the mean of paired differences. −∞ for fewer than two pairs. */
export function pairedLowerBound(differences: readonly number[]): number {
  const n = differences.length;
  if (n < 2) return Number.NEGATIVE_INFINITY;
  const mean = differences.reduce((sum, value) => sum + value, 0) / n;
  const variance = differences.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (n - 1);
  return mean - (STUDENT_T90[n - 2] ?? 1.282) * Math.sqrt(variance / n);
}

/** Mean of the slowest `share` of the values (at least one value): the expected tail, steadier than a percentile. */
export function tailMean(values: readonly number[], share: number): number {
  if (values.length === 0) return 0;
  const sorted = Float64Array.from(values).sort();
  const count = Math.max(1, Math.round(sorted.length * share));
  let sum = 0;
  for (let i = sorted.length - count; i < sorted.length; i++) sum += sorted[i]!;
  return sum / count;
}

export const mean = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / Math.max(1, values.length);
