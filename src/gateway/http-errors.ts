// Every refusal in OpenAI's shape: `{"error": {"message", "type", "param", "code"}}` with the status that clients' retry
// rules expect. Addresses of engines never appear in a message.
import type { ServerResponse } from 'node:http';
import { RequestError } from '../core/domain/index.ts';
import { errorBody, sseData } from '../wire/index.ts';

export interface HttpFailure {
  readonly status: number;
  readonly message: string;
  readonly type: string;
  readonly param: string | null;
  readonly code: string;
  /** Real seconds after which another try makes sense. */
  readonly retryAfterSeconds?: number;
  /** false: we have tried for the client already. */
  readonly shouldRetry?: boolean;
}

const failure = (
  status: number,
  type: string,
  code: string,
  message: string,
  more: Partial<Pick<HttpFailure, 'param' | 'retryAfterSeconds' | 'shouldRetry'>> = {},
): HttpFailure => ({
  status,
  type,
  code,
  message,
  param: null,
  ...(more.retryAfterSeconds === undefined ? {} : { shouldRetry: true }),
  ...more,
});

export const failures = {
  notFound: (path: string) => failure(404, 'not_found_error', 'unknown_path', `There is nothing at ${path}.`),
  wrongMethod: (method: string, path: string, allowed: string) =>
    failure(405, 'invalid_request_error', 'method_not_allowed', `${path} takes ${allowed}, not ${method}.`),
  tooLarge: (limit: number) =>
    failure(413, 'invalid_request_error', 'body_too_large', `The request body is larger than ${limit} bytes.`),
  encoded: (encoding: string) =>
    failure(
      415,
      'invalid_request_error',
      'unsupported_encoding',
      `A request body in content-encoding "${encoding}" cannot be read; send it plain.`,
    ),
  unknownModel: (model: string, known: readonly string[]) =>
    failure(
      404,
      'not_found_error',
      'model_not_found',
      `The model "${model}" does not exist here. Models: ${known.join(', ') || 'none yet'}.`,
      { param: 'model' },
    ),
  tooLong: (inputTokens: number, maxTokens: number, longest: number) =>
    failure(
      400,
      'invalid_request_error',
      'context_length_exceeded',
      `This request asks for ${inputTokens} input tokens + ${maxTokens} output tokens = ${inputTokens + maxTokens}; ` +
        `the longest that a replica of this model takes is ${longest} tokens in all.`,
      { param: 'max_tokens' },
    ),
  queueFull: (waiting: number) =>
    failure(503, 'server_error', 'overloaded', `${waiting} requests wait for a replica already; no more are queued.`, {
      retryAfterSeconds: 2,
    }),
  waitedTooLong: (seconds: number) =>
    failure(503, 'server_error', 'no_replica', `No replica could take this request within ${seconds} seconds.`, {
      retryAfterSeconds: 2,
    }),
  buffersFull: () =>
    failure(503, 'server_error', 'overloaded', 'Too many bytes of requests are held already.', {
      retryAfterSeconds: 2,
    }),
  shuttingDown: () =>
    failure(503, 'server_error', 'shutting_down', 'This server is shutting down.', { retryAfterSeconds: 5 }),
  engineFailed: (tries: number) =>
    failure(502, 'server_error', 'engine_failed', `The engines failed on this request ${tries} times.`, {
      shouldRetry: false,
    }),
  interrupted: (why: string) =>
    failure(
      502,
      'server_error',
      'stream_interrupted',
      `The stream was cut and cannot go on exactly (${why}). Try again.`,
    ),
  internal: () => failure(500, 'server_error', 'internal_error', 'The gateway failed on this request.'),
} as const;

export function failureOf(error: unknown): HttpFailure | null {
  return error instanceof RequestError
    ? failure(400, 'invalid_request_error', error.code, error.message, { param: error.param })
    : null;
}

const bodyOf = ({ message, type, param, code }: HttpFailure): string =>
  JSON.stringify(errorBody(message, type, param, code));

/** Answers with the failure; the response must not have begun. */
export function sendFailure(res: ServerResponse, problem: HttpFailure, requestId: string | null = null): void {
  const body = bodyOf(problem);
  res.writeHead(problem.status, {
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(body),
    ...(requestId === null ? {} : { 'x-request-id': requestId }),
    ...(problem.retryAfterSeconds === undefined ? {} : { 'retry-after': String(problem.retryAfterSeconds) }),
    ...(problem.shouldRetry === undefined ? {} : { 'x-should-retry': String(problem.shouldRetry) }),
  });
  res.end(body);
}

/** The failure as the last event of a stream that has begun; no [DONE] follows. */
export const failureEvent = (problem: HttpFailure): string => sseData(bodyOf(problem));
