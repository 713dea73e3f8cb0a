// Reads the measured kernel times of one kind of GPU from the shared data (profiles/, see its README).
import { join } from 'node:path';
import { ConfigError } from '../../core/domain/index.ts';
import type { KernelTables } from '../../core/replica/index.ts';
import { sharedDataDirectory } from '../traces/index.ts';
import { numbers, type Row, readRows } from './read-table.ts';

/** How the sources name our kinds of GPU. Networks and element-wise kernels of the H200 are those of the H100. */
const SOURCE_NAMES: Readonly<Record<string, { readonly aic: string; readonly node: string; readonly vidur: string }>> =
  {
    'A100-80GB': { aic: 'a100_sxm', node: 'a100_dgx', vidur: 'a100' },
    'H100-80GB': { aic: 'h100_sxm', node: 'h100_dgx', vidur: 'h100' },
    H200: { aic: 'h200_sxm', node: 'h100_dgx', vidur: 'h100' },
  };

export const KERNEL_TABLE_GPUS: readonly string[] = Object.keys(SOURCE_NAMES);

const MILLISECOND = 1e-3;
const ELEMENTWISE_COLUMNS = [
  'input_layernorm_ms',
  'post_attention_layernorm_ms',
  'attn_rope_ms',
  'mlp_act_ms',
  'add_ms',
];

/**
 * @throws {@link ConfigError} when the shared data are not there, or hold nothing on this kind of GPU.
 */
export function readKernelTables(gpuKind: string, dataDirectory = sharedDataDirectory()): KernelTables {
  const names = SOURCE_NAMES[gpuKind];
  if (names === undefined) {
    throw new ConfigError(`There are no kernel measurements of ${gpuKind}.`, {
      hint: `Measured are ${KERNEL_TABLE_GPUS.join(', ')}.`,
    });
  }
  const file = (name: string) => join(dataDirectory, 'profiles', name);
  const gemm = readRows(file('aic_gemm.csv.gz'), (row) => row.gpu === names.aic && row.gemm_dtype === 'bfloat16');
  const attention = (name: string, length: string) => {
    const rows = readRows(file(name), (row) => row.gpu === names.aic);
    return {
      headDim: numbers(rows, 'head_dim'),
      heads: numbers(rows, 'num_heads'),
      kvHeads: numbers(rows, 'num_key_value_heads'),
      batch: numbers(rows, 'batch_size'),
      length: numbers(rows, length),
      seconds: numbers(rows, 'latency_ms', MILLISECOND),
    };
  };
  const allReduce = readRows(
    file('aic_comm.csv.gz'),
    (row) => row.gpu === names.aic && row.lib === 'vllm_graph' && row.op === 'all_reduce',
  );
  const send = (devicesPerNode: string) => {
    const rows = readRows(
      file('vidur_network.csv.gz'),
      (row) => row.node === names.node && row.collective === 'send_recv' && row.devices_per_node === devicesPerNode,
    );
    return { bytes: numbers(rows, 'bytes'), seconds: numbers(rows, 'median_ms', MILLISECOND) };
  };
  const linear = readRows(file('vidur_linear_ops.csv.gz'), (row) => row.gpu === names.vidur && isGated(row));
  return {
    gpuKind,
    gemm: {
      m: numbers(gemm, 'm'),
      n: numbers(gemm, 'n'),
      k: numbers(gemm, 'k'),
      seconds: numbers(gemm, 'latency_ms', MILLISECOND),
    },
    prefillAttention: attention('aic_attention_prefill.csv.gz', 'seq_len'),
    decodeAttention: attention('aic_attention_decode.csv.gz', 'context_len'),
    allReduce: {
      ranks: numbers(allReduce, 'gpus'),
      bytes: numbers(allReduce, 'message_elems', 2),
      seconds: numbers(allReduce, 'latency_ms', MILLISECOND),
    },
    sendInsideNode: send('2'),
    sendBetweenNodes: send('1'),
    elementwise: {
      tokens: numbers(linear, 'num_tokens'),
      bytesPerToken: Float64Array.from(linear, elementwiseBytes),
      seconds: Float64Array.from(linear, (row) =>
        ELEMENTWISE_COLUMNS.reduce((sum, column) => sum + Number(row[column]) * MILLISECOND, 0),
      ),
    },
    sources: [
      `aiconfigurator kernel tables, ${names.aic} (gemm, attention, vllm_graph all-reduce)`,
      `vidur network profile, ${names.node} (send_recv)`,
      `vidur linear operations, ${names.vidur} (element-wise kernels)`,
    ],
  };
}

/** Llama-like layers, whose norms and activation all have a time. */
const isGated = (row: Row): boolean =>
  row.model !== 'microsoft/phi-2' &&
  ELEMENTWISE_COLUMNS.every((column) => row[column] !== '' && Number(row[column]) > 0);

/** As `elementwiseBytesPerToken` counts: 7 h + 3 intermediate / t + 2 (heads + kv heads) / t × 128, two bytes each. */
function elementwiseBytes(row: Row): number {
  const tensorParallel = Number(row.tp);
  const heads = Number(row.n_head) / tensorParallel;
  const kvHeads = Math.max(1, Number(row.n_kv_head) / tensorParallel);
  const hidden = Number(row.n_embd);
  const headDim = hidden / Number(row.n_head);
  return 2 * (7 * hidden + (3 * Number(row.n_expanded_embd)) / tensorParallel + 2 * (heads + kvHeads) * headDim);
}
