// What a request needs of a replica at a given moment: at its start as the client asked, later for what is left of it.
import type { RequestView } from '../core/domain/index.ts';
import type { InferenceRequest } from './inference-request.ts';
import type { StreamProgress } from './stream-progress.ts';

/** Output tokens that a request without a limit must find room for; it may get more, up to what its replica has. */
const ROOM_WITHOUT_LIMIT = 1024;

/** Output tokens that routing assumes of a request without a limit, where the longest replica takes `longest` tokens. */
export const roomWithoutLimit = (inputTokens: number, longest: number): number =>
  Math.max(1, Math.min(ROOM_WITHOUT_LIMIT, longest - inputTokens));

/**
 * Output tokens that may still come.
 *
 * @param firstMaxModelLen - model length of the replica where the stream began: it bounds an output without a limit.
 */
export function remainingTokens(request: InferenceRequest, progress: StreamProgress, firstMaxModelLen: number): number {
  return (request.maxTokens ?? firstMaxModelLen - (progress.promptTokens ?? 0)) - progress.generated;
}

/**
 * The view that the rest of a stream is routed by: what was generated is prompt now.
 *
 * @param remaining - see {@link remainingTokens}.
 * @param longest - longest request that an admitted replica takes, tokens.
 */
export function viewOfRest(
  view: RequestView,
  request: InferenceRequest,
  progress: StreamProgress,
  remaining: number,
  longest: number,
): RequestView {
  const inputTokens = (progress.promptTokens ?? view.inputTokens) + progress.generated;
  const maxTokens =
    request.maxTokens === null ? Math.min(remaining, roomWithoutLimit(inputTokens, longest)) : remaining;
  return { ...view, inputTokens, maxTokens };
}

/** Engines' words for a prompt that is longer than they take. */
const TOO_LONG = /maximum context length|context_length_exceeded|max_model_len/i;

/**
 * The estimate of a text prompt was too small for the replica that refused it: the view by which a larger one is found.
 *
 * @returns null when the refusal is about something else, or no admitted replica is larger.
 */
export function viewForLarger(
  view: RequestView,
  request: InferenceRequest,
  refusal: Buffer,
  triedMaxModelLen: number,
  longest: number,
): RequestView | null {
  if (request.prompt.kind === 'tokens' || longest <= triedMaxModelLen || !TOO_LONG.test(refusal.toString('utf8')))
    return null;
  const maxTokens = request.maxTokens ?? 1;
  return { ...view, inputTokens: triedMaxModelLen - maxTokens + 1, maxTokens };
}
