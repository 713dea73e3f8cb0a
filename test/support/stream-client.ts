// A client that keeps streams running against a pool and knows, for each, exactly what should come: emulated tokens
// follow from the prompt alone, so the same prompt gives the same text, disturbed or not.
import { request } from 'node:http';
import { HEADER_OUTPUT_TOKENS } from '../../src/wire/index.ts';

export type StreamResult =
  | { readonly kind: 'whole'; readonly text: string }
  /** The server said in words that it could not go on, or not begin; `status` 200: in the middle of the stream. */
  | { readonly kind: 'refused'; readonly status: number; readonly retryAfter: boolean; readonly message: string }
  /** The connection broke: nothing was promised. */
  | { readonly kind: 'broken'; readonly code: string }
  /** The stream ended as if it were whole, and was not. This must never happen. */
  | { readonly kind: 'cut-in-silence'; readonly text: string };

export interface StreamRequest {
  readonly url: string;
  readonly model: string;
  readonly prompt: string;
  readonly outputTokens: number;
}

/** One streamed completion, read to its end. Never rejects. */
export function streamCompletion({ url, model, prompt, outputTokens }: StreamRequest): Promise<StreamResult> {
  return new Promise((resolve) => {
    const req = request(
      `${url}/v1/completions`,
      {
        method: 'POST',
        agent: false,
        headers: { 'content-type': 'application/json', [HEADER_OUTPUT_TOKENS]: String(outputTokens) },
      },
      (res) => {
        let raw = '';
        res.setEncoding('utf8');
        res.on('data', (piece: string) => {
          raw += piece;
        });
        res.on('error', (error: NodeJS.ErrnoException) =>
          resolve({ kind: 'broken', code: error.code ?? error.message }),
        );
        res.on('end', () => resolve(judge(res.statusCode ?? 0, res.headers['retry-after'] !== undefined, raw)));
      },
    );
    req.on('error', (error: NodeJS.ErrnoException) => resolve({ kind: 'broken', code: error.code ?? error.message }));
    req.end(JSON.stringify({ model, prompt, max_tokens: outputTokens, temperature: 0, stream: true }));
  });
}

function judge(status: number, retryAfter: boolean, raw: string): StreamResult {
  if (status !== 200) return { kind: 'refused', status, retryAfter, message: raw };
  let text = '';
  let finished = false;
  for (const line of raw.split('\n')) {
    if (!line.startsWith('data: ')) continue;
    if (line === 'data: [DONE]') continue;
    const event = JSON.parse(line.slice(6));
    if (event.error) return { kind: 'refused', status, retryAfter, message: event.error.message };
    for (const choice of event.choices ?? []) {
      text += choice.text ?? '';
      if (choice.finish_reason) finished = true;
    }
  }
  return finished && raw.includes('data: [DONE]') ? { kind: 'whole', text } : { kind: 'cut-in-silence', text };
}

/** Prompts of a load, each with its length; the nth is always the same. */
const promptOf = (n: number) => ({ prompt: `Tell me story number ${n}.`, outputTokens: 40 + ((n * 37) % 160) });

/** How many different prompts a load has. */
const PROMPTS = 12;

/** Keeps `atOnce` streams running until it is stopped; compares each with what an undisturbed pool said. */
export class SteadyLoad {
  readonly results: StreamResult[] = [];
  readonly #url: string;
  readonly #model: string;
  readonly #expected: readonly string[];
  #stopping = false;
  #running: Promise<void>[] = [];
  #next = 0;

  private constructor(url: string, model: string, expected: readonly string[]) {
    this.#url = url;
    this.#model = model;
    this.#expected = expected;
  }

  /** Learns from a quiet pool what each prompt is answered with, then starts. */
  static async start(url: string, model: string, atOnce: number): Promise<SteadyLoad> {
    const expected = await Promise.all(
      Array.from({ length: PROMPTS }, async (_, n) => {
        const result = await streamCompletion({ url, model, ...promptOf(n) });
        if (result.kind !== 'whole') throw new Error(`a quiet pool answered ${JSON.stringify(result)}`);
        return result.text;
      }),
    );
    const load = new SteadyLoad(url, model, expected);
    load.#running = Array.from({ length: atOnce }, () => load.#keepOne());
    return load;
  }

  /** How many have ended so far. */
  get count(): number {
    return this.results.length;
  }

  of<Kind extends StreamResult['kind']>(kind: Kind): Extract<StreamResult, { kind: Kind }>[] {
    return this.results.filter((result): result is Extract<StreamResult, { kind: Kind }> => result.kind === kind);
  }

  /** Lets running streams end and returns all results. */
  async stop(): Promise<readonly StreamResult[]> {
    this.#stopping = true;
    await Promise.all(this.#running);
    return this.results;
  }

  async #keepOne(): Promise<void> {
    while (!this.#stopping) {
      const n = this.#next++ % PROMPTS;
      const result = await streamCompletion({ url: this.#url, model: this.#model, ...promptOf(n) });
      const differs = result.kind === 'whole' && result.text !== this.#expected[n];
      this.results.push(differs ? { kind: 'cut-in-silence', text: result.text } : result);
      // A port that is closed is asked again after a moment, as clients do.
      if (result.kind !== 'whole') await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}
