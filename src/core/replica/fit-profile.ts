// Fits the coefficients of a profile to measured kernels. Each part has a formula of two to five parameters; they are
// chosen to make the mean |log(fitted / measured)| smallest, which neither huge nor tiny kernels dominate. Every fifth
// row is held out and only used to report errors.
import { nelderMead } from '../math/index.ts';
import { gemmSeconds } from './kernel-costs.ts';
import type { KernelTables } from './kernel-tables.ts';
import type { FitReport, LinkCost, ProfileCoefficients } from './profile.ts';

type KernelCoefficients = Omit<ProfileCoefficients, 'host'>;

export interface KernelFit {
  readonly coefficients: KernelCoefficients;
  readonly fits: readonly FitReport[];
}

const HOLD_OUT_EVERY = 5;

/** The rows of a table that a part is fitted to, and its formula. Parameters are positive. */
interface Part {
  readonly name: string;
  readonly source: string;
  readonly rows: readonly number[];
  readonly measured: Float64Array;
  readonly start: readonly number[];
  seconds(parameters: readonly number[], row: number): number;
}

/** Share-th smallest of errors; 0 when there are none. */
function errorAt(sorted: readonly number[], share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0;
}

function fitPart(part: Part): { readonly parameters: readonly number[]; readonly report: FitReport } {
  const fitted = part.rows.filter((_, i) => i % HOLD_OUT_EVERY !== HOLD_OUT_EVERY - 1);
  const heldOut = part.rows.filter((_, i) => i % HOLD_OUT_EVERY === HOLD_OUT_EVERY - 1);
  const loss = (logs: readonly number[]) => {
    const parameters = logs.map(Math.exp);
    let sum = 0;
    for (const row of fitted) sum += Math.abs(Math.log(part.seconds(parameters, row) / part.measured[row]!));
    return sum / fitted.length;
  };
  // Twice: the second start leaves a simplex that collapsed too early.
  const first = nelderMead(loss, part.start.map(Math.log), { tolerance: 1e-7 });
  const parameters = nelderMead(loss, first.x, { tolerance: 1e-7 }).x.map(Math.exp);
  const errors = (rows: readonly number[]) =>
    rows.map((row) => Math.abs(part.seconds(parameters, row) / part.measured[row]! - 1)).sort((a, b) => a - b);
  const sum = (value: (row: number) => number) => heldOut.reduce((total, row) => total + value(row), 0);
  const measuredSum = sum((row) => part.measured[row]!);
  const inside = errors(fitted);
  const outside = errors(heldOut);
  return {
    parameters,
    report: {
      part: part.name,
      source: part.source,
      fittedRows: fitted.length,
      heldOutRows: heldOut.length,
      medianError: errorAt(inside, 0.5),
      p90Error: errorAt(inside, 0.9),
      heldOutMedianError: errorAt(outside, 0.5),
      heldOutP90Error: errorAt(outside, 0.9),
      heldOutBias: measuredSum === 0 ? 0 : sum((row) => part.seconds(parameters, row)) / measuredSum - 1,
    },
  };
}

const indicesWhere = (length: number, keep: (row: number) => boolean): number[] =>
  Array.from({ length }, (_, row) => row).filter(keep);

/** Matrix products of the size that layers of dense decoders have: smaller ones are all launch time. */
function gemmPart({ gemm }: KernelTables): Part {
  const { m, n, k, seconds } = gemm;
  return {
    name: 'gemm',
    source: 'aic_gemm, bf16, n and k from 1024, m to 16384',
    rows: indicesWhere(seconds.length, (i) => n[i]! >= 1024 && k[i]! >= 1024 && m[i]! <= 16384),
    measured: seconds,
    start: [4e-6, 2e12, 5e14, 3],
    seconds: ([kernelSeconds, memoryBytesPerSecond, flopsPerSecond, sharpness], i) =>
      gemmSeconds(
        {
          kernelSeconds: kernelSeconds!,
          memoryBytesPerSecond: memoryBytesPerSecond!,
          flopsPerSecond: flopsPerSecond!,
          sharpness: sharpness!,
        },
        m[i]!,
        n[i]!,
        k[i]!,
      ),
  };
}

/** Batches up to 256 and caches up to 1 M tokens in all. */
function decodePart({ decodeAttention }: KernelTables): Part {
  const { headDim, kvHeads, batch, length, seconds } = decodeAttention;
  return {
    name: 'decode attention',
    source: 'aic_attention_decode, head dimension 128, batch to 256, context 16 to 32768',
    rows: indicesWhere(
      seconds.length,
      (i) => headDim[i] === 128 && batch[i]! <= 256 && length[i]! >= 15 && length[i]! <= 32768,
    ),
    measured: seconds,
    start: [1e-5, 3e-8, 2e12],
    seconds: ([kernelSeconds, sequenceSeconds, bytesPerSecond], i) =>
      kernelSeconds! +
      sequenceSeconds! * batch[i]! +
      (batch[i]! * length[i]! * kvHeads[i]! * headDim[i]! * 4) / bytesPerSecond!,
  };
}

function prefillPart({ prefillAttention }: KernelTables): Part {
  const { headDim, heads, kvHeads, batch, length, seconds } = prefillAttention;
  return {
    name: 'prefill attention',
    source: 'aic_attention_prefill, head dimension 128, 64 to 16384 tokens a prompt, to 65536 in all',
    rows: indicesWhere(
      seconds.length,
      (i) => headDim[i] === 128 && length[i]! >= 64 && batch[i]! * length[i]! <= 65536 && length[i]! <= 16384,
    ),
    measured: seconds,
    start: [1e-5, 1e12, 3e14],
    seconds: ([kernelSeconds, bytesPerSecond, flopsPerSecond], i) =>
      kernelSeconds! +
      (4 * batch[i]! * length[i]! * (heads[i]! + kvHeads[i]!) * headDim[i]!) / bytesPerSecond! +
      (2 * batch[i]! * length[i]! ** 2 * heads[i]! * headDim[i]!) / flopsPerSecond!,
  };
}

function linkPart(
  name: string,
  source: string,
  { bytes, seconds }: { readonly bytes: Float64Array; readonly seconds: Float64Array },
  keep: (row: number) => boolean,
): Part {
  return {
    name,
    source,
    rows: indicesWhere(seconds.length, (i) => seconds[i]! > 0 && keep(i)),
    measured: seconds,
    start: [1e-5, 1e11],
    seconds: ([latencySeconds, bytesPerSecond], i) => latencySeconds! + bytes[i]! / bytesPerSecond!,
  };
}

const link = ([latencySeconds, bytesPerSecond]: readonly number[]): LinkCost => ({
  latencySeconds: latencySeconds!,
  bytesPerSecond: bytesPerSecond!,
});

/** Coefficients of everything but the host, with the errors of each part. */
export function fitKernels(tables: KernelTables): KernelFit {
  const gemm = fitPart(gemmPart(tables));
  const decode = fitPart(decodePart(tables));
  const prefill = fitPart(prefillPart(tables));
  const { tokens, bytesPerToken, seconds } = tables.elementwise;
  const elementwise = fitPart({
    name: 'element-wise',
    source: 'vidur_linear_ops: norms, rotary positions, activation, residual add',
    rows: indicesWhere(seconds.length, (i) => seconds[i]! > 0),
    measured: seconds,
    start: [1e-5, 1e12],
    seconds: ([kernelSeconds, bytesPerSecond], i) =>
      kernelSeconds! + (tokens[i]! * bytesPerToken[i]!) / bytesPerSecond!,
  });
  const ranks = [...new Set(tables.allReduce.ranks)].sort((a, b) => a - b);
  const allReduces = ranks.map((count) =>
    fitPart(
      linkPart(
        `all-reduce over ${count}`,
        'aic_comm, vllm_graph, 8 KiB to 64 MiB',
        tables.allReduce,
        (i) =>
          tables.allReduce.ranks[i] === count &&
          tables.allReduce.bytes[i]! >= 2 ** 13 &&
          tables.allReduce.bytes[i]! <= 2 ** 26,
      ),
    ),
  );
  const atLeast4k = (bytes: Float64Array) => (i: number) => bytes[i]! >= 4096;
  const inside = fitPart(
    linkPart(
      'hand-over inside a node',
      'vidur_network, send_recv',
      tables.sendInsideNode,
      atLeast4k(tables.sendInsideNode.bytes),
    ),
  );
  const between = fitPart(
    linkPart(
      'hand-over between nodes',
      'vidur_network, send_recv',
      tables.sendBetweenNodes,
      atLeast4k(tables.sendBetweenNodes.bytes),
    ),
  );
  return {
    coefficients: {
      gemm: {
        kernelSeconds: gemm.parameters[0]!,
        memoryBytesPerSecond: gemm.parameters[1]!,
        flopsPerSecond: gemm.parameters[2]!,
        sharpness: gemm.parameters[3]!,
      },
      elementwise: { kernelSeconds: elementwise.parameters[0]!, bytesPerSecond: elementwise.parameters[1]! },
      attention: {
        kernelSeconds: decode.parameters[0]!,
        decodeSequenceSeconds: decode.parameters[1]!,
        decodeBytesPerSecond: decode.parameters[2]!,
        prefillBytesPerSecond: prefill.parameters[1]!,
        prefillFlopsPerSecond: prefill.parameters[2]!,
      },
      allReduce: Object.fromEntries(ranks.map((count, i) => [String(count), link(allReduces[i]!.parameters)])),
      handOver: { insideNode: link(inside.parameters), betweenNodes: link(between.parameters) },
    },
    fits: [gemm, decode, prefill, elementwise, ...allReduces, inside, between].map(({ report }) => report),
  };
}
