// How a stream goes on at another engine: the request that asks for the rest of the output in token space, and the
// re-framing of what comes back as the API, id and time of the answer that the client already reads.
import { SSE_DONE, sseData, type Usage } from '../wire/index.ts';
import type { InferenceRequest } from './inference-request.ts';
import type { StreamProgress } from './stream-progress.ts';
import { eventEnd, latin1ToUtf8, type SegmentScanner, type StreamStop, utf8ToLatin1 } from './stream-scanner.ts';

/** Members of the client's request that say how the prompt is made or what the answer looks like, not how to sample. */
const NOT_FOR_CONTINUATION = new Set([
  'messages',
  'prompt',
  'max_tokens',
  'max_completion_tokens',
  'min_tokens',
  'stream_options',
  'logprobs',
  'top_logprobs',
  'n',
  'stop',
  'echo',
  'tools',
  'tool_choice',
  'parallel_tool_calls',
  'response_format',
  'request_id',
  'add_generation_prompt',
  'continue_final_message',
  'add_special_tokens',
  'truncate_prompt_tokens',
  'chat_template',
  'chat_template_kwargs',
  'documents',
  'mm_processor_kwargs',
  'include_reasoning',
  'reasoning_effort',
]);

/**
 * Body of the /v1/completions request for the rest of the output.
 *
 * @param maxTokens - tokens that may still come.
 */
export function continuationBody(request: InferenceRequest, progress: StreamProgress, maxTokens: number): Buffer {
  const original = JSON.parse(request.body.toString('utf8')) as Record<string, unknown>;
  const kept = Object.entries(original).filter(([key]) => !NOT_FOR_CONTINUATION.has(key));
  const minTokens = Number(original.min_tokens ?? 0) - progress.generated;
  const rest = JSON.stringify({
    ...Object.fromEntries(kept),
    stream: true,
    return_token_ids: true,
    max_tokens: maxTokens,
    ...(minTokens > 0 ? { min_tokens: minTokens } : {}),
    ...(request.wantsUsage
      ? { stream_options: { include_usage: true, continuous_usage_stats: request.wantsUsageInEachChunk } }
      : {}),
  });
  const items = [progress.promptItems ?? '', progress.ids.toJsonItems()].filter((part) => part !== '').join(',');
  return Buffer.from(`{"prompt":[${items}],${rest.slice(1)}`);
}

interface Chunk {
  readonly choices?: readonly {
    readonly text?: string;
    readonly finish_reason?: string | null;
    readonly stop_reason?: string | number | null;
    readonly token_ids?: readonly number[] | null;
  }[];
  readonly usage?: Usage | null;
}

/** Makes events in the form of the answer's first one. */
export class Reframer {
  readonly #request: InferenceRequest;
  readonly #progress: StreamProgress;
  readonly #head: Readonly<Record<string, unknown>>;
  /** Output tokens that were kept when this segment began. */
  readonly #before: number;

  constructor(request: InferenceRequest, progress: StreamProgress) {
    this.#request = request;
    this.#progress = progress;
    this.#before = progress.generated;
    const first = JSON.parse(latin1ToUtf8(progress.firstEvent ?? '{}')) as Record<string, unknown>;
    const { choices: _choices, usage: _usage, prompt_token_ids: _ids, ...head } = first;
    this.#head = head;
  }

  /** One choice: text, how it ended, and what else its engine said. */
  choice(
    text: string,
    finishReason: string | null,
    stopReason: string | number | null | undefined,
    ids: readonly number[],
    usage: Usage | null,
  ): string {
    const choice = {
      index: 0,
      ...(this.#request.api === 'chat' ? { delta: { content: text } } : { text }),
      logprobs: null,
      finish_reason: finishReason,
      ...(stopReason === undefined ? {} : { stop_reason: stopReason }),
      ...(this.#request.wantsIds ? { token_ids: ids } : {}),
    };
    return this.#event({ choices: [choice], ...(usage === null ? {} : { usage: this.#whole(usage) }) });
  }

  usage(usage: Usage): string {
    return this.#event({ choices: [], usage: this.#whole(usage) });
  }

  /** Usage of the whole answer by our own count, where its last engine died before it said so. */
  ownUsage(): string {
    const { promptTokens, generated } = this.#progress;
    return this.#event({ choices: [], usage: usageOf(promptTokens ?? 0, generated) });
  }

  /** The engine saw our earlier output as prompt: here it is output again. */
  #whole(usage: Usage): Usage {
    return { ...usage, ...usageOf(this.#progress.promptTokens ?? 0, this.#before + usage.completion_tokens) };
  }

  #event(members: Readonly<Record<string, unknown>>): string {
    return sseData(JSON.stringify({ ...this.#head, ...members }));
  }
}

/** The last events of an answer whose output was delivered, where the engine cannot say them any more. */
export function closingEvents(request: InferenceRequest, progress: StreamProgress): string {
  const reframer = new Reframer(request, progress);
  const finish = progress.finished ? '' : reframer.choice('', 'length', undefined, [], null);
  const usage = request.wantsUsage && !progress.usageDelivered ? reframer.ownUsage() : '';
  return finish + usage + SSE_DONE;
}

const usageOf = (promptTokens: number, completionTokens: number): Usage => ({
  prompt_tokens: promptTokens,
  total_tokens: promptTokens + completionTokens,
  completion_tokens: completionTokens,
});

/** Reads the stream of an engine that goes on with an answer. */
export class ContinuationScanner implements SegmentScanner {
  readonly #reframer: Reframer;
  readonly #progress: StreamProgress;
  readonly #wantsIds: boolean;
  #tail = '';
  stopped: StreamStop | null = null;

  constructor(request: InferenceRequest, progress: StreamProgress) {
    this.#reframer = new Reframer(request, progress);
    this.#progress = progress;
    this.#wantsIds = request.wantsIds;
  }

  feed(chunk: Buffer): string {
    const text = this.#tail + chunk.toString('latin1');
    let out = '';
    let at = 0;
    while (this.stopped === null) {
      const end = eventEnd(text, at);
      if (end < 0) break;
      if (text.startsWith('data:', at)) out += this.#data(text.slice(at + 5, end).trim());
      at = end;
    }
    this.#tail = text.slice(at);
    return utf8ToLatin1(out);
  }

  #data(data: string): string {
    const progress = this.#progress;
    if (data === '[DONE]') {
      progress.done = true;
      return 'data: [DONE]\n\n';
    }
    let chunk: Chunk & { readonly error?: unknown };
    try {
      chunk = JSON.parse(latin1ToUtf8(data)) as Chunk;
    } catch {
      this.stopped = { kind: 'garbage', why: 'an event that is not JSON' };
      return '';
    }
    if (chunk.error !== undefined) {
      this.stopped = { kind: 'error', json: latin1ToUtf8(data) };
      return '';
    }
    const choice = chunk.choices?.[0];
    if (choice === undefined) {
      if (!chunk.usage) return '';
      progress.usageDelivered = true;
      return this.#reframer.usage(chunk.usage);
    }
    const finishReason = choice.finish_reason ?? null;
    if (finishReason === 'abort') {
      this.stopped = { kind: 'aborted' };
      return '';
    }
    const ids = choice.token_ids ?? [];
    const text = choice.text ?? '';
    for (const id of ids) progress.ids.push(id);
    progress.generated += ids.length;
    if (text !== '') progress.texted = progress.generated;
    if (finishReason !== null) progress.finished = true;
    if (text === '' && finishReason === null && !(this.#wantsIds && ids.length > 0)) return '';
    return this.#reframer.choice(text, finishReason, choice.stop_reason, ids, chunk.usage ?? null);
  }
}
