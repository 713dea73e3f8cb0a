// Measured serving of dense bf16 models on our kinds of GPU, from the shared data: what profiles are checked against.
import { join } from 'node:path';
import {
  DEFAULT_ENGINE_OPTIONS,
  type EngineOptions,
  type ModelSpec,
  modelByName,
  modelFromHuggingFace,
} from '../../core/domain/index.ts';
import type { MeasuredLoop } from '../../core/replica/index.ts';
import { sharedDataDirectory } from '../traces/index.ts';
import { type Row, readRows } from './read-table.ts';

/** vLLM's own defaults on these GPUs, with which the tables were presumably made. */
const VLLM_DEFAULTS: EngineOptions = { ...DEFAULT_ENGINE_OPTIONS, maxBatchedTokens: 8192, maxSequences: 1024 };
const MILLISECOND = 1e-3;

/** From the models' published config.json files. */
const otherModels: Readonly<Record<string, ModelSpec>> = {
  'qwen3-32b': modelFromHuggingFace('qwen3-32b', {
    num_hidden_layers: 64,
    hidden_size: 5120,
    num_attention_heads: 64,
    num_key_value_heads: 8,
    head_dim: 128,
    intermediate_size: 25600,
    vocab_size: 151936,
    max_position_embeddings: 40960,
  }),
  'llama2-7b': modelFromHuggingFace('llama2-7b', {
    num_hidden_layers: 32,
    hidden_size: 4096,
    num_attention_heads: 32,
    intermediate_size: 11008,
    vocab_size: 32000,
    max_position_embeddings: 16384,
  }),
};

const modelNames: Readonly<Record<string, string>> = {
  'Qwen/Qwen3-32B': 'qwen3-32b',
  'meta-llama/Llama-3.1-8B-Instruct': 'llama3-8b',
  'llama2-70b': 'llama2-70b',
  'Llama-3.1-70B': 'llama3-70b',
  'Llama-3.1-8B': 'llama3-8b',
  'Llama-2-7B': 'llama2-7b',
};

const gpuNames: Readonly<Record<string, string>> = {
  h100_sxm: 'H100-80GB',
  h200_sxm: 'H200',
  'h100-80gb': 'H100-80GB',
  'a100-80gb': 'A100-80GB',
  'H100-80GB': 'H100-80GB',
  'A100-80GB-SXM': 'A100-80GB',
  'H200-141GB': 'H200',
};

export function knownModel(sourceName: string): ModelSpec | null {
  const name = modelNames[sourceName];
  return name === undefined ? null : (otherModels[name] ?? modelByName(name));
}

/** A measured loop and how the source calls it. */
export interface NamedLoop extends MeasuredLoop {
  readonly source: string;
  readonly servingEngine: string;
  /** Requests of the run; a static batch has as many as its concurrency. */
  readonly requests: number;
  /** 0 where the source does not state it. */
  readonly outputTokensPerSecond: number;
}

function loop(
  row: Row,
  names: { model: string; gpu: string; tp: string; pp: string },
): Omit<
  NamedLoop,
  'source' | 'servingEngine' | 'concurrency' | 'requests' | 'ttftSeconds' | 'tpotSeconds' | 'outputTokensPerSecond'
> | null {
  const model = knownModel(row[names.model]!);
  const kind = gpuNames[row[names.gpu]!];
  if (model === null || kind === undefined) return null;
  const strategy = {
    tensorParallel: Number(row[names.tp]),
    pipelineParallel: names.pp === '' ? 1 : Number(row[names.pp]),
  };
  return {
    model,
    replicaClass: { model: model.name, gpuKind: kind, strategy },
    engine: VLLM_DEFAULTS,
    inputTokens: Number(row.input_tokens),
    outputTokens: Number(row.output_tokens),
  };
}

/** Closed loops whose precision is bf16 (or not stated and presumably bf16), by serving engine. */
export function closedLoops(dataDirectory = sharedDataDirectory()): NamedLoop[] {
  const file = join(dataDirectory, 'profiles', 'e2e_closed_loop_silicon.csv');
  return readRows(file, (row) => row.precision === 'unspecified' || row.precision === 'bf16').flatMap((row) => {
    const known = loop(row, { model: 'model', gpu: 'gpu', tp: 'tp', pp: 'pp' });
    if (known === null) return [];
    const concurrency = Number(row.concurrency);
    return [
      {
        ...known,
        source: 'closed loop',
        servingEngine: `${row.engine} ${row.engine_version}`,
        concurrency,
        requests: 3 * concurrency,
        ttftSeconds: Number(row.ttft_ms) * MILLISECOND,
        tpotSeconds: Number(row.tpot_ms) * MILLISECOND,
        outputTokensPerSecond: Number(row.out_tok_per_s),
      },
    ];
  });
}

/** Static batches of LLaMA2-70B (an engine of 2023). */
export function staticBatches(dataDirectory = sharedDataDirectory()): NamedLoop[] {
  return readRows(join(dataDirectory, 'profiles', 'e2e_splitwise_batch.csv')).flatMap((row) => {
    const known = loop(row, { model: 'model', gpu: 'hardware', tp: 'tensor_parallel', pp: '' });
    if (known === null) return [];
    const concurrency = Number(row.batch_size);
    return [
      {
        ...known,
        source: 'static batch',
        servingEngine: 'splitwise, vLLM of 2023',
        concurrency,
        requests: concurrency,
        ttftSeconds: Number(row.ttft_ms) * MILLISECOND,
        tpotSeconds: Number(row.tpot_ms) * MILLISECOND,
        outputTokensPerSecond: 0,
      },
    ];
  });
}

/** Offline maximum throughput, all requests at once; only the rate is stated. */
export function offlineRuns(dataDirectory = sharedDataDirectory()): NamedLoop[] {
  const file = join(dataDirectory, 'profiles', 'e2e_trtllm_max_throughput.csv');
  return readRows(file, (row) => row.precision === 'fp16' || row.precision === 'bf16').flatMap((row) => {
    const known = loop(row, { model: 'model', gpu: 'gpu', tp: 'tp', pp: 'pp' });
    if (known === null) return [];
    return [
      {
        ...known,
        source: 'offline throughput',
        servingEngine: row.engine!,
        concurrency: 1000,
        requests: 1000,
        ttftSeconds: Number.NaN,
        tpotSeconds: Number.NaN,
        outputTokensPerSecond: Number(row.total_out_tok_per_s),
      },
    ];
  });
}
