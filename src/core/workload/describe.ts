// Given the types' centroids: which finished request is whose, mean lengths, samples, and the counts behind the posterior.
import type { FinishedRequest, Random, WorkloadModel, WorkloadType } from '../domain/index.ts';
import { typeOfFinished } from './posterior.ts';
import { countForPosterior } from './posterior-counts.ts';

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
  const halfLifeSeconds = options.halfLifeSeconds ?? DEFAULT_HALF_LIFE_SECONDS;
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
    posteriorCounts: countForPosterior(bare, finished, labels, previous, halfLifeSeconds),
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
    samples.push(...draw(before.samples, missing, random));
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

/** `count` items without replacement (a partial Fisher-Yates shuffle of a copy); all of them stay in order. */
function draw<T>(items: readonly T[], count: number, random: Random): T[] {
  if (count >= items.length) return [...items];
  const pool = [...items];
  for (let i = 0; i < count; i++) {
    const other = i + Math.floor(random.next() * (pool.length - i));
    [pool[i], pool[other]] = [pool[other]!, pool[i]!];
  }
  return pool.slice(0, count);
}
