// From the body of a completion or chat request to what is to be generated, with vLLM's checks and vLLM's words. What an
// emulated engine would answer wrongly (several choices, log-probabilities, guided decoding) it refuses.
import type { IncomingHttpHeaders } from 'node:http';
import {
  type ChatRequest,
  type CompletionRequest,
  chatRequestSchema,
  completionRequestSchema,
  EMULATED_VOCABULARY,
  errorBody,
  HEADER_CONTINUED_TOKENS,
  HEADER_OUTPUT_TOKENS,
  tokenize,
} from '../wire/index.ts';
import { renderChat } from './chat-template.ts';
import { Generation } from './generation.ts';
import { HttpError, parseBody } from './http.ts';

export type RequestKind = 'completion' | 'chat';

/** What the answer is made from: one generation per prompt. */
export interface PlannedRequest {
  readonly kind: RequestKind;
  readonly stream: boolean;
  readonly includeUsage: boolean;
  /** Usage in each chunk. */
  readonly continuousUsage: boolean;
  readonly returnTokenIds: boolean;
  readonly priority: number;
  readonly requestId: string | null;
  readonly generations: readonly Generation[];
}

export const badRequest = (message: string, param: string | null = null): HttpError =>
  new HttpError(400, errorBody(message, 'BadRequestError', param, 400));

/** vLLM's default for completions; a chat may use the whole context. */
const DEFAULT_COMPLETION_TOKENS = 16;

/** @throws {@link HttpError} 400 or 404, as vLLM answers. */
export function planRequest(
  kind: RequestKind,
  text: string,
  headers: IncomingHttpHeaders,
  engine: { readonly modelName: string; readonly maxModelLen: number },
): PlannedRequest {
  const body =
    kind === 'chat'
      ? parseBody(text, chatRequestSchema, badRequest)
      : parseBody(text, completionRequestSchema, badRequest);
  if (body.model && body.model !== engine.modelName) {
    const message = `The model \`${body.model}\` does not exist.`;
    throw new HttpError(404, errorBody(message, 'NotFoundError', 'model', 404));
  }
  refuseUnsupported(body);
  const stated = countHeader(headers, HEADER_OUTPUT_TOKENS);
  const continued = countHeader(headers, HEADER_CONTINUED_TOKENS) ?? 0;
  if (stated !== null && stated <= continued) {
    throw badRequest(
      `${HEADER_OUTPUT_TOKENS} is ${stated} and ${HEADER_CONTINUED_TOKENS} is ${continued}: nothing is left to generate.`,
    );
  }
  const stop = typeof body.stop === 'string' ? [body.stop] : (body.stop ?? []);
  const requestId = headers['x-request-id'];
  return {
    kind,
    stream: body.stream ?? false,
    includeUsage: body.stream_options?.include_usage ?? false,
    continuousUsage: (body.stream_options?.include_usage && body.stream_options.continuous_usage_stats) ?? false,
    returnTokenIds: body.return_token_ids ?? false,
    priority: body.priority ?? 0,
    requestId: (typeof requestId === 'string' ? requestId : body.request_id) ?? null,
    generations: promptsOf(body).map((prompt) => {
      const maxTokens = outputLimit(body, prompt.length, engine.maxModelLen);
      return new Generation({
        prompt,
        maxTokens,
        ignoreEos: body.ignore_eos ?? false,
        statedTokens: stated === null ? null : stated - continued,
        stop,
      });
    }),
  };
}

type Body = CompletionRequest | ChatRequest;
const isChat = (body: Body): body is ChatRequest => 'messages' in body;

function promptsOf(body: Body): readonly (readonly number[])[] {
  if (isChat(body)) return [tokenize(renderChat(body.messages))];
  const { prompt } = body;
  const list = typeof prompt === 'string' ? [prompt] : prompt;
  const prompts =
    typeof list[0] === 'number'
      ? [list as number[]]
      : (list as (string | number[])[]).map((one) => (typeof one === 'string' ? tokenize(one) : one));
  for (const ids of prompts) {
    const foreign = ids.find((id) => id >= EMULATED_VOCABULARY);
    if (foreign !== undefined) throw badRequest(`Token id ${foreign} is out of vocabulary`, 'prompt');
  }
  if (prompts.length === 0 || prompts.some((ids) => ids.length === 0)) {
    throw badRequest('The decoder prompt cannot be empty', 'prompt');
  }
  return prompts;
}

/** Most tokens to generate; prompt and output together must fit the context. */
function outputLimit(body: Body, promptTokens: number, maxModelLen: number): number {
  const asked = (isChat(body) ? body.max_completion_tokens : undefined) ?? body.max_tokens;
  if (asked !== null && asked !== undefined && asked < 1) {
    throw badRequest(`max_tokens must be at least 1, got ${asked}.`, 'max_tokens');
  }
  const room = maxModelLen - promptTokens;
  const wanted = asked ?? (isChat(body) ? Math.max(1, room) : DEFAULT_COMPLETION_TOKENS);
  if (wanted > room) {
    throw badRequest(
      `This model's maximum context length is ${maxModelLen} tokens. However, you requested ${wanted} output tokens and your prompt contains at least ${promptTokens} input tokens, for a total of at least ${promptTokens + wanted} tokens. Please reduce the length of the input prompt or the number of requested output tokens.`,
      'input_tokens',
    );
  }
  return wanted;
}

function refuseUnsupported(body: Body): void {
  const refuse = (param: string, what: string) => badRequest(`${what} is not supported by the emulated engine.`, param);
  if ((body.n ?? 1) !== 1) throw refuse('n', `n = ${body.n} (several choices)`);
  if (given(body.best_of) && body.best_of !== 1) throw refuse('best_of', 'best_of');
  if (body.echo === true) throw refuse('echo', 'echo');
  if (given(body.suffix)) throw refuse('suffix', 'suffix');
  for (const field of ['logprobs', 'prompt_logprobs', 'structured_outputs', 'guided_json', 'guided_regex']) {
    if (given(body[field]) && body[field] !== false) throw refuse(field, field);
  }
  const format = body.response_format as { type?: unknown } | null | undefined;
  if (given(format) && format.type !== 'text') throw refuse('response_format', 'A response format other than text');
  if (given(body.tool_choice) && body.tool_choice !== 'auto' && body.tool_choice !== 'none') {
    throw refuse('tool_choice', 'A forced tool call');
  }
}

const given = <T>(value: T | null | undefined): value is T => value !== null && value !== undefined;

function countHeader(headers: IncomingHttpHeaders, name: string): number | null {
  const text = headers[name];
  if (text === undefined) return null;
  const count = Number(text);
  if (!Number.isInteger(count) || count < 0) throw badRequest(`The header ${name} is not a count: "${text}".`);
  return count;
}
