// The HTTP side of asking an engine: what is sent, and what its status and headers say.
import type { Dispatcher } from 'undici';
import { HEADER_CONTINUED_TOKENS } from '../wire/index.ts';
import { headerOf } from './attempt.ts';
import { continuationBody } from './continuation.ts';
import { API_PATHS, type InferenceRequest } from './inference-request.ts';
import type { StreamProgress } from './stream-progress.ts';

/** How long a replica that answered 503 is left alone when it does not say, real ms. */
const BUSY_MS = 250;
const LONGEST_BUSY_MS = 5000;

/** The request as the client made it. */
export function firstCall(request: InferenceRequest, headers: readonly string[]): Dispatcher.DispatchOptions {
  return { path: API_PATHS[request.api], method: 'POST', headers: [...headers], body: request.forwardBody };
}

/** @param maxTokens - output tokens that may still come, at this replica. */
export function continuationCall(
  request: InferenceRequest,
  headers: readonly string[],
  progress: StreamProgress,
  maxTokens: number,
): Dispatcher.DispatchOptions {
  return {
    path: API_PATHS.completions,
    method: 'POST',
    headers: [...headers, HEADER_CONTINUED_TOKENS, String(progress.generated)],
    body: continuationBody(request, progress, maxTokens),
  };
}

/** What an engine says before the body of its answer. */
export interface EngineHead {
  readonly status: number;
  readonly contentType: string;
  readonly isEventStream: boolean;
  /** It takes nothing now: how long it wants to be left alone, real ms; else null. */
  readonly busyMs: number | null;
}

export function readHead(status: number, rawHeaders: readonly Buffer[]): EngineHead {
  const contentType = headerOf(rawHeaders, 'content-type') ?? 'application/json';
  // 503 and 429 are back-pressure, not faults.
  const isBusy = status === 503 || status === 429;
  const seconds = isBusy ? Number(headerOf(rawHeaders, 'retry-after')) : 0;
  return {
    status,
    contentType,
    isEventStream: status === 200 && contentType.startsWith('text/event-stream'),
    busyMs: isBusy ? (seconds > 0 ? Math.min(LONGEST_BUSY_MS, seconds * 1000) : BUSY_MS) : null,
  };
}

/** An engine's error event that is the request's fault: another engine would say the same. */
export function isClientError(json: string): boolean {
  try {
    const code = (JSON.parse(json) as { error?: { code?: unknown } }).error?.code;
    return typeof code === 'number' && code >= 400 && code < 500 && code !== 429;
  } catch {
    // Not JSON: an engine in trouble.
    return false;
  }
}

/** A whole answer that its engine did not finish. In JSON text these quotes cannot stand inside a string. */
export const isGivenUp = (body: Buffer): boolean =>
  body.includes('"abort"') && /"finish_reason": ?"abort"/.test(body.toString('latin1'));
