// The few statistics that a decision rests on.

/** One-sided 90 % quantiles of Student's t for 1, 2, … degrees of freedom; the normal quantile beyond. */
const STUDENT_T90 = [3.078, 1.886, 1.638, 1.533, 1.476, 1.44, 1.415, 1.397, 1.383, 1.372];

/**
 * Lower bound, one-sided 90 %, of a difference between two statistics of pooled groups, by the jackknife: the statistic
 * is taken again with each group left out.
 *
 * @param whole - the difference over all groups.
 * @param without - the difference with group i left out, for each i.
 * @returns −∞ for fewer than two groups.
 */
export function jackknifeLowerBound(whole: number, without: readonly number[]): number {
  const n = without.length;
  if (n < 2) return Number.NEGATIVE_INFINITY;
  const mean = without.reduce((sum, value) => sum + value, 0) / n;
  const variance = ((n - 1) / n) * without.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  return whole - (STUDENT_T90[n - 2] ?? 1.282) * Math.sqrt(variance);
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
