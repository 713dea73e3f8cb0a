// What the gateway must know of a chat or completion request, read from the scanned body: where it may go, whether its
// stream can go on at another replica, and which one field is added before the body is forwarded.
import { RequestError } from '../core/domain/index.ts';
import { type JsonField, type ScannedBody, scanJsonObject } from './body-scanner.ts';

export type Api = 'chat' | 'completions';

export const API_PATHS: Readonly<Record<Api, string>> = {
  chat: '/v1/chat/completions',
  completions: '/v1/completions',
};

/** Limit of /v1/completions where the client names none (OpenAI's and vLLM's default). */
const COMPLETIONS_DEFAULT_MAX_TOKENS = 16;

export interface InferenceRequest {
  readonly api: Api;
  readonly model: string;
  readonly stream: boolean;
  /** As the client sent it, without a byte order mark. */
  readonly body: Buffer;
  /** What goes to the engine: {@link body} with at most one field added or changed. */
  readonly forwardBody: Buffer;
  /** The client's limit on the output; null: as many tokens as the model length leaves on the chosen replica. */
  readonly maxTokens: number | null;
  /** Length of the prompt: exact for token ids, else bytes of text. */
  readonly prompt:
    | { readonly kind: 'tokens'; readonly count: number }
    | { readonly kind: 'text'; readonly bytes: number };
  /** Why the stream cannot go on exactly at another replica, or null when it can. */
  readonly notContinuable: string | null;
  /** One prompt, one choice: its end is the answer's end. */
  readonly hasOneChoice: boolean;
  /** The engine was asked for token ids. */
  readonly tracksIds: boolean;
  /** The client asked for token ids itself: they are left in. */
  readonly wantsIds: boolean;
  /** The client asked for usage at the end of the stream, or in each chunk. */
  readonly wantsUsage: boolean;
  readonly wantsUsageInEachChunk: boolean;
  /** Usage was asked for by us: the chunk that carries it is taken out. */
  readonly hidesUsage: boolean;
}

/**
 * @throws {@link RequestError} when the body is not a JSON object or names no model.
 */
export function readInferenceRequest(api: Api, raw: Buffer): InferenceRequest {
  const scanned = scanJsonObject(raw);
  const { body, fields } = scanned;
  const read = new FieldReader(scanned);
  const model = read.text('model');
  if (model === null) throw new RequestError('missing_model', 'The field "model" must be a string.', 'model');

  const stream = read.isTrue('stream');
  const wantsIds = read.isTrue('return_token_ids');
  const options = read.object('stream_options');
  const wantsUsage = options?.include_usage === true;
  const notContinuable = stream ? whyNotContinuable(api, read) : 'not a stream';
  const tracksIds = stream && (notContinuable === null || wantsIds);
  // Without ids the lengths are learnt from usage, asked for where the client has not said what it wants.
  const hidesUsage = stream && !tracksIds && !read.has('stream_options');
  return {
    api,
    model,
    stream,
    body,
    forwardBody:
      tracksIds && !wantsIds
        ? withField(scanned, 'return_token_ids', 'true')
        : hidesUsage
          ? withField(scanned, 'stream_options', '{"include_usage":true}')
          : body,
    maxTokens: maxTokensOf(api, read),
    prompt: promptOf(fields.get(api === 'chat' ? 'messages' : 'prompt')),
    notContinuable,
    hasOneChoice: hasOneChoice(api, read),
    tracksIds,
    wantsIds,
    wantsUsage,
    wantsUsageInEachChunk: wantsUsage && options?.continuous_usage_stats === true,
    hidesUsage,
  };
}

/** Reads small values; anything of another kind than asked for counts as absent and is left for the engine to refuse. */
class FieldReader {
  readonly #scanned: ScannedBody;

  constructor(scanned: ScannedBody) {
    this.#scanned = scanned;
  }

  field(name: string): JsonField | undefined {
    return this.#scanned.fields.get(name);
  }

  /** Present and not null. */
  has(name: string): boolean {
    const field = this.field(name);
    return field !== undefined && field.kind !== 'null';
  }

  isTrue(name: string): boolean {
    return this.field(name)?.kind === 'true';
  }

  number(name: string): number | null {
    const field = this.field(name);
    return field?.kind === 'number' ? Number(this.#slice(field)) : null;
  }

  text(name: string): string | null {
    const field = this.field(name);
    return field?.kind === 'string' ? (JSON.parse(this.#slice(field)) as string) : null;
  }

  object(name: string): Readonly<Record<string, unknown>> | null {
    const field = this.field(name);
    return field?.kind === 'object' ? (JSON.parse(this.#slice(field)) as Record<string, unknown>) : null;
  }

  /** Whether a value's bytes hold a piece of ASCII text. */
  includes(name: string, text: string): boolean {
    const field = this.field(name);
    return field !== undefined && this.#scanned.body.subarray(field.start, field.end).includes(text, 0, 'latin1');
  }

  #slice({ start, end }: JsonField): string {
    return this.#scanned.body.toString('utf8', start, end);
  }
}

/** Fields whose presence (not null, not false, not empty) makes a continuation inexact. */
const BINDING_FIELDS = [
  'guided_json',
  'guided_regex',
  'guided_choice',
  'guided_grammar',
  'structured_outputs',
  'suffix',
  'echo',
  'best_of',
  'use_beam_search',
  'prompt_logprobs',
  'top_logprobs',
  'logits_processors',
  'kv_transfer_params',
  'functions',
  'prompt_embeds',
] as const;

/** Parts of chat messages that are no text: their token ids alone do not bring the content back. */
const OTHER_CONTENT = ['image_url', 'video_url', 'audio_url', 'input_audio', 'image_pil', 'image_embeds', '"file'];

function whyNotContinuable(api: Api, read: FieldReader): string | null {
  if (!hasOneChoice(api, read)) return 'more than one choice';
  if (read.has('seed') && read.number('temperature') !== 0) return 'seeded sampling';
  if (isGiven(read.field('stop'))) return 'stop strings';
  if (isGiven(read.field('tools'))) return 'tools';
  // 0 asks for log-probabilities too on /v1/completions.
  if (read.has('logprobs') && read.field('logprobs')?.kind !== 'false') return 'log-probabilities';
  const format = read.object('response_format');
  if (format !== null && format.type !== 'text') return 'guided decoding';
  // A resubmitted output counts as prompt, which these two penalties do not look at.
  if ((read.number('presence_penalty') ?? 0) !== 0) return 'presence penalty';
  if ((read.number('frequency_penalty') ?? 0) !== 0) return 'frequency penalty';
  for (const name of BINDING_FIELDS) if (isGiven(read.field(name))) return name;
  if (api === 'chat') {
    for (const part of OTHER_CONTENT) if (read.includes('messages', part)) return 'content that is not text';
  }
  return null;
}

function hasOneChoice(api: Api, read: FieldReader): boolean {
  if ((read.number('n') ?? 1) !== 1) return false;
  const prompt = read.field('prompt');
  if (api === 'chat' || prompt?.kind !== 'array') return true;
  // One list of token ids, or a list with a single text or a single list of ids.
  if (prompt.arrayCount === 1)
    return prompt.stringCount === 0 || (prompt.stringCount === 1 && prompt.numberCount === 0);
  return prompt.arrayCount === 2 && prompt.stringCount === 0;
}

const isGiven = (field: JsonField | undefined): boolean =>
  field !== undefined &&
  field.kind !== 'null' &&
  field.kind !== 'false' &&
  // `[]`, `{}` and `""` ask for nothing.
  !((field.kind === 'array' || field.kind === 'object' || field.kind === 'string') && field.end - field.start === 2);

function maxTokensOf(api: Api, read: FieldReader): number | null {
  const limit = (api === 'chat' ? read.number('max_completion_tokens') : null) ?? read.number('max_tokens');
  if (limit !== null && Number.isInteger(limit) && limit >= 0) return limit;
  return api === 'chat' ? null : COMPLETIONS_DEFAULT_MAX_TOKENS;
}

function promptOf(field: JsonField | undefined): InferenceRequest['prompt'] {
  if (field === undefined) return { kind: 'text', bytes: 0 };
  return field.kind === 'array' && field.stringCount === 0 && field.numberCount > 0
    ? { kind: 'tokens', count: field.numberCount }
    : { kind: 'text', bytes: field.textBytes };
}

/** The body with one member set, everything else byte for byte as it was. */
export function withField({ body, fields, closingBrace }: ScannedBody, name: string, json: string): Buffer {
  const known = fields.get(name);
  if (known) return Buffer.concat([body.subarray(0, known.start), Buffer.from(json), body.subarray(known.end)]);
  const member = `${fields.size === 0 ? '' : ','}${JSON.stringify(name)}:${json}`;
  return Buffer.concat([body.subarray(0, closingBrace), Buffer.from(member), body.subarray(closingBrace)]);
}
