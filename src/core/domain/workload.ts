// Workload types and what is known about them, as plain data: fitted by core/workload, shipped to the gateway as is.

/** A cluster of (input, output) lengths of one model. `id` is stable across re-fits. */
export interface WorkloadType {
  readonly id: string;
  readonly model: string;
  /** Mean lengths of the members, tokens. */
  readonly inputTokens: number;
  readonly outputTokens: number;
  /** Centroid: natural logs of input and output length. */
  readonly logInput: number;
  readonly logOutput: number;
  /** Real (input, output) pairs drawn from the members, at most a few hundred: what the twin draws its requests from. */
  readonly samples: readonly (readonly [inputTokens: number, outputTokens: number])[];
}

/** Everything that classifies requests. Types of all models, in one list; J = types.length. */
export interface WorkloadModel {
  readonly version: number;
  /** Timestamp of the newest request that the fit saw, seconds. */
  readonly fittedToSeconds: number;
  readonly types: readonly WorkloadType[];
  /** Decayed counts behind the posterior at arrival, by key (see core/workload); each value has J entries. */
  readonly posteriorCounts: Readonly<Record<string, readonly number[]>>;
}

/** Arrival rates of the coming minutes. */
export interface Forecast {
  readonly predictor: string;
  /** Timestamp of the last arrival that the predictor saw. */
  readonly seenToSeconds: number;
  /** requests/s by horizon (1, 2, … minutes) and type; H × J. */
  readonly arrivalRate: readonly (readonly number[])[];
  /** 0.9-quantile of the same; H × J. */
  readonly arrivalRateQuantile90: readonly (readonly number[])[];
}
