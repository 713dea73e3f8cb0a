// What happened to each request of a run, in columns: the trace it came from, where it is, and its times.

import type { Random } from '../domain/index.ts';
import { invariant, type RequestOutcome, type RequestView, type TraceRequest } from '../domain/index.ts';

/** Where a request stands. */
export const RequestState = { coming: 0, queued: 1, running: 2, done: 3, refused: 4 } as const;

/** Limits that clients send; drawn without regard to the true length, except that they never cut it. */
const CLIENT_LIMITS = [1024, 4096, 8192] as const;

export interface RequestLogOptions {
  /** Sorted by arrival. */
  readonly trace: readonly TraceRequest[];
  /** Model of requests that name none. */
  readonly model: string;
  /** Longest input + output by model, tokens: clients do not ask for more. */
  readonly maxModelLenOf: (model: string) => number;
  readonly random: Random;
}

export class RequestLog {
  readonly count: number;
  readonly arrivalSeconds: Float64Array;
  readonly inputTokens: Int32Array;
  readonly outputTokens: Int32Array;
  readonly maxTokens: Int32Array;
  readonly state: Uint8Array;
  /** Index of the replica that has it, -1 for none. */
  readonly replica: Int32Array;
  /** Tokens that it got before it was moved to the replica where it is now. */
  readonly carriedTokens: Int32Array;
  readonly firstTokenSeconds: Float64Array;
  readonly endSeconds: Float64Array;
  readonly #trace: readonly TraceRequest[];
  readonly #model: string;

  constructor({ trace, model, maxModelLenOf, random }: RequestLogOptions) {
    const n = trace.length;
    this.count = n;
    this.arrivalSeconds = Float64Array.from(trace, (request) => request.arrivalSeconds);
    this.inputTokens = Int32Array.from(trace, (request) => request.inputTokens);
    this.outputTokens = Int32Array.from(trace, (request) => request.outputTokens);
    this.state = new Uint8Array(n);
    this.replica = new Int32Array(n).fill(-1);
    this.carriedTokens = new Int32Array(n);
    this.firstTokenSeconds = new Float64Array(n).fill(Number.NaN);
    this.endSeconds = new Float64Array(n).fill(Number.NaN);
    const limits = random.fork('client limits');
    this.maxTokens = Int32Array.from(trace, (request, i) => {
      invariant(i === 0 || trace[i - 1]!.arrivalSeconds <= request.arrivalSeconds, 'a trace is sorted by arrival');
      const drawn = CLIENT_LIMITS[Math.floor(limits.next() * CLIENT_LIMITS.length)]!;
      const room = maxModelLenOf(request.model ?? model) - request.inputTokens;
      return Math.max(request.outputTokens, Math.min(drawn, room));
    });
    this.#trace = trace;
    this.#model = model;
  }

  /** All that a policy may see. */
  view(request: number): RequestView {
    const { model = this.#model, tenant } = this.#trace[request]!;
    const arrivalSeconds = this.arrivalSeconds[request]!;
    const inputTokens = this.inputTokens[request]!;
    const maxTokens = this.maxTokens[request]!;
    return tenant === undefined
      ? { arrivalSeconds, model, inputTokens, maxTokens }
      : { arrivalSeconds, model, inputTokens, maxTokens, tenant };
  }

  outcomes(): RequestOutcome[] {
    return Array.from({ length: this.count }, (_, i) => {
      const completed = this.state[i] === RequestState.done;
      const arrival = this.arrivalSeconds[i]!;
      return {
        model: this.#trace[i]!.model ?? this.#model,
        inputTokens: this.inputTokens[i]!,
        outputTokens: completed ? this.outputTokens[i]! : 0,
        completed,
        refused: this.state[i] === RequestState.refused,
        ttftSeconds: completed ? this.firstTokenSeconds[i]! - arrival : Number.POSITIVE_INFINITY,
        e2eSeconds: completed ? this.endSeconds[i]! - arrival : Number.POSITIVE_INFINITY,
      };
    });
  }
}
