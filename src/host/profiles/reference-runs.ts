// Runs of another simulator (vidur) on given request streams, from the shared data (reference/, see its README).
// It does not model the engine's CPU, batches at most 128 requests, and holds contexts of at most 4096 tokens.
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import {
  ConfigError,
  DEFAULT_ENGINE_OPTIONS,
  type EngineOptions,
  type ModelSpec,
  modelByName,
  type ReplicaClass,
  type TraceRequest,
} from '../../core/domain/index.ts';
import type { LinkCost } from '../../core/replica/index.ts';
import { sharedDataDirectory } from '../traces/index.ts';
import { readRows } from './read-table.ts';

export interface ReferenceRun {
  readonly name: string;
  readonly model: ModelSpec;
  readonly replicaClass: ReplicaClass;
  readonly engine: EngineOptions;
  readonly requests: readonly TraceRequest[];
  readonly ttftSeconds: Float64Array;
  readonly e2eSeconds: Float64Array;
}

export interface ReferenceThroughput {
  readonly model: ModelSpec;
  readonly replicaClass: ReplicaClass;
  readonly engine: EngineOptions;
  readonly inputTokens: number;
  readonly outputTokens: number;
  readonly requests: number;
  readonly outputTokensPerSecond: number;
}

const FILE = /^vidur_(a100|h100)_(l2-70b|l3-8b)_tp(\d+)pp(\d+)_(vllm|sarathi)_(\w+)\.csv\.gz$/;
const gpuKinds: Readonly<Record<string, string>> = { a100: 'A100-80GB', h100: 'H100-80GB' };
const models: Readonly<Record<string, string>> = { 'l2-70b': 'llama2-70b', 'l3-8b': 'llama3-8b' };
/** vidur's cap is per batch; ours is per replica, and with one stage that is the same. */
const BATCH_CAP = 128;
const BATCHED_TOKENS: Readonly<Record<string, number>> = { vllm: 4096, sarathi: 512 };

const engineOf = (scheduler: string, stages: number): EngineOptions => ({
  ...DEFAULT_ENGINE_OPTIONS,
  maxBatchedTokens: BATCHED_TOKENS[scheduler]!,
  maxSequences: BATCH_CAP * stages,
});

/** Requests one by one, with the times that vidur found. */
export function referenceRuns(dataDirectory = sharedDataDirectory()): ReferenceRun[] {
  const folder = join(dataDirectory, 'reference');
  return filesOf(folder).flatMap((file) => {
    const match = FILE.exec(file);
    if (!match) return [];
    const [, gpu, modelName, tensorParallel, pipelineParallel, scheduler] = match;
    const model = modelByName(models[modelName!]!);
    const rows = readRows(join(folder, file));
    const strategy = { tensorParallel: Number(tensorParallel), pipelineParallel: Number(pipelineParallel) };
    return [
      {
        name: file.replace(/^vidur_|\.csv\.gz$/g, ''),
        model,
        replicaClass: { model: model.name, gpuKind: gpuKinds[gpu!]!, strategy },
        engine: engineOf(scheduler!, strategy.pipelineParallel),
        requests: rows.map((row) => ({
          arrivalSeconds: Number(row.arrival_s),
          inputTokens: Number(row.input_tokens),
          outputTokens: Number(row.output_tokens),
        })),
        ttftSeconds: Float64Array.from(rows, (row) => Number(row.ttft_s)),
        e2eSeconds: Float64Array.from(rows, (row) => Number(row.e2e_s)),
      },
    ];
  });
}

/** Equal requests all at once. */
export function referenceThroughputs(dataDirectory = sharedDataDirectory()): ReferenceThroughput[] {
  const model = modelByName('llama2-70b');
  return readRows(join(dataDirectory, 'reference', 'vidur_offline_throughput.csv')).map((row) => {
    const strategy = { tensorParallel: Number(row.tp), pipelineParallel: Number(row.pp) };
    return {
      model,
      replicaClass: { model: model.name, gpuKind: gpuKinds[row.gpu!]!, strategy },
      engine: { ...engineOf('vllm', 1), maxSequences: Number(row.batch_cap) },
      inputTokens: Number(row.input_tokens),
      outputTokens: Number(row.output_tokens),
      requests: Number(row.requests),
      outputTokensPerSecond: Number(row.out_tok_per_s),
    };
  });
}

/** vidur adds this to every all-reduce (its nccl_cpu_launch_overhead_ms). */
const COLLECTIVE_LAUNCH_SECONDS = 20e-6;
const SMALL_BYTES = 2 ** 20;
const LARGE_BYTES = 2 ** 25;

/**
 * vidur's all-reduces by number of ranks: NCCL, measured outside CUDA graphs, several times slower on small messages
 * than vLLM's own. Latency is the median of small messages, the rate that of large ones.
 */
export function referenceCollectives(
  gpuKind: string,
  dataDirectory = sharedDataDirectory(),
): Readonly<Record<string, LinkCost>> {
  const node = gpuKind === 'A100-80GB' ? 'a100_dgx' : 'h100_dgx';
  const rows = readRows(
    join(dataDirectory, 'profiles', 'vidur_network.csv.gz'),
    (row) => row.node === node && row.collective === 'all_reduce' && row.workers === row.devices_per_node,
  );
  const median = (values: number[]) => values.sort((a, b) => a - b)[values.length >> 1]!;
  return Object.fromEntries(
    [...new Set(rows.map((row) => row.workers!))].map((ranks) => {
      const own = rows
        .filter((row) => row.workers === ranks)
        .map((row) => ({ bytes: Number(row.bytes), seconds: Number(row.median_ms) / 1000 }));
      const latency = median(own.filter(({ bytes }) => bytes <= SMALL_BYTES).map(({ seconds }) => seconds));
      const rate = median(
        own.filter(({ bytes }) => bytes >= LARGE_BYTES).map(({ bytes, seconds }) => bytes / (seconds - latency)),
      );
      return [ranks, { latencySeconds: latency + COLLECTIVE_LAUNCH_SECONDS, bytesPerSecond: rate }];
    }),
  );
}

function filesOf(folder: string): string[] {
  try {
    return readdirSync(folder).sort();
  } catch (cause) {
    throw new ConfigError(`The reference runs ${folder} are not there.`, {
      hint: 'Set OSERVE_DATA to the folder that holds profiles/, reference/ and traces/.',
      cause,
    });
  }
}
