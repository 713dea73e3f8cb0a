// Which type is this request? Known only when it ends; before that we have P(type | model, prompt length, tenant, limit),
// counted from finished requests. Counts of a fine key are thin, so each level leans on the coarser one:
//
//   model  →  + prompt length  →  + tenant  →  + limit on the output
//
//   p(fine) = (counts(fine) + κ · p(coarse)) / (Σ counts(fine) + κ)          (κ pseudo-requests)
//
// A WorkloadModel is plain data and travels as JSON; it is compiled once into tables, after which a look-up costs a map
// access, two logarithms and a copy of J numbers, without allocation.
import type { RequestView, WorkloadModel } from '../domain/index.ts';
import { INPUT_BUCKETS, inputBucket, LIMIT_BUCKETS, limitBucket, parseCountsKey } from './keys.ts';

/** κ: how many requests the coarser level is worth. Set by judgement: a handful of requests outweighs what is known of all. */
const BACK_OFF_WEIGHT = 8;

interface TypesOfModel {
  /** Indices in `WorkloadModel.types`. */
  readonly indices: Int32Array;
  readonly logInput: Float64Array;
  readonly logOutput: Float64Array;
  /** Sorted output lengths of each type's samples. */
  readonly outputs: readonly Float64Array[];
  /** Place of each known tenant; '' is place 0 and stands for all others. */
  readonly tenants: ReadonlyMap<string, number>;
  /** Row of each (tenant, input bucket, limit bucket). */
  readonly rowOf: Int32Array;
  /** Posteriors, J numbers a row. */
  readonly rows: readonly Float64Array[];
}

const compiledModels = new WeakMap<WorkloadModel, ReadonlyMap<string, TypesOfModel>>();
// The last model asked for: spares the weak map in the common case. A cache only, no state.
let lastModel: WorkloadModel | null = null;
let lastCompiled: ReadonlyMap<string, TypesOfModel> = new Map();

function compiled(model: WorkloadModel): ReadonlyMap<string, TypesOfModel> {
  if (model === lastModel) return lastCompiled;
  let found = compiledModels.get(model);
  if (!found) {
    found = compile(model);
    compiledModels.set(model, found);
  }
  lastModel = model;
  lastCompiled = found;
  return found;
}

/** Part of a request that the posterior looks at. */
export type PosteriorView = Pick<RequestView, 'model' | 'inputTokens' | 'maxTokens' | 'tenant'>;

/**
 * Probability of each type for a request that just arrived.
 *
 * @param out - J numbers to fill; give one to avoid the allocation.
 * @returns `out`, summing to 1; all 0 when the request's model has no types yet.
 */
export function posterior(
  model: WorkloadModel,
  view: PosteriorView,
  out: Float64Array = new Float64Array(model.types.length),
): Float64Array {
  const types = compiled(model).get(view.model);
  if (types === undefined) return out.fill(0);
  const row = rowFor(types, view);
  for (let j = 0; j < row.length; j++) out[j] = row[j]!;
  return out;
}

/**
 * The same for a request that runs and has made `generatedTokens` so far: types whose answers would have ended by now
 * lose weight (P(type | view, output > generated), a right-censored observation).
 */
export function posteriorOfRunning(
  model: WorkloadModel,
  view: PosteriorView,
  generatedTokens: number,
  out: Float64Array = new Float64Array(model.types.length),
): Float64Array {
  posterior(model, view, out);
  if (generatedTokens <= 0) return out;
  const types = compiled(model).get(view.model);
  if (types === undefined) return out;
  let sum = 0;
  for (let i = 0; i < types.indices.length; i++) {
    const j = types.indices[i]!;
    out[j]! *= survival(types.outputs[i]!, types.logOutput[i]!, generatedTokens);
    sum += out[j]!;
  }
  for (let i = 0; i < types.indices.length; i++) out[types.indices[i]!]! /= sum;
  return out;
}

/** Index of the nearest centroid of the request's model; -1 when that model has no types yet. */
export function typeOfFinished(
  model: WorkloadModel,
  request: { readonly model: string; readonly inputTokens: number; readonly outputTokens: number },
): number {
  const types = compiled(model).get(request.model);
  if (types === undefined) return -1;
  const logInput = Math.log(Math.max(1, request.inputTokens));
  const logOutput = Math.log(Math.max(1, request.outputTokens));
  let best = -1;
  let bestDistance = Number.POSITIVE_INFINITY;
  for (let i = 0; i < types.indices.length; i++) {
    const distance = (logInput - types.logInput[i]!) ** 2 + (logOutput - types.logOutput[i]!) ** 2;
    if (distance < bestDistance) {
      bestDistance = distance;
      best = types.indices[i]!;
    }
  }
  return best;
}

function rowFor(types: TypesOfModel, view: PosteriorView): Float64Array {
  const tenant = view.tenant === undefined ? 0 : (types.tenants.get(view.tenant) ?? 0);
  const cell = (tenant * INPUT_BUCKETS + inputBucket(view.inputTokens)) * LIMIT_BUCKETS + limitBucket(view.maxTokens);
  return types.rows[types.rowOf[cell]!]!;
}

/**
 * P(output > generated) of a type: the share of its samples that are longer, and, with the weight of one sample, a
 * log-logistic tail around its centroid, so that no type becomes impossible beyond its longest sample.
 */
function survival(sortedOutputs: Float64Array, logOutput: number, generatedTokens: number): number {
  let low = 0;
  let high = sortedOutputs.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (sortedOutputs[middle]! <= generatedTokens) low = middle + 1;
    else high = middle;
  }
  const tail = 1 / (1 + Math.exp(2 * (Math.log(generatedTokens) - logOutput)));
  return (sortedOutputs.length - low + tail) / (sortedOutputs.length + 1);
}

function compile(model: WorkloadModel): ReadonlyMap<string, TypesOfModel> {
  const indicesByModel = new Map<string, number[]>();
  model.types.forEach((type, j) => {
    const indices = indicesByModel.get(type.model);
    if (indices) indices.push(j);
    else indicesByModel.set(type.model, [j]);
  });
  const cellsByModel = new Map<string, { input: number; tenant: string; limit: number; counts: readonly number[] }[]>();
  for (const name of indicesByModel.keys()) cellsByModel.set(name, []);
  for (const [key, counts] of Object.entries(model.posteriorCounts)) {
    const [name, input, tenant, limit] = parseCountsKey(key);
    cellsByModel.get(name)?.push({ input, tenant, limit, counts });
  }
  const result = new Map<string, TypesOfModel>();
  for (const [name, indices] of indicesByModel) {
    const types = indices.map((j) => model.types[j]!);
    result.set(name, {
      indices: Int32Array.from(indices),
      logInput: Float64Array.from(types, (type) => type.logInput),
      logOutput: Float64Array.from(types, (type) => type.logOutput),
      outputs: types.map((type) => Float64Array.from(type.samples, (sample) => sample[1]).sort()),
      ...tables(indices, model.types.length, cellsByModel.get(name)!),
    });
  }
  return result;
}

/** Adds the fine counts up to each coarser level and smooths from coarse to fine. */
function tables(
  indices: readonly number[],
  typeCount: number,
  cells: readonly { input: number; tenant: string; limit: number; counts: readonly number[] }[],
): Pick<TypesOfModel, 'tenants' | 'rowOf' | 'rows'> {
  const tenants = new Map<string, number>([['', 0]]);
  for (const { tenant } of cells) if (!tenants.has(tenant)) tenants.set(tenant, tenants.size);

  const byInput = new Map<number, Float64Array>();
  const byTenant = new Map<number, Float64Array>();
  const byLimit = new Map<number, Float64Array>();
  const all = new Float64Array(typeCount);
  const add = (level: Map<number, Float64Array>, key: number, counts: readonly number[]): void => {
    let sum = level.get(key);
    if (!sum) {
      sum = new Float64Array(typeCount);
      level.set(key, sum);
    }
    for (let j = 0; j < typeCount; j++) sum[j]! += counts[j]!;
  };
  for (const { input, tenant, limit, counts } of cells) {
    const tenantKey = tenants.get(tenant)! * INPUT_BUCKETS + input;
    for (let j = 0; j < typeCount; j++) all[j]! += counts[j]!;
    add(byInput, input, counts);
    add(byTenant, tenantKey, counts);
    add(byLimit, tenantKey * LIMIT_BUCKETS + limit, counts);
  }

  const uniform = new Float64Array(typeCount);
  for (const j of indices) uniform[j] = 1 / indices.length;
  const rows: Float64Array[] = [smooth(all, uniform, 1)];
  const rowOf = new Int32Array(tenants.size * INPUT_BUCKETS * LIMIT_BUCKETS);
  for (let input = 0; input < INPUT_BUCKETS; input++) {
    const ofInput = refine(rows, 0, byInput.get(input));
    for (let tenant = 0; tenant < tenants.size; tenant++) {
      const tenantKey = tenant * INPUT_BUCKETS + input;
      const ofTenant = refine(rows, ofInput, byTenant.get(tenantKey));
      for (let limit = 0; limit < LIMIT_BUCKETS; limit++) {
        const limitKey = tenantKey * LIMIT_BUCKETS + limit;
        rowOf[limitKey] = refine(rows, ofTenant, byLimit.get(limitKey));
      }
    }
  }
  return { tenants, rowOf, rows };
}

/** Row of a finer level: the coarser row itself where nothing was counted. */
function refine(rows: Float64Array[], coarse: number, counts: Float64Array | undefined): number {
  if (!counts) return coarse;
  rows.push(smooth(counts, rows[coarse]!, BACK_OFF_WEIGHT));
  return rows.length - 1;
}

function smooth(counts: Float64Array, coarse: Float64Array, weight: number): Float64Array {
  let total = weight;
  for (const count of counts) total += count;
  return counts.map((count, j) => (count + weight * coarse[j]!) / total);
}
