// Measured kernel times as plain columns, in seconds and bytes. The host reads them from files; the fit takes its
// coefficients from them and the evaluation world looks times up in them.

/** Columns of equal length. */
type Columns<Name extends string> = Readonly<Record<Name, Float64Array>>;

export interface KernelTables {
  readonly gpuKind: string;
  /** Product of m × k with k × n, bf16. */
  readonly gemm: Columns<'m' | 'n' | 'k' | 'seconds'>;
  /** Attention of one layer: `batch` prompts of `length` tokens, nothing cached. Heads are those of one rank. */
  readonly prefillAttention: Columns<'headDim' | 'heads' | 'kvHeads' | 'batch' | 'length' | 'seconds'>;
  /** Attention of one layer: `batch` sequences compute one token over `length` cached ones. */
  readonly decodeAttention: Columns<'headDim' | 'heads' | 'kvHeads' | 'batch' | 'length' | 'seconds'>;
  /** All-reduce over `ranks` GPUs of one node. */
  readonly allReduce: Columns<'ranks' | 'bytes' | 'seconds'>;
  readonly sendInsideNode: Columns<'bytes' | 'seconds'>;
  readonly sendBetweenNodes: Columns<'bytes' | 'seconds'>;
  /** Norms, rotary positions, activation and residual add of one layer; `bytesPerToken` is what these kernels move. */
  readonly elementwise: Columns<'tokens' | 'bytesPerToken' | 'seconds'>;
  /** Where the rows come from, in words. */
  readonly sources: readonly string[];
}
