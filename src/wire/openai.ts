// The OpenAI-compatible HTTP API as vLLM speaks it: what a request may hold, what answers and stream chunks look like,
// the error body, and the framing of server-sent events. Unknown fields pass: clients send more than anyone lists.
import { z } from 'zod';

const tokenIds = z.array(z.int().nonnegative());
const streamOptionsSchema = z.looseObject({
  include_usage: z.boolean().nullish(),
  /** vLLM: usage in each chunk, not only in a last one. */
  continuous_usage_stats: z.boolean().nullish(),
});

const commonFields = {
  model: z.string().nullish(),
  stream: z.boolean().nullish(),
  stream_options: streamOptionsSchema.nullish(),
  max_tokens: z.int().nonnegative().nullish(),
  n: z.int().nullish(),
  stop: z.union([z.string(), z.array(z.string())]).nullish(),
  temperature: z.number().nullish(),
  seed: z.int().nullish(),
  user: z.string().nullish(),
  /** vLLM: generation goes on past the end of sequence, to `max_tokens`. */
  ignore_eos: z.boolean().nullish(),
  /** vLLM: smaller is sooner, where the engine schedules by priority. */
  priority: z.int().nullish(),
  request_id: z.string().nullish(),
  /** vLLM: choices carry `token_ids`, the first chunk also `prompt_token_ids`. */
  return_token_ids: z.boolean().nullish(),
};

/** Text, token ids, or a list of either. */
export type Prompt = string | number[] | string[] | number[][];

const isTokenIds = (value: unknown): value is number[] =>
  Array.isArray(value) && value.every((id) => Number.isInteger(id) && id >= 0);
// By hand: prompts of ten thousand ids are common, and a union of schemas would walk them several times.
const isPrompt = (value: unknown): value is Prompt =>
  typeof value === 'string' ||
  (Array.isArray(value) &&
    (typeof value[0] === 'number'
      ? isTokenIds(value)
      : value.every(typeof value[0] === 'string' ? (text) => typeof text === 'string' : isTokenIds)));

export const completionRequestSchema = z.looseObject({
  ...commonFields,
  prompt: z.custom<Prompt>(isPrompt, 'expected text, token ids, or a list of either'),
});
export type CompletionRequest = z.infer<typeof completionRequestSchema>;

const contentPartSchema = z.looseObject({ type: z.string(), text: z.string().nullish() });
export const chatMessageSchema = z.looseObject({
  role: z.string(),
  content: z.union([z.string(), z.array(contentPartSchema)]).nullish(),
});
export type ChatMessage = z.infer<typeof chatMessageSchema>;

export const chatRequestSchema = z.looseObject({
  ...commonFields,
  messages: z.array(chatMessageSchema).min(1),
  max_completion_tokens: z.int().nonnegative().nullish(),
});
export type ChatRequest = z.infer<typeof chatRequestSchema>;

/** Exactly one of the two. */
export const tokenizeRequestSchema = z
  .looseObject({ prompt: z.string().optional(), messages: z.array(chatMessageSchema).min(1).optional() })
  .refine((body) => (body.prompt === undefined) !== (body.messages === undefined), 'expected prompt or messages');
export const detokenizeRequestSchema = z.looseObject({ tokens: tokenIds });

export interface Usage {
  readonly prompt_tokens: number;
  readonly total_tokens: number;
  readonly completion_tokens: number;
}

/** `abort`: the engine gave the request up (vLLM's word). */
export type FinishReason = 'stop' | 'length' | 'abort';

export interface CompletionChoice {
  readonly index: number;
  readonly text: string;
  readonly logprobs: null;
  readonly finish_reason: FinishReason | null;
  readonly stop_reason?: string | number | null;
  readonly token_ids?: readonly number[] | null;
  readonly prompt_token_ids?: readonly number[] | null;
}

/** A whole answer and a chunk of a stream have the same shape. */
export interface Completion {
  readonly id: string;
  readonly object: 'text_completion';
  readonly created: number;
  readonly model: string;
  readonly choices: readonly CompletionChoice[];
  readonly usage?: Usage | null;
}

export interface ChatCompletion {
  readonly id: string;
  readonly object: 'chat.completion';
  readonly created: number;
  readonly model: string;
  readonly choices: readonly {
    readonly index: number;
    readonly message: { readonly role: 'assistant'; readonly content: string };
    readonly logprobs: null;
    readonly finish_reason: FinishReason;
    readonly stop_reason?: string | number | null;
    readonly token_ids?: readonly number[] | null;
  }[];
  readonly usage: Usage;
  readonly prompt_token_ids?: readonly number[] | null;
}

/** The first chunk's delta has the role; in vLLM, `prompt_token_ids` stands beside `choices` of that chunk. */
export interface ChatCompletionChunk {
  readonly id: string;
  readonly object: 'chat.completion.chunk';
  readonly created: number;
  readonly model: string;
  readonly choices: readonly {
    readonly index: number;
    readonly delta: { readonly role?: 'assistant'; readonly content?: string };
    readonly logprobs: null;
    readonly finish_reason: FinishReason | null;
    readonly stop_reason?: string | number | null;
    readonly token_ids?: readonly number[] | null;
  }[];
  readonly usage?: Usage | null;
  readonly prompt_token_ids?: readonly number[] | null;
}

export interface ModelList {
  readonly object: 'list';
  readonly data: readonly {
    readonly id: string;
    readonly object: 'model';
    readonly created: number;
    readonly owned_by: string;
    readonly root?: string;
    /** vLLM: longest input + output of one request, tokens. */
    readonly max_model_len?: number;
  }[];
}

/** `code` is OpenAI's word (`context_length_exceeded`) or, from vLLM, the HTTP status. */
export interface ErrorBody {
  readonly error: {
    readonly message: string;
    readonly type: string;
    readonly param: string | null;
    readonly code: string | number | null;
  };
}

export const errorBodySchema = z.object({
  error: z.object({
    message: z.string(),
    type: z.string(),
    param: z.string().nullable(),
    code: z.union([z.string(), z.number()]).nullable(),
  }),
});

export const errorBody = (
  message: string,
  type: string,
  param: string | null = null,
  code: string | number | null = null,
): ErrorBody => ({ error: { message, type, param, code } });

/** One server-sent event. `json` is text already: JSON has no raw line feeds, so one `data:` line holds it. */
export const sseData = (json: string): string => `data: ${json}\n\n`;
export const SSE_DONE = 'data: [DONE]\n\n';
/** Headers of an event stream; no proxy on the way may gather or compress it. */
export const SSE_HEADERS: Readonly<Record<string, string>> = {
  'content-type': 'text/event-stream; charset=utf-8',
  'cache-control': 'no-cache',
  'x-accel-buffering': 'no',
};

/** True TOTAL output length of a request; read by the emulated engine alone. */
export const HEADER_OUTPUT_TOKENS = 'x-oserve-emulated-output-tokens';
/** How many trailing tokens of a token-id prompt were generated before: the request is a continuation. */
export const HEADER_CONTINUED_TOKENS = 'x-oserve-continued-tokens';
/** `true` on each answer of an emulated engine or pool. */
export const HEADER_EMULATED = 'x-oserve-emulated';
