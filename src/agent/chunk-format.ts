// The text of stream chunks. A stream has tens of thousands of chunks that differ in a few characters, so all that stays
// the same is written once per stream and a chunk is put together from strings; nothing is serialised per token. Token
// texts are letters and spaces, which JSON takes as they are.
import type { FinishReason, Usage } from '../wire/index.ts';
import type { RequestKind } from './engine-request.ts';

export interface ChunkFormatOptions {
  readonly kind: RequestKind;
  readonly id: string;
  readonly model: string;
  /** Unix time, seconds. */
  readonly created: number;
  readonly index: number;
  readonly returnTokenIds: boolean;
}

export interface ChunkEnd {
  readonly finishReason: FinishReason;
  readonly stopReason: string | null;
}

export class ChunkFormat {
  readonly #options: ChunkFormatOptions;
  /** Up to the text of the choice; from there to its token ids. */
  readonly #head: string;
  readonly #unfinished: string;
  readonly #chat: boolean;

  constructor(options: ChunkFormatOptions) {
    this.#options = options;
    this.#chat = options.kind === 'chat';
    const { index } = options;
    this.#head = this.#chat
      ? `${this.#start('chat.completion.chunk')}[{"index":${index},"delta":{"content":"`
      : `${this.#start('text_completion')}[{"index":${index},"text":"`;
    this.#unfinished = this.#chat
      ? '"},"logprobs":null,"finish_reason":null'
      : '","logprobs":null,"finish_reason":null,"stop_reason":null';
  }

  /**
   * What precedes the first token: a chat begins with the role, and says which tokens its prompt has.
   * Empty for completions, whose first chunk says it in the choice.
   */
  opening(prompt: readonly number[], usage: Usage | null | undefined): string {
    if (!this.#chat) return '';
    const { index, returnTokenIds } = this.#options;
    const ids = returnTokenIds ? `,"prompt_token_ids":[${prompt.join(',')}]` : '';
    return `${this.#start('chat.completion.chunk')}[{"index":${index},"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]${ids}${usageField(usage)}}\n\n`;
  }

  /**
   * One chunk.
   *
   * @param ids - token ids of the text, separated by commas.
   * @param prompt - prompt ids, in the first chunk of a completion, else null.
   * @param usage - undefined: the field is left out.
   */
  chunk(
    text: string,
    ids: string,
    prompt: readonly number[] | null,
    end: ChunkEnd | null,
    usage: Usage | null | undefined,
  ): string {
    const middle = end === null ? this.#unfinished : this.#finished(end);
    const tokens = this.#options.returnTokenIds ? `${promptField(prompt, this.#chat)},"token_ids":[${ids}]` : '';
    return `${this.#head}${text}${middle}${tokens}}]${usageField(usage)}}\n\n`;
  }

  /** The last chunk of a stream whose client asked for usage. */
  usageChunk(usage: Usage): string {
    return `${this.#start(this.#chat ? 'chat.completion.chunk' : 'text_completion')}[]${usageField(usage)}}\n\n`;
  }

  #start(object: string): string {
    const { id, created, model } = this.#options;
    return `data: {"id":${JSON.stringify(id)},"object":"${object}","created":${created},"model":${JSON.stringify(model)},"choices":`;
  }

  #finished({ finishReason, stopReason }: ChunkEnd): string {
    const reasons = `"logprobs":null,"finish_reason":"${finishReason}","stop_reason":${JSON.stringify(stopReason)}`;
    return this.#chat ? `"},${reasons}` : `",${reasons}`;
  }
}

const promptField = (prompt: readonly number[] | null, chat: boolean): string =>
  prompt === null || chat ? '' : `,"prompt_token_ids":[${prompt.join(',')}]`;

function usageField(usage: Usage | null | undefined): string {
  if (usage === undefined) return '';
  if (usage === null) return ',"usage":null';
  const { prompt_tokens, total_tokens, completion_tokens } = usage;
  return `,"usage":{"prompt_tokens":${prompt_tokens},"total_tokens":${total_tokens},"completion_tokens":${completion_tokens}}`;
}

export const usageOf = (promptTokens: number, completionTokens: number): Usage => ({
  prompt_tokens: promptTokens,
  total_tokens: promptTokens + completionTokens,
  completion_tokens: completionTokens,
});
