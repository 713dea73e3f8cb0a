// A small deterministic engine behind vLLM's HTTP API, for tests of the gateway: what it says follows from the token prefix
// alone, and a script tells it, request by request, after how many events to break off and how.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';

/** How one request ends: after `events` events with tokens. */
export interface Script {
  readonly events: number;
  readonly ending:
    | 'reset' // the connection breaks
    | 'reset-inside-event' // … with half an event on its way
    | 'end' // the stream ends without [DONE]
    | 'reset-before-done' // everything was said but the last lines
    | 'error-event'
    | 'abort-event'
    | 'hold'; // nothing more comes, until the client hangs up
}

export interface Answer {
  readonly status: number;
  readonly body: string;
  readonly headers?: Readonly<Record<string, string>>;
}

export interface Seen {
  readonly path: string;
  readonly headers: IncomingMessage['headers'];
  readonly body: Record<string, unknown>;
  /** The body's text as it came. */
  readonly raw: string;
}

export interface MockEngineOptions {
  readonly model?: string;
  readonly maxModelLen?: number;
  /** Tokens in each event, over and over. */
  readonly tokensPerEvent?: readonly number[];
  /** Bytes in each write, over and over; empty: one write per event. */
  readonly bytesPerWrite?: readonly number[];
  /** Characters of filling in each event. */
  readonly padding?: number;
  /** The detokenizer of a continuation sees the tokens before it (vLLM's does); else it starts inside characters. */
  readonly primesDetokenizer?: boolean;
  /** Tells when a request is held. */
  readonly onHold?: (engine: MockEngine) => void;
}

// ── tokens: ids below 256 are bytes of the prompt; words; and characters in two halves ───────────────────────────────

const WORDS = 180;
const HALVES = 20;
const FIRST_WORD = 300;
const FIRST_HALF = 600;
const SECOND_HALF = 700;
const CHARACTERS = ['😀', 'é', '漢', '🚀', '"', '\\', '\n', '“', 'ß', '한'];

const characterOf = (half: number): string => CHARACTERS[half % CHARACTERS.length]!;

/** One step of FNV-1a over the whole prefix: one wrong, lost or doubled token changes everything that follows. */
const step = (hash: number, id: number): number => Math.imul(hash ^ id, 0x01000193) >>> 0;

function nextToken(last: number, hash: number): number {
  if (last >= FIRST_HALF && last < FIRST_HALF + HALVES) return last - FIRST_HALF + SECOND_HALF;
  return hash % 5 === 0 ? FIRST_HALF + (hash % HALVES) : FIRST_WORD + (hash % WORDS);
}

/** Text that a token adds; `before` is the token before it that the detokenizer knows of. */
function textOf(id: number, before: number | null): string {
  if (id >= FIRST_WORD && id < FIRST_WORD + WORDS) return ` w${id - FIRST_WORD}`;
  if (id >= SECOND_HALF && id < SECOND_HALF + HALVES) {
    return before === id - SECOND_HALF + FIRST_HALF ? characterOf(id - SECOND_HALF) : '\uFFFD';
  }
  return '';
}

export interface Output {
  readonly ids: readonly number[];
  readonly text: string;
  readonly finishReason: 'stop' | 'length';
}

/**
 * What an undisturbed engine answers.
 *
 * @param length - true output length, null for one drawn from the prefix.
 * @param continued - trailing tokens of the prompt that are output already: an output has one token at least, in all.
 */
export function expectedOutput(
  promptIds: readonly number[],
  maxTokens: number,
  length: number | null = null,
  continued = 0,
): Output {
  let hash = promptIds.reduce(step, 0x811c9dc5);
  const ids: number[] = [];
  let text = '';
  for (;;) {
    const ends = length === null ? step(hash, 7) % 97 === 0 && continued + ids.length > 0 : ids.length >= length;
    if (ends) return { ids, text, finishReason: 'stop' };
    if (ids.length >= maxTokens) return { ids, text, finishReason: 'length' };
    const id = nextToken(ids.at(-1) ?? promptIds.at(-1) ?? 0, hash);
    text += textOf(id, ids.at(-1) ?? null);
    ids.push(id);
    hash = step(hash, id);
  }
}

export const bytesOf = (text: string): number[] => [...Buffer.from(text, 'utf8')];

export const chatPromptIds = (messages: readonly { role: string; content: string }[]): number[] =>
  bytesOf(`${messages.map((message) => `<${message.role}>${message.content}`).join('\n')}<assistant>`);

// ── the engine ──────────────────────────────────────────────────────────────────────────────────────────────────────

interface Generation {
  readonly promptIds: readonly number[];
  readonly ids: readonly number[];
  readonly finishReason: 'stop' | 'length';
}

export class MockEngine {
  readonly seen: Seen[] = [];
  /** Taken one per inference request; when empty, requests run to their end. */
  readonly scripts: Script[] = [];
  /** Answered instead of running a request, one per request. */
  readonly answers: Answer[] = [];
  running = 0;
  /** Requests whose client hung up before the end. */
  abandoned = 0;
  healthy = true;
  readonly #options: MockEngineOptions;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #idle: (() => void)[] = [];
  readonly #holds: (() => void)[] = [];
  /** A stream waits for its client to read. */
  blocked = false;
  /** Bytes of stream events written so far. */
  bytesWritten = 0;
  #created = 1_700_000_000;

  private constructor(options: MockEngineOptions) {
    this.#options = options;
    this.#server = createServer({ noDelay: true }, (req, res) => this.#handle(req, res));
    this.#server.on('connection', (socket) => {
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket));
    });
  }

  static async start(options: MockEngineOptions = {}, port = 0): Promise<MockEngine> {
    const engine = new MockEngine(options);
    await new Promise<void>((resolve) => engine.#server.listen(port, '127.0.0.1', resolve));
    return engine;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /** Resolves when a request is next held. */
  nextHold(): Promise<void> {
    return new Promise((resolve) => this.#holds.push(resolve));
  }

  #held(): void {
    this.#options.onHold?.(this);
    for (const resolve of this.#holds.splice(0)) resolve();
  }

  /** Resolves when nothing runs here. */
  async idle(): Promise<void> {
    if (this.running > 0) await new Promise<void>((resolve) => this.#idle.push(resolve));
  }

  /** Like kill -9: every connection breaks, the port closes. */
  async kill(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const socket of this.#sockets) socket.resetAndDestroy();
    await closed;
  }

  #handle(req: IncomingMessage, res: ServerResponse): void {
    const path = req.url ?? '';
    if (path === '/health') {
      res.writeHead(this.healthy ? 200 : 503).end();
      return;
    }
    const chunks: Buffer[] = [];
    req.on('data', (chunk: Buffer) => chunks.push(chunk));
    req.on('end', () => {
      const raw = Buffer.concat(chunks).toString('utf8');
      const body = JSON.parse(raw) as Record<string, unknown>;
      this.seen.push({ path, headers: req.headers, body, raw });
      const answer = this.answers.shift();
      if (answer !== undefined) {
        res.writeHead(answer.status, { 'content-type': 'application/json', ...answer.headers }).end(answer.body);
        return;
      }
      this.running++;
      res.on('close', () => {
        this.running--;
        if (!res.writableFinished) this.abandoned++;
        if (this.running === 0) for (const resolve of this.#idle.splice(0)) resolve();
      });
      this.#run(path === '/v1/chat/completions', body, req, res);
    });
  }

  #run(isChat: boolean, body: Record<string, unknown>, req: IncomingMessage, res: ServerResponse): void {
    const prompt = body.prompt;
    const promptIds = isChat
      ? chatPromptIds(body.messages as { role: string; content: string }[])
      : typeof prompt === 'string'
        ? bytesOf(prompt)
        : ([prompt].flat(3) as number[]);
    const longest = this.#options.maxModelLen ?? 100_000;
    const named = (body.max_completion_tokens ?? body.max_tokens) as number | undefined;
    const maxTokens = named ?? (isChat ? longest - promptIds.length : 16);
    if (promptIds.length + maxTokens > longest) {
      const message = `This model's maximum context length is ${longest} tokens.`;
      const error = { message, type: 'BadRequestError', param: null, code: 400 };
      res.writeHead(400, { 'content-type': 'application/json' }).end(JSON.stringify({ error }));
      return;
    }
    const continued = Number(req.headers['x-oserve-continued-tokens'] ?? 0);
    const total = Number(req.headers['x-oserve-emulated-output-tokens'] ?? Number.NaN);
    const length = Number.isNaN(total) ? null : total - continued;
    const { ids, finishReason } = expectedOutput(promptIds, maxTokens, length, continued);
    const generation = { promptIds, ids, finishReason };
    if (body.stream === true) void this.#stream(isChat, body, generation, res);
    else this.#whole(isChat, body, generation, res);
  }

  #text(ids: readonly number[], from: number, to: number, promptIds: readonly number[]): string {
    let text = '';
    for (let i = from; i < to; i++) {
      const before =
        i > 0 ? ids[i - 1]! : this.#options.primesDetokenizer === false ? null : (promptIds.at(-1) ?? null);
      text += textOf(ids[i]!, before);
    }
    return text;
  }

  #whole(isChat: boolean, body: Record<string, unknown>, generation: Generation, res: ServerResponse): void {
    const { ids, finishReason, promptIds } = generation;
    const script = this.scripts.shift();
    if (script !== undefined) {
      if (script.ending === 'hold') this.#held();
      else res.destroy();
      return;
    }
    const text = this.#text(ids, 0, ids.length, promptIds);
    const choice = isChat ? { message: { role: 'assistant', content: text } } : { text };
    const answer = {
      ...this.#head(isChat ? 'chat.completion' : 'text_completion', body),
      choices: [{ index: 0, ...choice, logprobs: null, finish_reason: finishReason }],
      usage: usageOf(promptIds.length, ids.length),
    };
    res.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(answer));
  }

  #head(object: string, body: Record<string, unknown>) {
    const id = `${object === 'text_completion' ? 'cmpl' : 'chatcmpl'}-${this.port}-${this.seen.length}`;
    return { id, object, created: this.#created++, model: body.model };
  }

  async #stream(
    isChat: boolean,
    body: Record<string, unknown>,
    generation: Generation,
    res: ServerResponse,
  ): Promise<void> {
    const { promptIds, ids, finishReason } = generation;
    const head = this.#head(isChat ? 'chat.completion.chunk' : 'text_completion', body);
    const withIds = body.return_token_ids === true;
    const options = (body.stream_options ?? {}) as { include_usage?: boolean; continuous_usage_stats?: boolean };
    const script = this.scripts.shift() ?? null;
    const writer = new PieceWriter(res, this.#options.bytesPerWrite ?? [], (bytes) => {
      this.blocked = bytes === null;
      this.bytesWritten += bytes ?? 0;
    });
    res.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8' });

    const usageAfter = (count: number) =>
      options.continuous_usage_stats ? { usage: usageOf(promptIds.length, count) } : {};
    const event = (choice: object, count: number, more: object = {}) =>
      `data: ${JSON.stringify({ ...head, choices: [{ index: 0, ...choice }], ...usageAfter(count), ...more })}\n\n`;
    if (isChat) {
      const role = { delta: { role: 'assistant', content: '' }, logprobs: null, finish_reason: null };
      await writer.write(event(role, 0, withIds ? { prompt_token_ids: promptIds } : {}));
    }
    const pattern = this.#options.tokensPerEvent ?? [1];
    const padding = this.#options.padding === undefined ? {} : { padding: 'x'.repeat(this.#options.padding) };
    let at = 0;
    for (let number = 0; at < ids.length || number === 0; number++) {
      if (
        script !== null &&
        number === script.events &&
        (await this.#follow(script, event, withIds, isChat, writer, res))
      )
        return;
      const to = Math.min(ids.length, at + pattern[number % pattern.length]!);
      const text = this.#text(ids, at, to, promptIds);
      const choice = {
        ...(isChat ? { delta: { content: text } } : { text }),
        logprobs: null,
        finish_reason: to === ids.length ? finishReason : null,
        ...(to === ids.length ? { stop_reason: null } : {}),
        ...(isChat ? {} : { prompt_token_ids: withIds && number === 0 ? promptIds : null }),
        token_ids: withIds ? ids.slice(at, to) : null,
      };
      await writer.write(event(choice, to, padding));
      if (res.destroyed) return;
      at = to;
    }
    if (script?.ending === 'reset-before-done') {
      await writer.flush();
      res.destroy();
      return;
    }
    if (options.include_usage)
      await writer.write(
        `data: ${JSON.stringify({ ...head, choices: [], usage: usageOf(promptIds.length, ids.length) })}\n\n`,
      );
    await writer.write('data: [DONE]\n\n');
    res.end();
  }

  /** Breaks a stream off; false: this script does nothing here. */
  async #follow(
    script: Script,
    event: (choice: object, count: number) => string,
    withIds: boolean,
    isChat: boolean,
    writer: PieceWriter,
    res: ServerResponse,
  ): Promise<boolean> {
    const lost = { ...(isChat ? { delta: { content: 'LOST' } } : { text: 'LOST' }), token_ids: withIds ? [1] : null };
    switch (script.ending) {
      case 'reset-before-done':
        return false;
      case 'hold':
        await writer.flush();
        this.#held();
        return true;
      case 'end':
        res.end();
        return true;
      case 'error-event':
        await writer.write(`data: ${JSON.stringify({ error: { message: 'engine died', type: 'x', code: 500 } })}\n\n`);
        await writer.write('data: [DONE]\n\n');
        res.end();
        return true;
      case 'abort-event':
        await writer.write(event({ ...lost, logprobs: null, finish_reason: 'abort' }, 0));
        await writer.write('data: [DONE]\n\n');
        res.end();
        return true;
      case 'reset-inside-event': {
        const half = event({ ...lost, logprobs: null, finish_reason: null }, 0);
        await writer.write(half.slice(0, half.length - 2 - (script.events % 20)));
        await writer.flush();
        res.destroy();
        return true;
      }
      default:
        await writer.flush();
        res.destroy();
        return true;
    }
  }
}

const usageOf = (prompt: number, completion: number) => ({
  prompt_tokens: prompt,
  total_tokens: prompt + completion,
  completion_tokens: completion,
});

/** Writes text in pieces of given numbers of bytes, each on its own turn of the event loop. */
class PieceWriter {
  readonly #res: ServerResponse;
  readonly #sizes: readonly number[];
  readonly #onWrite: (bytes: number | null) => void;
  #count = 0;

  /** @param onWrite - told the bytes of each piece, and null when the client has to read first. */
  constructor(res: ServerResponse, sizes: readonly number[], onWrite: (bytes: number | null) => void) {
    this.#res = res;
    this.#sizes = sizes;
    this.#onWrite = onWrite;
  }

  async write(text: string): Promise<void> {
    const bytes = Buffer.from(text, 'utf8');
    for (let at = 0; at < bytes.length; ) {
      const size = this.#sizes.length === 0 ? bytes.length : this.#sizes[this.#count++ % this.#sizes.length]!;
      if (this.#res.destroyed) return;
      const piece = bytes.subarray(at, at + size);
      const flows = this.#res.write(piece);
      this.#onWrite(piece.length);
      if (!flows) {
        this.#onWrite(null);
        await new Promise<void>((resolve) => {
          const go = () => {
            this.#res.off('drain', go);
            this.#res.off('close', go);
            resolve();
          };
          this.#res.on('drain', go);
          this.#res.on('close', go);
        });
      }
      at += size;
      await new Promise<void>((resolve) => setImmediate(resolve));
    }
  }

  /** Resolves when what was written has left this process. */
  flush(): Promise<void> {
    return new Promise((resolve) => {
      this.#res.once('close', resolve);
      // An empty write is called back after all before it.
      this.#res.write('', () => resolve());
    });
  }
}
