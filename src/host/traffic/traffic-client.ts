// Sends one request and reads its answer, as a well-behaved OpenAI client does: 408, 409, 429 and 5xx, and connections
// that fail before an answer, are tried again at most twice, after the server's Retry-After or a growing pause.
import { Agent, type Dispatcher } from 'undici';
import type { PreparedRequest } from './prompts.ts';
import { type StreamFault, StreamReader, type StreamReaderOptions } from './stream-reader.ts';

const MOST_RETRIES = 2;
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 8000;
/** A server that asks for more patience than this is not waited for; the usual pause is made instead. */
const LONGEST_RETRY_AFTER_MS = 60_000;

export type Answer =
  | { readonly kind: 'whole'; readonly tokens: number; readonly firstTokenMs: number; readonly endMs: number }
  /** Turned away with 429 or 503 to the end, or because it fits nowhere. */
  | { readonly kind: 'refused'; readonly status: number; readonly message: string }
  | {
      readonly kind: 'failed';
      readonly fault: StreamFault | 'connection' | `http-${number}`;
      readonly message: string;
    };

interface Attempt {
  readonly answer: Answer;
  /** Milliseconds after which it may be tried again; null: final. */
  readonly retryAfterMs: number | null;
}

export class TrafficClient {
  readonly #agent = new Agent({
    pipelining: 1,
    headersTimeout: 0,
    bodyTimeout: 0,
    connect: { noDelay: true, timeout: 60_000 },
    // Well below the five seconds after which servers close: a request must not meet a closing connection.
    keepAliveMaxTimeout: 1500,
    keepAliveTimeout: 1500,
  });
  readonly #origin: string;
  readonly #path: string;
  readonly #jitter: () => number;
  readonly #aborts = new Set<(error: Error) => void>();
  #closed = false;
  /** Requests that were sent again. */
  retries = 0;

  /**
   * @param url - base URL; `/v1/completions` is appended.
   * @param jitter - in [0, 1): how much of a quarter of each pause is left out.
   */
  constructor(url: string, jitter: () => number) {
    const parsed = new URL(url);
    this.#origin = parsed.origin;
    this.#path = `${parsed.pathname.replace(/\/(v1\/?)?$/, '')}/v1/completions`;
    this.#jitter = jitter;
  }

  async send(request: PreparedRequest, expected: StreamReaderOptions): Promise<Answer> {
    for (let retry = 0; ; retry++) {
      const { answer, retryAfterMs } = await this.#attempt(request, expected, retry);
      if (retryAfterMs === null || retry === MOST_RETRIES || this.#closed) return answer;
      await new Promise((resolve) => setTimeout(resolve, retryAfterMs));
      this.retries++;
    }
  }

  /** Ends everything that is open. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const abort of [...this.#aborts]) abort(new Error('the client stops'));
    await this.#agent.destroy();
  }

  #attempt(request: PreparedRequest, expected: StreamReaderOptions, retry: number): Promise<Attempt> {
    return new Promise((resolve) => {
      const reader = new StreamReader(expected);
      let status = 0;
      let headers: Readonly<Record<string, string | string[] | undefined>> = {};
      let firstTokenMs = Number.NaN;
      let endMs = Number.NaN;
      let errorBody = '';
      let abort: ((error: Error) => void) | null = null;
      const settle = (attempt: Attempt) => {
        if (abort) this.#aborts.delete(abort);
        resolve(attempt);
      };
      const handler: Dispatcher.DispatchHandler = {
        onRequestStart: (controller) => {
          abort = (error) => controller.abort(error);
          this.#aborts.add(abort);
        },
        onResponseStart: (_controller, statusCode, responseHeaders) => {
          status = statusCode;
          headers = responseHeaders;
        },
        onResponseData: (_controller, chunk) => {
          if (status !== 200) {
            errorBody += chunk.toString('utf8');
            return;
          }
          const before = reader.tokens;
          reader.feed(chunk);
          if (reader.tokens > before) {
            endMs = performance.now();
            if (before === 0) firstTokenMs = endMs;
          }
        },
        onResponseEnd: () => {
          if (status !== 200) return settle(this.#refusal(status, headers, errorBody, retry));
          const fault = reader.end();
          if (fault) settle({ answer: { kind: 'failed', fault, message: reader.message }, retryAfterMs: null });
          else settle({ answer: { kind: 'whole', tokens: reader.tokens, firstTokenMs, endMs }, retryAfterMs: null });
        },
        onResponseError: (_controller, error) => {
          // Before an answer has begun the request can be sent again; a stream that breaks is lost.
          const fault = status === 200 ? 'cut' : 'connection';
          const retryAfterMs = status === 200 ? null : this.#pauseMs(retry);
          settle({ answer: { kind: 'failed', fault, message: error.message }, retryAfterMs });
        },
      };
      const { body } = request;
      const sent = retry === 0 ? request.headers : { ...request.headers, 'x-stainless-retry-count': String(retry) };
      this.#agent.dispatch({ origin: this.#origin, path: this.#path, method: 'POST', headers: sent, body }, handler);
    });
  }

  #refusal(
    status: number,
    headers: Readonly<Record<string, string | string[] | undefined>>,
    body: string,
    retry: number,
  ): Attempt {
    const { message, code } = errorOf(body);
    const isRefusal = status === 429 || status === 503 || code === 'context_length_exceeded';
    const answer: Answer = isRefusal
      ? { kind: 'refused', status, message }
      : { kind: 'failed', fault: `http-${status}`, message };
    const told = headers['x-should-retry'];
    const may =
      told === 'true' || (told !== 'false' && (status === 408 || status === 409 || status === 429 || status >= 500));
    if (!may) return { answer, retryAfterMs: null };
    const ms = Number(headers['retry-after-ms']);
    const seconds = Number(headers['retry-after']);
    const asked = Number.isFinite(ms) ? ms : Number.isFinite(seconds) ? seconds * 1000 : Number.NaN;
    return { answer, retryAfterMs: asked >= 0 && asked < LONGEST_RETRY_AFTER_MS ? asked : this.#pauseMs(retry) };
  }

  #pauseMs(retry: number): number {
    return Math.min(FIRST_PAUSE_MS * 2 ** retry, LONGEST_PAUSE_MS) * (1 - 0.25 * this.#jitter());
  }
}

function errorOf(body: string): { readonly message: string; readonly code: unknown } {
  try {
    const { error } = JSON.parse(body) as { error?: { message?: string; code?: unknown } };
    return { message: error?.message ?? body, code: error?.code };
  } catch {
    return { message: body.slice(0, 200), code: null };
  }
}
