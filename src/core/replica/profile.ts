// What is known about one kind of GPU under one engine, fitted from measured kernels and measured serving: the numbers
// behind the step time. Plain data (data/profiles/*.json), made by `oserve calibrate`; the core reads no file.

/** Time of a transfer = latency + bytes / rate. */
export interface LinkCost {
  readonly latencySeconds: number;
  readonly bytesPerSecond: number;
}

/** Coefficients of the parametric step time; see `kernel-costs.ts` for the formulas. */
export interface ProfileCoefficients {
  /** One matrix product: kernelSeconds + soft maximum of bytes / memory rate and operations / compute rate. */
  readonly gemm: {
    readonly kernelSeconds: number;
    readonly memoryBytesPerSecond: number;
    readonly flopsPerSecond: number;
    /** Exponent of the soft maximum: large is a sharp corner. */
    readonly sharpness: number;
  };
  /** Norms, activation, rotary positions, residual add, of one layer together. */
  readonly elementwise: { readonly kernelSeconds: number; readonly bytesPerSecond: number };
  /** Attention of one layer. */
  readonly attention: {
    readonly kernelSeconds: number;
    readonly decodeSequenceSeconds: number;
    readonly decodeBytesPerSecond: number;
    readonly prefillBytesPerSecond: number;
    readonly prefillFlopsPerSecond: number;
  };
  /** By number of ranks, inside one node. */
  readonly allReduce: Readonly<Record<string, LinkCost>>;
  /** Hidden states from one pipeline stage to the next. */
  readonly handOver: { readonly insideNode: LinkCost; readonly betweenNodes: LinkCost };
  /** What the engine's CPU adds to each step, and to each sequence of a step. */
  readonly host: { readonly stepSeconds: number; readonly sequenceSeconds: number };
}

/** How well one part was fitted. Errors are relative, |fitted / measured − 1|. */
export interface FitReport {
  readonly part: string;
  readonly source: string;
  readonly fittedRows: number;
  readonly heldOutRows: number;
  readonly medianError: number;
  readonly p90Error: number;
  readonly heldOutMedianError: number;
  readonly heldOutP90Error: number;
  /** (Σ fitted − Σ measured) / Σ measured over the rows held out: where the seconds go matters more than single rows. */
  readonly heldOutBias: number;
}

export interface Profile {
  readonly name: string;
  readonly gpuKind: string;
  readonly engine: string;
  readonly gpusPerNode: number;
  /** Largest message, batch and shape that the fit saw, in words; outside it extrapolates. */
  readonly range: string;
  readonly sources: readonly string[];
  readonly coefficients: ProfileCoefficients;
  readonly fits: readonly FitReport[];
}
