// From fractional counts to a deployment that is allowed and good: round down, give every model what it must have, then
// fill the GPUs that are left, each time with the class that the present prices value most per GPU; at last exchange single
// replicas as long as that helps.
import type { DeploymentSpace } from './deployment-space.ts';
import type { DeploymentValue } from './deployment-value.ts';

/** Below this a fraction is rounding. */
const WHOLE = 1e-6;
/** Exchanges tried at most. */
const MOST_EXCHANGES = 24;

export interface FoundDeployment {
  readonly counts: Int32Array;
  readonly value: number;
}

export function roundRelaxed(
  space: DeploymentSpace,
  value: DeploymentValue,
  relaxed: Float64Array,
  lower: Int32Array,
  upper: Int32Array,
): FoundDeployment | null {
  const counts = Int32Array.from(relaxed, (count, k) =>
    Math.min(upper[k]!, Math.max(lower[k]!, Math.floor(count + WHOLE))),
  );
  if (!completeModels(space, counts, upper, relaxed)) return null;
  const byFraction = [...counts.keys()]
    .filter((k) => relaxed[k]! - counts[k]! > WHOLE)
    .sort((a, b) => relaxed[b]! - counts[b]! - (relaxed[a]! - counts[a]!) || a - b);
  for (const k of byFraction) tryAdd(space, counts, upper, k);
  const best = fillUp(space, value, counts, upper);
  return exchange(space, value, { counts, value: best }, lower, upper);
}

/** Adds what the count rows ask for, classes that the relaxation favours first; false when it does not fit. */
export function completeModels(
  space: DeploymentSpace,
  counts: Int32Array,
  upper: Int32Array,
  preference: ArrayLike<number>,
): boolean {
  if (!space.fits(counts)) return false;
  for (const { classes, lower } of space.countRows) {
    let sum = 0;
    for (const k of classes) sum += counts[k]!;
    const order = [...classes].sort(
      (a, b) => preference[b]! - preference[a]! || space.gpus[a]! - space.gpus[b]! || a - b,
    );
    for (let next = 0; sum < lower && next < order.length; ) {
      if (tryAdd(space, counts, upper, order[next]!)) sum++;
      else next++;
    }
    if (sum < lower) return false;
  }
  return true;
}

export function tryAdd(space: DeploymentSpace, counts: Int32Array, upper: Int32Array, k: number): boolean {
  if (counts[k]! >= upper[k]!) return false;
  counts[k] = counts[k]! + 1;
  if (space.fits(counts)) return true;
  counts[k] = counts[k]! - 1;
  return false;
}

/** Adds replicas in place until nothing of worth fits; returns the value reached. */
export function fillUp(space: DeploymentSpace, value: DeploymentValue, counts: Int32Array, upper: Int32Array): number {
  for (;;) {
    const reached = value.of(counts);
    const prices = value.prices;
    let chosen = -1;
    let most = 0;
    for (let k = 0; k < counts.length; k++) {
      // Where a type is served by nobody yet there is no price to go by, only that someone must serve it.
      const worth = (reached > 0 && prices !== null ? prices[k]! : value.missingServed(counts, k)) / space.gpus[k]!;
      if (worth <= most + 1e-12 || !tryAdd(space, counts, upper, k)) continue;
      counts[k] = counts[k]! - 1;
      chosen = k;
      most = worth;
    }
    if (chosen < 0) return reached;
    counts[chosen] = counts[chosen]! + 1;
  }
}

/** Takes one replica away and puts others in its place, as long as the value rises. */
function exchange(
  space: DeploymentSpace,
  value: DeploymentValue,
  found: FoundDeployment,
  lower: Int32Array,
  upper: Int32Array,
): FoundDeployment {
  let best = found;
  let left = MOST_EXCHANGES;
  for (let improved = true; improved && left > 0; ) {
    improved = false;
    for (let out = 0; out < best.counts.length && !improved; out++) {
      if (best.counts[out]! <= lower[out]!) continue;
      for (let into = 0; into < best.counts.length && !improved && left > 0; into++) {
        if (into === out) continue;
        const trial = best.counts.slice();
        trial[out] = trial[out]! - 1;
        let added = 0;
        while (added < space.gpus[out]! + 1 && tryAdd(space, trial, upper, into)) added++;
        if (added === 0 || !space.isAllowed(trial)) continue;
        if (value.bound(trial) <= best.value * (1 + 1e-9)) continue;
        left--;
        const reached = fillUp(space, value, trial, upper);
        if (reached > best.value * (1 + 1e-9)) {
          best = { counts: trial, value: reached };
          improved = true;
        }
      }
    }
  }
  return best;
}
