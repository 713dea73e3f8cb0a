// Kernel tables made from simple formulas on a coarse grid: what a look-up should return is known.
import type { KernelTables } from '../../core/replica/index.ts';

/** 1 µs + bytes at 3 TB/s or operations at 800 TFLOP/s, whichever is longer. */
export const exampleGemmSeconds = (m: number, n: number, k: number): number =>
  1e-6 + Math.max((2 * n * k) / 3e12, (2 * m * n * k) / 8e14);
export const exampleDecodeSeconds = (kvHeads: number, batch: number, length: number): number =>
  1e-5 + (512 * kvHeads * batch * length) / 3e12;
export const examplePrefillSeconds = (heads: number, batch: number, length: number): number =>
  1e-5 + (256 * heads * batch * length ** 2) / 6e14;
export const exampleLinkSeconds = (bytes: number): number => 5e-6 + bytes / 2e11;

type Point = readonly number[];
const grid = (...axes: readonly (readonly number[])[]): Point[] =>
  axes.reduce<Point[]>((points, axis) => points.flatMap((point) => axis.map((value) => [...point, value])), [[]]);
const columns = <Name extends string>(
  names: readonly Name[],
  points: readonly Point[],
  seconds: (point: Point) => number,
): Record<Name | 'seconds', Float64Array> => {
  const entries = names.map((name, i) => [name, Float64Array.from(points, (point) => point[i]!)] as const);
  return Object.fromEntries([...entries, ['seconds', Float64Array.from(points, seconds)]]) as Record<
    Name | 'seconds',
    Float64Array
  >;
};
const powers = (from: number, to: number): number[] => {
  const values: number[] = [];
  for (let value = from; value <= to; value *= 2) values.push(value);
  return values;
};

/** H100-like tables with all shapes of powers of two. */
export function exampleTables(gpuKind = 'H100-80GB'): KernelTables {
  const heads = [
    [8, 1],
    [16, 2],
    [32, 4],
    [64, 8],
    [8, 8],
  ];
  const attention = (seconds: (h: number, kv: number, batch: number, length: number) => number) =>
    columns(
      ['headDim', 'heads', 'kvHeads', 'batch', 'length'],
      heads.flatMap(([h, kv]) => grid([128], [h!], [kv!], powers(1, 256), powers(16, 32768))),
      ([, h, kv, batch, length]) => seconds(h!, kv!, batch!, length!),
    );
  const links = columns(['bytes'], grid(powers(1024, 2 ** 28)), ([bytes]) => exampleLinkSeconds(bytes!));
  return {
    gpuKind,
    gemm: columns(['m', 'n', 'k'], grid(powers(1, 8192), powers(512, 65536), powers(512, 65536)), ([m, n, k]) =>
      exampleGemmSeconds(m!, n!, k!),
    ),
    decodeAttention: attention((_, kv, batch, length) => exampleDecodeSeconds(kv, batch, length)),
    prefillAttention: attention((h, _, batch, length) => examplePrefillSeconds(h, batch, length)),
    allReduce: columns(['ranks', 'bytes'], grid([2, 4, 8], powers(1024, 2 ** 28)), ([, bytes]) =>
      exampleLinkSeconds(bytes!),
    ),
    sendInsideNode: links,
    sendBetweenNodes: links,
    elementwise: columns(
      ['tokens', 'bytesPerToken'],
      grid(powers(1, 4096), [100_000]),
      ([tokens, bytes]) => 1e-5 + (tokens! * bytes!) / 1.5e12,
    ),
    sources: ['formulas'],
  };
}
