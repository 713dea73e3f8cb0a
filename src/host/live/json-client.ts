// Small JSON-over-HTTP client with a bearer token, for the two control planes inside a pool: node agents and the
// gateway's admin port. It tells apart what callers must treat differently: nobody answered, or the answer was no.
import type { Agent } from 'undici';
import type { ZodType } from 'zod';
import { EngineError } from '../../core/domain/index.ts';
import { errorBodySchema } from '../../wire/index.ts';

/** Nobody answered (process gone, port closed, time over): what was asked may or may not have happened. */
export class UnreachableError extends EngineError {
  /** The connection was refused or reset: the process is gone, not merely slow. */
  readonly processGone: boolean;

  constructor(message: string, processGone: boolean, cause: unknown) {
    super(message, { cause });
    this.processGone = processGone;
  }
}

/** The other side answered with an error: it did not do what was asked. */
export class RefusedError extends EngineError {
  readonly status: number;
  /** `error.code` of the answer, or null. */
  readonly answerCode: string | null;

  constructor(message: string, status: number, answerCode: string | null) {
    super(message);
    this.status = status;
    this.answerCode = answerCode;
  }
}

export interface JsonClientOptions {
  /** `http://127.0.0.1:8101`, without a slash at the end. */
  readonly baseUrl: string;
  readonly token: string;
  /** Who is called, for messages: `agent 0`, `gateway`. */
  readonly name: string;
  /** Longest wait for an answer unless a call says otherwise, real milliseconds. */
  readonly timeoutMs?: number;
}

export interface JsonCall<T> {
  readonly method: 'GET' | 'POST' | 'PUT';
  readonly path: string;
  readonly body?: unknown;
  readonly answer: ZodType<T>;
  readonly timeoutMs?: number;
}

const GONE = new Set(['ECONNREFUSED', 'ECONNRESET', 'EPIPE', 'UND_ERR_SOCKET', 'ENOENT']);

export class JsonClient {
  readonly #options: JsonClientOptions;
  #connections: Agent | null = null;

  constructor(options: JsonClientOptions) {
    this.#options = options;
  }

  get name(): string {
    return this.#options.name;
  }

  /**
   * @throws {@link UnreachableError} when nobody answered, {@link RefusedError} when the answer was an error,
   *   EngineError when the answer is outside the protocol.
   */
  async call<T>({ method, path, body, answer, timeoutMs }: JsonCall<T>): Promise<T> {
    const { baseUrl, token, name } = this.#options;
    const what = `${name}: ${method} ${path}`;
    const longestMs = timeoutMs ?? this.#options.timeoutMs ?? 5000;
    let status: number;
    let text: string;
    // Loaded at the first call: engines and agents load this folder too, and never call.
    const undici = await import('undici');
    this.#connections ??= new undici.Agent({ connections: 32, keepAliveTimeout: 4000, pipelining: 1 });
    try {
      const response = await undici.request(`${baseUrl}${path}`, {
        method,
        dispatcher: this.#connections,
        headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        headersTimeout: longestMs,
        bodyTimeout: longestMs,
        signal: AbortSignal.timeout(longestMs),
      });
      status = response.statusCode;
      text = await response.body.text();
    } catch (error) {
      const code = (error as { code?: string }).code ?? (error as Error).name;
      throw new UnreachableError(`${what} was not answered (${code}).`, GONE.has(code), error);
    }
    if (status >= 400) throw refusal(what, status, text);
    let value: unknown;
    try {
      value = text === '' ? {} : JSON.parse(text);
    } catch (error) {
      throw new EngineError(`${what} answered ${status} with a body that is not JSON.`, { cause: error });
    }
    const checked = answer.safeParse(value);
    if (!checked.success) {
      const issue = checked.error.issues[0];
      throw new EngineError(
        `${what} answered outside the protocol: ${issue?.path.join('.') || 'body'}: ${issue?.message ?? 'unknown'}.`,
        { cause: checked.error },
      );
    }
    return checked.data;
  }

  async close(): Promise<void> {
    await this.#connections?.destroy();
  }
}

function refusal(what: string, status: number, text: string): RefusedError {
  let body: unknown = null;
  try {
    body = JSON.parse(text);
  } catch {
    // Not JSON: the status and the text say enough.
  }
  const parsed = errorBodySchema.safeParse(body);
  const message = parsed.success ? parsed.data.error.message : text.slice(0, 200);
  const code = parsed.success ? parsed.data.error.code : null;
  return new RefusedError(`${what} was refused with ${status}: ${message}`, status, code == null ? null : String(code));
}
