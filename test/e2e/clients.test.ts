// Clients as people use them, against a whole pool: the `openai` library, fetch and curl, all at once while the controller
// changes the deployment under them; what goes wrong by their own fault; and what happens when they leave.
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Asked, JOB_KINDS, type Job, JobClient } from '../support/client-jobs.ts';
import { endAllPools, startPool, type TestPool } from '../support/pool.ts';
import { metricOf } from '../support/replay.ts';

const MODEL = 'llama2-70b';
/** Of chats that run on through a switch. The longest take minutes of pool time; they differ, to be cut anywhere. */
const LONG_CHAT_TOKENS = [2500, 4000, 5500, 7000];

let pool: TestPool;
let client: JobClient;

beforeAll(async () => {
  pool = await startPool({
    config: {
      models: [{ name: MODEL }],
      // One switch, away from a start that no controller would keep for these requests; then nothing changes any more.
      control: { slowTickSeconds: 30, maxSwitchesPerHour: 1 },
      switching: { initial: '4xTP2PP2', parkedLayouts: ['TP8', 'TP4', 'TP2PP2'] },
      gateway: { port: 0 },
      emulation: { speed: 8 },
    },
  });
  client = new JobClient(pool.url, MODEL);
});
afterAll(endAllPools);

const longChats: readonly Job[] = LONG_CHAT_TOKENS.map((outputTokens, index) => ({
  kind: 'openai chat stream',
  number: 100 + index,
  outputTokens,
  maxTokens: index % 2 === 0 ? outputTokens - 100 : 8192,
}));

/** Two of each kind; every second one ends by its limit. */
const shortJobs: readonly Job[] = JOB_KINDS.flatMap((kind, index) =>
  [0, 1].map((round) => {
    const outputTokens = 60 + 37 * index + 200 * round;
    return { kind, number: 2 * index + round, outputTokens, maxTokens: round === 0 ? 1024 : outputTokens - 50 };
  }),
);

/** Ids of replicas whose requests were moved away by a switch. */
const emptiedReplicas = (): Set<string> =>
  new Set(
    [...pool.output.matchAll(/requests go on elsewhere.*replica=(\S+) requests=[1-9]/g)].map((match) => match[1]!),
  );

const switchIsDone = (): boolean => /switch \S+ done/.test(pool.output);
const continuedStreams = (): Promise<number> => metricOf(pool.url, 'oserve_streams_continued_total');

describe('clients of a pool that switches', () => {
  test('every answer is whole, and equals an undisturbed one in text, usage and finish reason', async () => {
    const disturbed: Asked[] = [];
    const crossed = new Set<Job>();
    let isOver = false;
    const keepAsking = async (job: Job): Promise<void> => {
      while (!isOver) {
        const asked = await client.ask(job);
        disturbed.push(asked);
        // It began where nobody serves any more, and ended after the switch.
        if (asked.replica !== null && switchIsDone() && emptiedReplicas().has(asked.replica)) crossed.add(job);
      }
    };
    const asking = Promise.all([...longChats, ...shortJobs].map(keepAsking));
    await Promise.race([pool.until(switchIsDone, 'a switch is done', 120), asking]);
    const atSwitch = disturbed.length;
    await Promise.race([
      pool.until(() => disturbed.length >= atSwitch + 2 * shortJobs.length, 'every client was answered again'),
      asking,
    ]);
    isOver = true;
    await asking;
    expect(await continuedStreams()).toBeGreaterThan(0);
    expect(await metricOf(pool.url, 'oserve_streams_interrupted_total')).toBe(0);
    expect(crossed.size).toBeGreaterThan(0);

    const continued = await continuedStreams();
    const undisturbed = await Promise.all([...longChats, ...shortJobs].map((job) => client.ask(job)));
    expect(await continuedStreams()).toBe(continued);
    for (const { job, answer } of undisturbed) {
      expect(answer.completionTokens).toBe(Math.min(job.outputTokens, job.maxTokens));
      expect(answer.finishReason).toBe(job.maxTokens < job.outputTokens ? 'length' : 'stop');
      for (const each of disturbed.filter((other) => other.job === job)) expect(each.answer).toEqual(answer);
    }
    expect(new Set(disturbed.map(({ job }) => job.kind)).size).toBe(JOB_KINDS.length);
  });

  test('a client that leaves in the middle of an answer frees its place and its memory in the engine', async () => {
    const { openai } = client;
    await untilIdle();
    const request = { model: MODEL, max_tokens: 8000, messages: [{ role: 'user' as const, content: 'Go on.' }] };
    const headers = { 'x-oserve-emulated-output-tokens': '8000' };

    const stream = await openai.chat.completions.create({ ...request, stream: true }, { headers });
    for await (const chunk of stream) {
      if (!chunk.choices[0]?.delta.content) continue;
      expect(await load()).toMatchObject({ running: 1, waiting: 0 });
      expect((await load()).kvUsed).toBeGreaterThan(0);
      break; // the library hangs up
    }
    await untilIdle();

    const leaver = new AbortController();
    const whole = openai.chat.completions.create(request, { headers, signal: leaver.signal });
    await pool.until(async () => (await load()).running === 1, 'the whole answer is being made');
    leaver.abort();
    await expect(whole).rejects.toBeInstanceOf(OpenAI.APIUserAbortError);
    await untilIdle();
    expect(await metricOf(pool.url, 'oserve_requests_total', 'outcome="disconnected"')).toBe(2);
  });

  test('models are listed, and mistakes come back as the errors that the library knows', async () => {
    const { openai } = client;
    const models = await openai.models.list();
    expect(models.data.map((model) => model.id)).toEqual([MODEL]);
    expect(await openai.models.retrieve(MODEL)).toMatchObject({ object: 'model', id: MODEL });

    const messages = [{ role: 'user' as const, content: 'Hello' }];
    const unknown = openai.chat.completions.create({ model: 'gpt-2', messages });
    await expect(unknown).rejects.toBeInstanceOf(OpenAI.NotFoundError);
    await expect(unknown).rejects.toMatchObject({ status: 404, code: 'model_not_found', param: 'model' });

    const ids = Array.from({ length: 20_000 }, (_, i) => 3 + (i % 1000));
    const tooLong = openai.completions.create({ model: MODEL, prompt: ids, max_tokens: 16 });
    await expect(tooLong).rejects.toBeInstanceOf(OpenAI.BadRequestError);
    await expect(tooLong).rejects.toMatchObject({ status: 400, code: 'context_length_exceeded' });
    const longText = [{ role: 'user' as const, content: 'and so on '.repeat(20_000) }];
    const tooLongChat = openai.chat.completions.create({ model: MODEL, messages: longText, stream: true });
    await expect(tooLongChat).rejects.toBeInstanceOf(OpenAI.BadRequestError);

    const wrongType = openai.chat.completions.create({ model: MODEL, messages, max_tokens: 'many' as never });
    await expect(wrongType).rejects.toBeInstanceOf(OpenAI.BadRequestError);

    const headers = { 'content-type': 'application/json' };
    const broken = await fetch(`${pool.url}/v1/chat/completions`, { method: 'POST', headers, body: '{"model": ' });
    expect(broken.status).toBe(400);
    expect(await broken.json()).toMatchObject({ error: { type: 'invalid_request_error', code: 'invalid_json' } });

    // None of this was held against the engines: the next request is served.
    const { choices } = await openai.chat.completions.create({ model: MODEL, messages, max_tokens: 8 });
    expect(choices[0]?.message.content).not.toBe('');
  });
});

/** What the engines that serve say about themselves, summed. */
async function load(): Promise<{ running: number; waiting: number; kvUsed: number }> {
  const sums = { running: 0, waiting: 0, kvUsed: 0 };
  for (const { url, state } of await pool.engines()) {
    if (state !== 'serving') continue;
    sums.running += await metricOf(url, 'vllm:num_requests_running');
    sums.waiting += await metricOf(url, 'vllm:num_requests_waiting');
    sums.kvUsed += await metricOf(url, 'vllm:kv_cache_usage_perc');
  }
  return sums;
}

const untilIdle = (): Promise<void> =>
  pool.until(async () => {
    const { running, waiting, kvUsed } = await load();
    return running === 0 && waiting === 0 && kvUsed === 0;
  }, 'no engine has anything left');
