// The ways in which clients ask a pool: the `openai` library, plain fetch and curl, chats and completions, streamed or
// whole. Each job always asks the same, so an emulated pool always owes it the same answer, to the letter.
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import OpenAI from 'openai';
import { HEADER_OUTPUT_TOKENS } from '../../src/wire/index.ts';
import { readStreamText } from './gateway-harness.ts';

const run = promisify(execFile);

export const JOB_KINDS = [
  'openai chat stream',
  'openai chat',
  'openai completion stream',
  'openai completion',
  'fetch chat stream',
  'curl completion stream',
] as const;
export type JobKind = (typeof JOB_KINDS)[number];

export interface Job {
  readonly kind: JobKind;
  /** Equal numbers, equal prompts. */
  readonly number: number;
  /** How long the model would go on. */
  readonly outputTokens: number;
  /** The client's limit; where it is the smaller one, the answer ends with `length`. */
  readonly maxTokens: number;
}

/** All that a client can tell apart of two answers. */
export interface ClientAnswer {
  readonly text: string;
  readonly finishReason: string | null;
  readonly promptTokens: number | undefined;
  readonly completionTokens: number | undefined;
}

export interface Asked {
  readonly job: Job;
  readonly answer: ClientAnswer;
  /** Where it began; only for `openai chat stream`. */
  readonly replica: string | null;
}

export class JobClient {
  readonly openai: OpenAI;
  readonly #url: string;
  readonly #model: string;

  constructor(url: string, model: string) {
    this.#url = url;
    this.#model = model;
    // No retries: every first try must be answered.
    this.openai = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none', maxRetries: 0 });
  }

  async ask(job: Job): Promise<Asked> {
    const { number, outputTokens } = job;
    const prompt = `Question ${number}: what do “ß”, 漢字 and 😀 have in common?`;
    const limits = { model: this.#model, max_tokens: job.maxTokens, temperature: 0 };
    const messages = [{ role: 'user' as const, content: prompt }];
    const streamed = { stream: true, stream_options: { include_usage: true } } as const;
    const headers = { [HEADER_OUTPUT_TOKENS]: String(outputTokens), 'x-oserve-debug': '1' };
    const asked = (answer: ClientAnswer, replica: string | null = null): Asked => ({ job, answer, replica });
    const { chat, completions } = this.openai;
    switch (job.kind) {
      case 'openai chat stream': {
        const { data, response } = await chat.completions
          .create({ ...limits, ...streamed, messages }, { headers })
          .withResponse();
        const gathered = new Gathered();
        for await (const chunk of data) {
          const choice = chunk.choices[0];
          gathered.take(choice?.delta.content, choice?.finish_reason, chunk.usage);
        }
        return asked(gathered.answer, response.headers.get('x-oserve-replica'));
      }
      case 'openai chat': {
        const { choices, usage } = await chat.completions.create({ ...limits, messages }, { headers });
        return asked(answerOf(choices[0]?.message.content ?? '', choices[0]?.finish_reason ?? null, usage));
      }
      case 'openai completion stream': {
        const gathered = new Gathered();
        for await (const chunk of await completions.create({ ...limits, ...streamed, prompt }, { headers })) {
          gathered.take(chunk.choices[0]?.text, chunk.choices[0]?.finish_reason, chunk.usage);
        }
        return asked(gathered.answer);
      }
      case 'openai completion': {
        const { choices, usage } = await completions.create({ ...limits, prompt }, { headers });
        return asked(answerOf(choices[0]?.text ?? '', choices[0]?.finish_reason ?? null, usage));
      }
      case 'fetch chat stream': {
        const response = await fetch(`${this.#url}/v1/chat/completions`, {
          method: 'POST',
          headers: { ...headers, 'content-type': 'application/json' },
          body: JSON.stringify({ ...limits, ...streamed, messages }),
        });
        if (response.status !== 200) throw new Error(`${response.status}: ${await response.text()}`);
        return asked(streamAnswer(await response.text()));
      }
      case 'curl completion stream': {
        const { stdout } = await run(
          'curl',
          [
            ...['-sS', '--no-buffer', '--fail-with-body', `${this.#url}/v1/completions`],
            ...['-H', 'content-type: application/json', '-H', `${HEADER_OUTPUT_TOKENS}: ${outputTokens}`],
            ...['-d', JSON.stringify({ ...limits, ...streamed, prompt })],
          ],
          { maxBuffer: 64 * 2 ** 20 },
        );
        return asked(streamAnswer(stdout));
      }
    }
  }
}

interface UsageCounts {
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
}

const answerOf = (text: string, finishReason: string | null, usage: UsageCounts | null | undefined): ClientAnswer => ({
  text,
  finishReason,
  promptTokens: usage?.prompt_tokens,
  completionTokens: usage?.completion_tokens,
});

/** What a stream adds up to. */
class Gathered {
  #text = '';
  #finishReason: string | null = null;
  #usage: UsageCounts | null = null;

  take(
    text: string | null | undefined,
    finishReason: string | null | undefined,
    usage: UsageCounts | null | undefined,
  ): void {
    this.#text += text ?? '';
    this.#finishReason = finishReason ?? this.#finishReason;
    this.#usage = usage ?? this.#usage;
  }

  get answer(): ClientAnswer {
    return answerOf(this.#text, this.#finishReason, this.#usage);
  }
}

/** @throws when the stream is not a whole one. */
function streamAnswer(raw: string): ClientAnswer {
  const { text, finishReasons, usage, doneCount, errors } = readStreamText(raw);
  if (errors.length > 0 || doneCount !== 1 || finishReasons.length !== 1 || !raw.endsWith('data: [DONE]\n\n')) {
    throw new Error(
      `not a whole stream: ${JSON.stringify({ errors, doneCount, finishReasons, end: raw.slice(-200) })}`,
    );
  }
  return answerOf(text, finishReasons[0]!, usage);
}
