// Reads the event stream of one answer and judges whether it is whole. Tens of thousands of chunks a second pass here,
// so a chunk is scanned for its token ids; only chunks that carry none, or usage, or an error, are parsed as JSON.
import { fold, nextToken, type Usage } from '../../wire/index.ts';

const TOKEN_IDS = '"token_ids":[';
const FINISH = '"finish_reason":';
const QUOTE = 34;
/** How far ahead a wrong token is looked for, to tell a lost one from any other. */
const LOOK_AHEAD = 16;

export type StreamFault =
  | 'lost-tokens'
  | 'repeated-tokens'
  | 'wrong-tokens'
  | 'cut'
  | 'stream-error'
  | 'aborted'
  | 'usage'
  | 'protocol';

export interface StreamReaderOptions {
  /** State of the prefix hash after the prompt, for an emulated server; null: tokens are counted, not checked. */
  readonly promptState: number | null;
  readonly promptTokens: number;
  /** How many tokens the answer must have; null: as many as usage says. */
  readonly outputTokens: number | null;
}

export class StreamReader {
  readonly #options: StreamReaderOptions;
  #rest = '';
  #state: number;
  #previous = -1;
  #fault: StreamFault | null = null;
  #usage: Usage | null = null;
  #finish: string | null = null;
  #done = false;
  /** Chunks with text, where the server does not tell token ids. */
  #pieces = 0;
  /** Tokens so far: ids seen, or chunks with text where there are none. */
  tokens = 0;
  /** What the server said when it ended the stream with an error. */
  message = '';

  constructor(options: StreamReaderOptions) {
    this.#options = options;
    this.#state = options.promptState ?? 0;
  }

  /** Takes what arrived. Token ids and JSON's own characters are ASCII, so bytes may be read as Latin-1. */
  feed(bytes: Buffer): void {
    let text = this.#rest + bytes.toString('latin1');
    if (text.includes('\r')) text = text.replaceAll('\r\n', '\n');
    let start = 0;
    for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n', start)) {
      this.#frame(text.slice(start, end));
      start = end + 2;
    }
    this.#rest = start === 0 ? text : text.slice(start);
  }

  /** The verdict when the stream has ended: null for a whole answer. */
  end(): StreamFault | null {
    if (this.#fault) return this.#fault;
    if (!this.#done || this.#rest.trim() !== '') return 'cut';
    if (this.#finish === 'abort') return 'aborted';
    if (this.#finish === null || this.#usage === null) return this.#finish === null ? 'cut' : 'usage';
    const { promptTokens, outputTokens } = this.#options;
    const told = this.#usage.completion_tokens;
    // Without ids a chunk may hold several tokens: then usage counts.
    const received = this.#pieces > 0 ? told : this.tokens;
    if (outputTokens !== null && received < outputTokens) return 'lost-tokens';
    if (outputTokens !== null && received > outputTokens) return 'repeated-tokens';
    const { prompt_tokens, total_tokens } = this.#usage;
    const agrees = told === received && prompt_tokens === promptTokens && total_tokens === prompt_tokens + told;
    this.tokens = received;
    return agrees ? null : 'usage';
  }

  #frame(frame: string): void {
    if (frame.startsWith(':') || frame === '') return; // a comment keeps the connection alive
    if (this.#done || !frame.startsWith('data:')) this.#fail('protocol');
    else if (frame.startsWith('data: [DONE]')) this.#done = true;
    else {
      // From the end: what is looked for stands there, and quotes, which every key begins with, are many before it.
      const at = frame.lastIndexOf(TOKEN_IDS);
      if (at >= 0) this.#readIds(frame, at + TOKEN_IDS.length);
      const finish = frame.lastIndexOf(FINISH) + FINISH.length;
      if (finish >= FINISH.length && frame.charCodeAt(finish) === QUOTE) {
        this.#finish = frame.slice(finish + 1, frame.indexOf('"', finish + 1));
      }
      const hasUsage = !frame.endsWith('"usage":null}') && frame.includes('"usage":{');
      if (at < 0 || hasUsage) this.#parse(frame.slice('data:'.length), at < 0);
    }
  }

  #readIds(frame: string, from: number): void {
    let id = -1;
    for (let i = from; i < frame.length; i++) {
      const code = frame.charCodeAt(i);
      if (code >= 48 && code <= 57) id = (id < 0 ? 0 : id * 10) + code - 48;
      else {
        if (id >= 0) this.#token(id);
        id = -1;
        if (code === 93) return; // ]
      }
    }
  }

  #token(id: number): void {
    this.tokens++;
    if (this.#options.promptState === null || this.#fault) return;
    const expected = nextToken(this.#state);
    if (id !== expected) this.#fail(this.#whatIsWrong(id, expected));
    this.#state = fold(this.#state, id);
    this.#previous = id;
  }

  #whatIsWrong(id: number, expected: number): StreamFault {
    if (id === this.#previous) return 'repeated-tokens';
    let state = fold(this.#state, expected);
    for (let i = 0; i < LOOK_AHEAD; i++) {
      const later = nextToken(state);
      if (later === id) return 'lost-tokens';
      state = fold(state, later);
    }
    return 'wrong-tokens';
  }

  #parse(json: string, hasNoIds: boolean): void {
    let chunk: {
      readonly error?: { readonly message?: string };
      readonly usage?: Usage | null;
      readonly choices?: readonly { readonly text?: string; readonly delta?: { readonly content?: string } }[];
    };
    try {
      chunk = JSON.parse(json);
    } catch {
      this.#fail('protocol');
      return;
    }
    if (chunk.error) {
      this.message = chunk.error.message ?? '';
      this.#fail('stream-error');
    }
    if (chunk.usage) this.#usage = chunk.usage;
    const [choice] = chunk.choices ?? [];
    if (hasNoIds && choice && (choice.text || choice.delta?.content)) {
      this.#pieces++;
      this.tokens++;
    }
  }

  #fail(fault: StreamFault): void {
    this.#fault ??= fault;
  }
}
