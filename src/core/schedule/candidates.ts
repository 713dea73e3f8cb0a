// Deployments for the twin to judge. The linear share model knows capacity, not latency: once all arrivals are carried with
// room to spare, many deployments are equal to it, and the best for latency may be any of them. So candidates are good
// *and different*: the best, the best homogeneous ones, what runs now, then always the one that adds most of quality and
// distance (share of GPUs that are allocated otherwise) to those already chosen.

import type { Demand } from './demand.ts';
import { completeModels, fillUp, tryAdd } from './deployment-rounding.ts';
import type { DeploymentSpace } from './deployment-space.ts';
import type { DeploymentValue } from './deployment-value.ts';
import type { CandidateDeployment } from './search-problem.ts';

/** Above this many times the arrivals, more capacity is no longer counted as better: utilisation 0.6. */
const AMPLE_VALUE = 1 / 0.6;
/** A candidate carries the arrivals at this utilisation, or nearly as much as the best. */
const COMFORTABLE_UTILISATION = 0.9;
const NEARLY_SHARE = 0.85;
/** Layouts alone: at low load the one with the least capacity may have the best latency. */
const HOMOGENEOUS_KEPT = 4;
/** Classes of a model that are mixed in pairs, and the parts of its GPUs that the first one gets. */
const CLASSES_MIXED = 6;
const MIX_SHARES = [0.25, 0.5, 0.75] as const;
/** How much being different counts against capacity, and how much each halving of capacity costs even where it is ample. */
const DISTANCE_WEIGHT = 0.5;
const HALVING_WEIGHT = 0.3;

/** Every allowed deployment met so far, once. */
export class CandidatePool {
  readonly #space: DeploymentSpace;
  readonly #byKey = new Map<string, { counts: Int32Array; value: number; origin: CandidateDeployment['origin'] }>();

  constructor(space: DeploymentSpace) {
    this.#space = space;
  }

  offer(counts: Int32Array, value: number, origin: CandidateDeployment['origin']): void {
    const key = counts.join();
    const known = this.#byKey.get(key);
    if (known !== undefined) {
      if (RANK[origin] < RANK[known.origin]) known.origin = origin;
      return;
    }
    if (this.#space.isAllowed(counts)) this.#byKey.set(key, { counts: counts.slice(), value, origin });
  }

  has(counts: Int32Array): boolean {
    return this.#byKey.has(counts.join());
  }

  all(): { counts: Int32Array; value: number; origin: CandidateDeployment['origin'] }[] {
    return [...this.#byKey.values()];
  }
}

const RANK = { best: 0, previous: 1, homogeneous: 2, mixed: 3 } as const;

export function pickCandidates(
  space: DeploymentSpace,
  value: DeploymentValue,
  demand: Demand,
  pool: CandidatePool,
  count: number,
): CandidateDeployment[] {
  const best = pool.all().find(({ origin }) => origin === 'best')!;
  addVariations(space, value, demand, pool, best);
  const floor = Math.min(1 / COMFORTABLE_UTILISATION, NEARLY_SHARE * best.value);
  const open = pool.all().sort((a, b) => RANK[a.origin] - RANK[b.origin] || b.value - a.value || compare(a, b));
  const chosen = open.filter(({ origin }) => origin === 'best' || origin === 'previous');
  chosen.push(
    ...open.filter(({ origin, value: reached }) => origin === 'homogeneous' && reached > 0).slice(0, HOMOGENEOUS_KEPT),
  );
  const quality = (reached: number) =>
    Math.min(reached, AMPLE_VALUE) / Math.min(best.value, AMPLE_VALUE) +
    HALVING_WEIGHT * Math.log2(reached / best.value);

  const rest = new Map(open.filter((c) => c.value >= floor && !chosen.includes(c)).map((c) => [c, 1]));
  let seen = 0;
  while (chosen.length < count && rest.size > 0) {
    for (; seen < chosen.length; seen++) {
      for (const [candidate, distance] of rest) {
        rest.set(candidate, Math.min(distance, distanceOf(space, candidate.counts, chosen[seen]!.counts)));
      }
    }
    let next: (typeof open)[number] | null = null;
    let most = Number.NEGATIVE_INFINITY;
    for (const [candidate, distance] of rest) {
      const score = quality(candidate.value) + DISTANCE_WEIGHT * distance;
      if (score > most + 1e-9) {
        most = score;
        next = candidate;
      }
    }
    if (next === null) break;
    rest.delete(next);
    chosen.push(next);
  }
  return chosen.slice(0, count).map(({ counts, value: reached, origin }) => ({
    counts: Array.from(counts),
    value: reached,
    utilisation: reached > 0 ? 1 / reached : Number.POSITIVE_INFINITY,
    origin,
  }));
}

/** Larger counts of earlier classes first: only to make the order of equals definite. */
function compare(a: { counts: Int32Array }, b: { counts: Int32Array }): number {
  const at = a.counts.findIndex((count, k) => count !== b.counts[k]);
  return at < 0 ? 0 : b.counts[at]! - a.counts[at]!;
}

/** Share of GPUs that two deployments allocate differently, 0..1. */
function distanceOf(space: DeploymentSpace, a: Int32Array, b: Int32Array): number {
  let different = 0;
  for (let k = 0; k < a.length; k++) different += Math.abs(a[k]! - b[k]!) * space.gpus[k]!;
  return different / Math.max(1, space.gpusUsed(a) + space.gpusUsed(b));
}

/** Model by model on the GPUs that the best deployment gives it: every class alone, and the good ones in pairs. */
function addVariations(
  space: DeploymentSpace,
  value: DeploymentValue,
  demand: Demand,
  pool: CandidatePool,
  best: { counts: Int32Array; value: number },
): void {
  const single = space.classesByModel.size === 1;
  for (const own of space.classesByModel.values()) {
    const others = best.counts.map((count, k) => (own.includes(k) ? space.lower[k]! : count));
    const budget = single
      ? Number.POSITIVE_INFINITY
      : own.reduce((sum, k) => sum + best.counts[k]! * space.gpus[k]!, 0);
    const ranked: { k: number; value: number }[] = [];
    for (const k of own) {
      const counts = filled(space, others, [{ k, gpus: budget }]);
      if (counts === null) continue;
      const reached = value.of(counts);
      // Alone means alone: with a replica of full length beside it, it is a mix like others.
      const alone = own.every((other) => other === k || counts[other] === 0);
      pool.offer(counts, reached, alone ? 'homogeneous' : 'mixed');
      ranked.push({ k, value: reached });
    }
    ranked.sort((a, b) => b.value - a.value || a.k - b.k);
    const mixed = diverse(space, demand, ranked).slice(0, CLASSES_MIXED);
    const total = Math.min(
      budget,
      space.problem.nodes.reduce((sum, node) => sum + node.usableCount, 0),
    );
    for (const [i, a] of mixed.entries()) {
      for (const b of mixed.slice(i + 1)) {
        for (const share of MIX_SHARES) {
          const counts = filled(space, others, [
            { k: a, gpus: share * total },
            { k: b, gpus: budget },
          ]);
          if (counts === null || pool.has(counts)) continue;
          if (value.bound(counts) < Math.min(1 / COMFORTABLE_UTILISATION, NEARLY_SHARE * best.value)) continue;
          pool.offer(counts, value.of(counts), 'mixed');
        }
      }
    }
    if (single) continue;
    // What a model leaves of its GPUs may help another one.
    const counts = others.slice();
    if (completeModels(space, counts, space.upper, best.counts))
      pool.offer(counts, fillUp(space, value, counts, space.upper), 'mixed');
  }
}

/** Good classes first, and the best for each type even where it is poor for the others. */
function diverse(space: DeploymentSpace, demand: Demand, ranked: readonly { k: number }[]): number[] {
  const count = demand.types.length;
  const champions = demand.types.map((_, j) =>
    ranked.reduce<{ k: number } | undefined>((best, one) => {
      const rate = ({ k }: { k: number }) => demand.serviceRate[k * count + j]! / space.gpus[k]!;
      return rate(one) > 0 && (best === undefined || rate(one) > rate(best)) ? one : best;
    }, undefined),
  );
  return [
    ...new Set([...ranked.slice(0, 3), ...champions.filter((one) => one !== undefined), ...ranked].map(({ k }) => k)),
  ];
}

/** Adds classes in turn, each up to its GPUs, and what each model must have; null when that does not fit. */
function filled(
  space: DeploymentSpace,
  start: Int32Array,
  parts: readonly { readonly k: number; readonly gpus: number }[],
): Int32Array | null {
  const counts = start.slice();
  // A model's replica of full length should be of a class that is wanted anyway.
  const preference = new Float64Array(counts.length);
  parts.forEach(({ k }, i) => {
    preference[k] = parts.length - i;
  });
  if (!completeModels(space, counts, space.upper, preference)) return null;
  const own = new Set(space.classesByModel.get(space.problem.classes[parts[0]!.k]!.model)!);
  let used = counts.reduce((sum, count, k) => (own.has(k) ? sum + count * space.gpus[k]! : sum), 0);
  for (const { k, gpus } of parts) {
    let mine = counts[k]! * space.gpus[k]!;
    const most = parts.at(-1)!.gpus;
    while (
      mine + space.gpus[k]! <= gpus + 1e-9 &&
      used + space.gpus[k]! <= most &&
      tryAdd(space, counts, space.upper, k)
    ) {
      mine += space.gpus[k]!;
      used += space.gpus[k]!;
    }
  }
  return counts;
}
