// What a request of a trace looks like on the wire: a prompt of exactly so many token ids, made from the seed, and a
// limit on the answer that says nothing about its true length.
import type { Random, TraceRequest } from '../../core/domain/index.ts';
import {
  EMULATED_VOCABULARY,
  FIRST_ORDINARY_TOKEN,
  foldAll,
  HEADER_OUTPUT_TOKENS,
  startState,
} from '../../wire/index.ts';

/** Limits that clients send: drawn without regard to the true length, except that they never cut it. */
const CLIENT_LIMITS = [1024, 4096, 8192] as const;

export interface ServerFacts {
  readonly emulated: boolean;
  /** Emulated seconds in one real second; 1 for a real server. */
  readonly speed: number;
  readonly models: readonly string[];
  /** Longest input + output by model, tokens, where the server says so. */
  readonly maxModelLen: ReadonlyMap<string, number>;
}

export interface PreparedRequest {
  readonly body: string;
  readonly headers: Readonly<Record<string, string>>;
  /** State of the prefix hash after the prompt. */
  readonly promptState: number;
}

/** Token ids of the n-th request's prompt; equal seed and number, equal ids. */
export function promptTokens(seedHash: number, number: number, length: number): Int32Array {
  const tokens = new Int32Array(length);
  const range = EMULATED_VOCABULARY - FIRST_ORDINARY_TOKEN;
  let state = Math.imul(seedHash ^ Math.imul(number + 1, 0x9e3779b1), 0x85ebca6b) | 1;
  for (let i = 0; i < length; i++) {
    // xorshift32: never 0, and good enough for prompts
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    tokens[i] = FIRST_ORDINARY_TOKEN + ((state >>> 0) % range);
  }
  return tokens;
}

/** Draws the client's limit of each request in turn, as the simulator does. */
export function clientLimit(request: TraceRequest, maxModelLen: number, limits: Random): number {
  const drawn = CLIENT_LIMITS[Math.floor(limits.next() * CLIENT_LIMITS.length)]!;
  return Math.max(request.outputTokens, Math.min(drawn, maxModelLen - request.inputTokens));
}

/**
 * An emulated server is told the true length in a header that its engines alone read. A real one is made to produce it:
 * it goes on past the end of sequence up to `max_tokens`.
 */
export function prepare(
  request: TraceRequest,
  number: number,
  seedHash: number,
  facts: ServerFacts,
  limits: Random,
): PreparedRequest {
  const model = request.model ?? facts.models[0]!;
  const tokens = promptTokens(seedHash, number, request.inputTokens);
  const limit = clientLimit(request, facts.maxModelLen.get(model) ?? Number.POSITIVE_INFINITY, limits);
  const length = facts.emulated ? `"max_tokens":${limit}` : `"max_tokens":${request.outputTokens},"ignore_eos":true`;
  let ids = '';
  for (let i = 0; i < tokens.length; i++) ids += i === 0 ? tokens[i] : `,${tokens[i]}`; // join() is many times slower
  const body = `{"model":${JSON.stringify(model)},"prompt":[${ids}],${length},"temperature":0,"stream":true,"stream_options":{"include_usage":true},"return_token_ids":true}`;
  return {
    body,
    headers: {
      'content-type': 'application/json',
      ...(facts.emulated ? { [HEADER_OUTPUT_TOKENS]: String(request.outputTokens) } : {}),
      ...(request.tenant === undefined ? {} : { 'x-oserve-tenant': request.tenant }),
    },
    promptState: foldAll(startState(), tokens),
  };
}
