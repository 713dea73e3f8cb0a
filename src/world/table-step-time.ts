// Step time of one class of replicas from measured kernels: no formula is fitted, times are looked up between rows.
// The only thing taken over from the core is which kernels a layer consists of.
import { layersByStage, type ModelSpec, type ReplicaClass } from '../core/domain/index.ts';
import { elementwiseBytesPerToken, type KernelTables, kvHeadsPerRank, layerGemms } from '../core/replica/index.ts';
import { type AttentionGrid, decodeGrid, prefillGrid } from './attention-tables.ts';
import { GemmTable } from './gemm-table.ts';
import { Curve } from './interpolation.ts';

/** Host overhead of a step: grows from the first to the second with the batch, which counts up to this many sequences. */
export const HOST_SECONDS = { smallest: 0.002, largest: 0.006, sequences: 128 } as const;
const GPUS_PER_NODE = 8;
/** Larger batches are computed anew each time. */
const LARGEST_LOOKED_UP = 16_385;

/** Look-up structures of one kind of GPU, shared by all classes on it. */
export class WorldTables {
  readonly gpuKind: string;
  readonly kernels: KernelTables;
  readonly gemm: GemmTable;
  readonly elementwise: Curve;
  readonly sendInsideNode: Curve;
  readonly sendBetweenNodes: Curve;
  readonly #allReduce: ReadonlyMap<number, Curve>;

  constructor(kernels: KernelTables) {
    const points = (x: Float64Array, y: Float64Array, keep: (row: number) => boolean = () => true) =>
      Array.from(x, (value, row) => [value, y[row]!] as const).filter(([a, b], row) => a > 0 && b > 0 && keep(row));
    this.gpuKind = kernels.gpuKind;
    this.kernels = kernels;
    this.gemm = new GemmTable(kernels.gemm);
    const { tokens, bytesPerToken, seconds } = kernels.elementwise;
    // One curve over the bytes moved, whatever the model: by quarter octaves, since each size was measured many times.
    const moved = Float64Array.from(
      tokens,
      (count, row) => 2 ** (Math.round(4 * Math.log2(count * bytesPerToken[row]!)) / 4),
    );
    this.elementwise = new Curve(points(moved, seconds));
    this.sendInsideNode = new Curve(points(kernels.sendInsideNode.bytes, kernels.sendInsideNode.seconds));
    this.sendBetweenNodes = new Curve(points(kernels.sendBetweenNodes.bytes, kernels.sendBetweenNodes.seconds));
    const { ranks, bytes, seconds: reduceSeconds } = kernels.allReduce;
    this.#allReduce = new Map(
      [...new Set(ranks)].map((count) => [
        count,
        new Curve(points(bytes, reduceSeconds, (row) => ranks[row] === count)),
      ]),
    );
  }

  /** Over more ranks than one node has, the hop between nodes comes on top of the largest measured all-reduce. */
  allReduceSeconds(ranks: number, bytes: number): number {
    if (ranks === 1) return 0;
    const inside = this.#allReduce.get(ranks);
    if (inside) return inside.at(bytes);
    const largest = Math.max(...this.#allReduce.keys());
    return this.#allReduce.get(largest)!.at(bytes) + (ranks > largest ? this.sendBetweenNodes.at(bytes / ranks) : 0);
  }
}

export class TableStepTime {
  readonly #tables: WorldTables;
  readonly #model: ModelSpec;
  readonly #replicaClass: ReplicaClass;
  readonly #layers: number;
  readonly #decode: AttentionGrid;
  readonly #prefill: AttentionGrid;
  /** By tokens and by sequences, filled on first use; 0 before. */
  readonly #byTokens = new Float64Array(LARGEST_LOOKED_UP);
  readonly #bySequences = new Float64Array(LARGEST_LOOKED_UP);

  constructor(tables: WorldTables, model: ModelSpec, replicaClass: ReplicaClass) {
    const { tensorParallel, pipelineParallel } = replicaClass.strategy;
    this.#tables = tables;
    this.#model = model;
    this.#replicaClass = replicaClass;
    this.#layers = Math.max(...layersByStage(model.layerCount, pipelineParallel));
    const heads = {
      headDim: model.headDim,
      heads: model.headCount / tensorParallel,
      kvHeads: kvHeadsPerRank(model, tensorParallel),
    };
    this.#decode = decodeGrid(tables.kernels.decodeAttention, heads);
    this.#prefill = prefillGrid(tables.kernels.prefillAttention, heads);
  }

  /** Seconds of one stage without noise; arguments as in `StepTime`. */
  seconds(
    prefillTokens: number,
    prefillPairs: number,
    decodeSequences: number,
    decodeContextTokens: number,
    sequences: number,
  ): number {
    const tokens = prefillTokens + decodeSequences;
    let ofTokens = this.#byTokens[tokens] ?? 0;
    if (ofTokens === 0) {
      ofTokens = this.#tokenSeconds(tokens);
      this.#byTokens[tokens] = ofTokens; // beyond the array this writes nothing
    }
    let ofSequences = this.#bySequences[sequences] ?? 0;
    if (ofSequences === 0) {
      ofSequences = this.#sequenceSeconds(sequences);
      this.#bySequences[sequences] = ofSequences;
    }
    let attention = 0;
    if (decodeSequences > 0) {
      attention += this.#decode.grid.at(decodeSequences, decodeContextTokens / decodeSequences);
    }
    if (prefillTokens > 0) {
      // As many prompts of one length as have these tokens and these pairs; a chunk over a cached prefix is then a
      // part (batch < 1) of a longer prompt.
      const length = (2 * prefillPairs) / prefillTokens;
      const batch = prefillTokens / length;
      const { grid, kernelSeconds } = this.#prefill;
      attention +=
        batch >= 1 ? grid.at(batch, length) : kernelSeconds + batch * Math.max(0, grid.at(1, length) - kernelSeconds);
      // Decodes and prompts share one launch.
      if (decodeSequences > 0) attention -= kernelSeconds;
    }
    return ofTokens + ofSequences + this.#layers * attention;
  }

  #tokenSeconds(tokens: number): number {
    const { hiddenSize, bytesPerParameter } = this.#model;
    const { tensorParallel, pipelineParallel } = this.#replicaClass.strategy;
    const tables = this.#tables;
    const hiddenBytes = tokens * hiddenSize * bytesPerParameter;
    let layer = tables.elementwise.at(tokens * elementwiseBytesPerToken(this.#model, tensorParallel));
    for (const [n, k] of layerGemms(this.#model, tensorParallel)) layer += tables.gemm.seconds(tokens, n, k);
    layer += 2 * tables.allReduceSeconds(tensorParallel, hiddenBytes);
    let seconds = this.#layers * layer;
    if (pipelineParallel > 1) {
      // Hidden states and residual; between nodes each rank sends its share.
      seconds += tables.sendInsideNode.at(2 * hiddenBytes);
      if (tensorParallel * pipelineParallel > GPUS_PER_NODE) {
        seconds += tables.sendBetweenNodes.at((2 * hiddenBytes) / tensorParallel);
      }
    }
    return seconds;
  }

  #sequenceSeconds(sequences: number): number {
    const { vocabularySize, hiddenSize } = this.#model;
    const { smallest, largest, sequences: full } = HOST_SECONDS;
    return (
      this.#tables.gemm.seconds(sequences, vocabularySize / this.#replicaClass.strategy.tensorParallel, hiddenSize) +
      smallest +
      (largest - smallest) * Math.min(1, sequences / full)
    );
  }
}
