// The counts behind the posterior: which types came of which kind of request, with decay.
import type { FinishedRequest, WorkloadModel } from '../domain/index.ts';
import { countsKey, inputBucket, LIMIT_BUCKETS, limitBucket, parseCountsKey, TENANT_LIMIT } from './keys.ts';
import { typeOfFinished } from './posterior.ts';

/** Counts below this say nothing; their keys are dropped so that the table stays small. */
const FORGOTTEN_COUNT = 0.05;

/**
 * Decayed counts by key. The requests given are counted afresh under the new labels. Of the standing counts only the part
 * that they do not cover is carried over: a request that was counted before and is given again must not count twice.
 *
 * @param bare - the new types; its `fittedToSeconds` is the time that counts are decayed to.
 * @param labels - type of each finished request; −1 for none.
 */
export function countForPosterior(
  bare: WorkloadModel,
  finished: readonly FinishedRequest[],
  labels: readonly number[],
  previous: WorkloadModel | null,
  halfLifeSeconds: number,
): Record<string, number[]> {
  const decay = (fromSeconds: number, toSeconds: number): number => 2 ** (-(toSeconds - fromSeconds) / halfLifeSeconds);
  const counts = new Counts(bare.types.length, frequentTenants(finished, previous));
  /** Of the standing mass of each model: how much the requests given were. */
  const covered = new Map<string, number>();
  finished.forEach((request, i) => {
    const label = labels[i]!;
    if (label < 0) return;
    const { model, inputTokens, maxTokens, tenant = '', finishedSeconds } = request;
    const cell = counts.cell(model, inputBucket(inputTokens), tenant, limitBucket(maxTokens));
    cell[label]! += decay(finishedSeconds, bare.fittedToSeconds);
    if (previous && finishedSeconds <= previous.fittedToSeconds)
      covered.set(model, (covered.get(model) ?? 0) + decay(finishedSeconds, previous.fittedToSeconds));
  });
  if (previous) carryOver(bare, previous, covered, decay(previous.fittedToSeconds, bare.fittedToSeconds), counts);
  return counts.toRecord();
}

function carryOver(
  bare: WorkloadModel,
  previous: WorkloadModel,
  covered: ReadonlyMap<string, number>,
  decay: number,
  counts: Counts,
): void {
  // Where the mass of a standing type goes: to itself, or to the nearest type when it is gone.
  const target = previous.types.map((type) => {
    const same = bare.types.findIndex((other) => other.id === type.id);
    if (same >= 0) return same;
    return typeOfFinished(bare, {
      model: type.model,
      inputTokens: Math.exp(type.logInput),
      outputTokens: Math.exp(type.logOutput),
    });
  });
  const entries = Object.entries(previous.posteriorCounts).map(
    ([key, values]) => [parseCountsKey(key), values] as const,
  );
  const mass = new Map<string, number>();
  for (const [[model], values] of entries) mass.set(model, (mass.get(model) ?? 0) + total(values));
  for (const [[model, input, tenant, limit], values] of entries) {
    const left = decay * Math.max(0, 1 - (covered.get(model) ?? 0) / mass.get(model)!);
    if (left === 0) continue;
    const cell = counts.cell(model, input, tenant, limit);
    values.forEach((value, j) => {
      if (target[j]! >= 0) cell[target[j]!]! += left * value;
    });
  }
}

const total = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0);

type ByTenant<Value> = Map<string, Map<string, Value>>;

/** Cells by model, tenant and bucket; tenants without a key of their own share that of ''. */
class Counts {
  readonly #typeCount: number;
  readonly #tenants: ByTenant<number>;
  readonly #cells: ByTenant<Map<number, number[]>> = new Map();

  constructor(typeCount: number, tenants: ByTenant<number>) {
    this.#typeCount = typeCount;
    this.#tenants = tenants;
  }

  cell(model: string, input: number, tenant: string, limit: number): number[] {
    const known = this.#tenants.get(model)?.has(tenant) ? tenant : '';
    const buckets = inner(inner(this.#cells, model, newMap<Map<number, number[]>>), known, () => new Map());
    return inner(buckets, input * LIMIT_BUCKETS + limit, () => new Array<number>(this.#typeCount).fill(0));
  }

  toRecord(): Record<string, number[]> {
    const record: Record<string, number[]> = {};
    for (const [model, ofModel] of this.#cells)
      for (const [tenant, buckets] of ofModel)
        for (const [bucket, values] of buckets) {
          if (values.every((value) => value < FORGOTTEN_COUNT)) continue;
          record[countsKey(model, Math.floor(bucket / LIMIT_BUCKETS), tenant, bucket % LIMIT_BUCKETS)] = values;
        }
    return record;
  }
}

/** The tenants of each model that get keys of their own: the most frequent ones, ties by name. */
function frequentTenants(finished: readonly FinishedRequest[], previous: WorkloadModel | null): ByTenant<number> {
  const weight: ByTenant<number> = new Map();
  const add = (model: string, tenant: string | undefined, count: number): void => {
    if (!tenant) return;
    const ofModel = inner(weight, model, newMap<number>);
    ofModel.set(tenant, (ofModel.get(tenant) ?? 0) + count);
  };
  for (const request of finished) add(request.model, request.tenant, 1);
  for (const [key, values] of Object.entries(previous?.posteriorCounts ?? {})) {
    const [model, , tenant] = parseCountsKey(key);
    add(model, tenant, total(values));
  }
  for (const [model, ofModel] of weight) {
    const byWeight = [...ofModel].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
    weight.set(model, new Map(byWeight.slice(0, TENANT_LIMIT)));
  }
  return weight;
}

const newMap = <Value>(): Map<string, Value> => new Map();

/** The entry of a map, made when it is not there. */
function inner<Key, Value>(map: Map<Key, Value>, key: Key, make: () => Value): Value {
  let value = map.get(key);
  if (value === undefined) {
    value = make();
    map.set(key, value);
  }
  return value;
}
