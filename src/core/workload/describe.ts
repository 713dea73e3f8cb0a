// Given the types' centroids: which finished request is whose, mean lengths, samples, and the counts behind the posterior.
import type { FinishedRequest, Random, WorkloadModel, WorkloadType } from '../domain/index.ts';
import { countsKey, inputBucket, limitBucket, parseCountsKey, TENANT_LIMIT } from './keys.ts';
import { typeOfFinished } from './posterior.ts';

export interface WorkloadOptions {
  /** Types per model; 'auto' chooses 2..8 by the simplified silhouette. */
  readonly typeCount?: number | 'auto';
  /** Real (input, output) pairs kept per type. */
  readonly samplesPerType?: number;
  /** After this long a finished request counts half in the posterior. */
  readonly halfLifeSeconds?: number;
}

/** What makes a type the type it is. */
export type TypeCore = Pick<WorkloadType, 'id' | 'model' | 'logInput' | 'logOutput'>;

export interface Description {
  readonly version: number;
  readonly types: readonly TypeCore[];
  readonly finished: readonly FinishedRequest[];
  readonly previous: WorkloadModel | null;
  readonly random: Random;
  readonly options: WorkloadOptions;
}

const DEFAULT_SAMPLES = 256;
const DEFAULT_HALF_LIFE_SECONDS = 1800;
/** Counts below this say nothing; their keys are dropped so that the table stays small. */
const FORGOTTEN_COUNT = 0.05;

export function describe({ version, types, finished, previous, random, options }: Description): WorkloadModel {
  const bare: WorkloadModel = {
    version,
    fittedToSeconds: finished.reduce(
      (newest, request) => Math.max(newest, request.finishedSeconds),
      previous?.fittedToSeconds ?? 0,
    ),
    types: types.map((core) => ({ ...core, inputTokens: 0, outputTokens: 0, samples: [] })),
    posteriorCounts: {},
  };
  const labels = finished.map((request) => typeOfFinished(bare, request));
  const limit = options.samplesPerType ?? DEFAULT_SAMPLES;
  const membersOf: FinishedRequest[][] = types.map(() => []);
  finished.forEach((request, i) => {
    if (labels[i]! >= 0) membersOf[labels[i]!]!.push(request);
  });
  return {
    ...bare,
    types: types.map((core, j) => {
      const before = previous?.types.find((type) => type.id === core.id);
      return describeType(core, membersOf[j]!, before, limit, random.fork(`samples of ${core.id}`));
    }),
    posteriorCounts: countForPosterior(bare, finished, labels, previous, options),
  };
}

/** Mean lengths and samples of one type; with few members, the standing samples fill up. */
function describeType(
  core: TypeCore,
  members: readonly FinishedRequest[],
  before: WorkloadType | undefined,
  limit: number,
  random: Random,
): WorkloadType {
  const pairs = members.map((request) => [request.inputTokens, request.outputTokens] as const);
  const samples = pairs.length > limit ? draw(pairs, limit, random) : pairs;
  if (samples.length < limit && before) {
    const missing = Math.min(limit - samples.length, before.samples.length);
    samples.push(...draw([...before.samples], missing, random));
  }
  const meanOver = pairs.length >= limit ? pairs : samples;
  const mean = (axis: 0 | 1, log: number): number =>
    meanOver.length === 0 ? Math.exp(log) : meanOver.reduce((sum, pair) => sum + pair[axis], 0) / meanOver.length;
  return {
    id: core.id,
    model: core.model,
    inputTokens: mean(0, core.logInput),
    outputTokens: mean(1, core.logOutput),
    logInput: core.logInput,
    logOutput: core.logOutput,
    samples,
  };
}

/** `count` items without replacement (a partial Fisher-Yates shuffle of a copy). */
function draw<T>(items: readonly T[], count: number, random: Random): T[] {
  const pool = [...items];
  for (let i = 0; i < count; i++) {
    const other = i + Math.floor(random.next() * (pool.length - i));
    [pool[i], pool[other]] = [pool[other]!, pool[i]!];
  }
  return pool.slice(0, count);
}

/**
 * Decayed counts by key. The requests given are counted afresh under the new labels. Of the standing counts only the part
 * that they do not cover is carried over: a request that was counted before and is given again must not count twice.
 */
function countForPosterior(
  bare: WorkloadModel,
  finished: readonly FinishedRequest[],
  labels: readonly number[],
  previous: WorkloadModel | null,
  options: WorkloadOptions,
): Record<string, number[]> {
  const typeCount = bare.types.length;
  const halfLife = options.halfLifeSeconds ?? DEFAULT_HALF_LIFE_SECONDS;
  const decay = (fromSeconds: number, toSeconds: number): number => 2 ** (-(toSeconds - fromSeconds) / halfLife);
  const counts: Record<string, number[]> = {};
  const cell = (key: string): number[] => {
    counts[key] ??= new Array<number>(typeCount).fill(0);
    return counts[key];
  };
  const tenants = frequentTenants(finished, previous);
  const covered = new Map<string, number>();
  finished.forEach((request, i) => {
    if (labels[i]! < 0) return;
    const tenant =
      request.tenant !== undefined && tenants.has(tenantKey(request.model, request.tenant)) ? request.tenant : '';
    const key = countsKey(request.model, inputBucket(request.inputTokens), tenant, limitBucket(request.maxTokens));
    cell(key)[labels[i]!]! += decay(request.finishedSeconds, bare.fittedToSeconds);
    if (previous && request.finishedSeconds <= previous.fittedToSeconds)
      covered.set(
        request.model,
        (covered.get(request.model) ?? 0) + decay(request.finishedSeconds, previous.fittedToSeconds),
      );
  });
  if (previous)
    carryOver(bare, previous, covered, decay(previous.fittedToSeconds, bare.fittedToSeconds), tenants, cell);
  for (const [key, values] of Object.entries(counts))
    if (values.every((value) => value < FORGOTTEN_COUNT)) delete counts[key];
  return counts;
}

function carryOver(
  bare: WorkloadModel,
  previous: WorkloadModel,
  covered: ReadonlyMap<string, number>,
  decay: number,
  tenants: ReadonlySet<string>,
  cell: (key: string) => number[],
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
  for (const [[model], values] of entries)
    mass.set(model, (mass.get(model) ?? 0) + values.reduce((sum, value) => sum + value, 0));
  for (const [[model, input, tenant, limit], values] of entries) {
    const left = decay * Math.max(0, 1 - (covered.get(model) ?? 0) / mass.get(model)!);
    if (left === 0) continue;
    const sum = cell(countsKey(model, input, tenants.has(tenantKey(model, tenant)) ? tenant : '', limit));
    values.forEach((value, j) => {
      if (target[j]! >= 0) sum[target[j]!]! += left * value;
    });
  }
}

const tenantKey = (model: string, tenant: string): string => JSON.stringify([model, tenant]);

/** The tenants of each model that get keys of their own: the most frequent ones, ties by name. */
function frequentTenants(finished: readonly FinishedRequest[], previous: WorkloadModel | null): Set<string> {
  const weight = new Map<string, Map<string, number>>();
  const add = (model: string, tenant: string | undefined, count: number): void => {
    if (!tenant) return;
    let ofModel = weight.get(model);
    if (!ofModel) {
      ofModel = new Map();
      weight.set(model, ofModel);
    }
    ofModel.set(tenant, (ofModel.get(tenant) ?? 0) + count);
  };
  for (const request of finished) add(request.model, request.tenant, 1);
  for (const [key, values] of Object.entries(previous?.posteriorCounts ?? {})) {
    const [model, , tenant] = parseCountsKey(key);
    add(
      model,
      tenant,
      values.reduce((sum, value) => sum + value, 0),
    );
  }
  const chosen = new Set<string>();
  for (const [model, ofModel] of weight)
    [...ofModel]
      .sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1))
      .slice(0, TENANT_LIMIT)
      .forEach(([tenant]) => {
        chosen.add(tenantKey(model, tenant));
      });
  return chosen;
}
