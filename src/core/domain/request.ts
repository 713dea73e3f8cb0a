// Requests: what a policy may see while they live, and what is known when they end.

/** One line of a trace. The true output length is for engines and judges, never for a policy. */
export interface TraceRequest {
  readonly arrivalSeconds: number;
  readonly inputTokens: number;
  readonly outputTokens: number;
  readonly model?: string;
  readonly tenant?: string;
}

/** All that a policy may see of a request before it ends. */
export interface RequestView {
  readonly arrivalSeconds: number;
  readonly model: string;
  readonly inputTokens: number;
  /** The client's limit on the output; with the input it must fit the replica. */
  readonly maxTokens: number;
  readonly tenant?: string;
  /** A client's own retry of a request that was counted before: no new demand. */
  readonly isRetry?: boolean;
}

/** A request that ended, with its true lengths and times. */
export interface FinishedRequest extends RequestView {
  readonly outputTokens: number;
  readonly finishedSeconds: number;
  /** Seconds from arrival at the gateway to the first token. */
  readonly ttftSeconds: number;
}
