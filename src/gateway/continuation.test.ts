import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  GatewayHarness,
  MODEL,
  type ReadStream,
  readStreamText,
  replicaOf,
} from '../../test/support/gateway-harness.ts';
import {
  bytesOf,
  chatPromptIds,
  expectedOutput,
  MockEngine,
  type MockEngineOptions,
  type Script,
} from '../../test/support/mock-engine.ts';

/** Two engines behind a gateway; a held request is evacuated from its engine, which then takes requests again. */
async function startPair(options: MockEngineOptions) {
  const harness = await GatewayHarness.start();
  const evacuations: Promise<unknown>[] = [];
  const engines: MockEngine[] = [];
  const listed = () => engines.map((engine, i) => replicaOf(engine, `r${i}`));
  const onHold = (engine: MockEngine) => {
    const id = `r${engines.indexOf(engine)}`;
    evacuations.push(harness.evacuate(id, 'cut').then(() => harness.route(listed())));
  };
  for (let i = 0; i < 2; i++) engines.push(await MockEngine.start({ ...options, onHold }));
  await harness.route(listed());
  return {
    harness,
    engines,
    settled: () => Promise.all(evacuations.splice(0)),
    async stop() {
      await harness.gateway.close(0);
      await Promise.all(engines.map((engine) => engine.kill()));
    },
  };
}

type Pair = Awaited<ReturnType<typeof startPair>>;

interface Case {
  readonly api: 'chat' | 'completions';
  readonly seed: number;
  readonly maxTokens: number;
  readonly length: number | null;
  readonly wantsIds: boolean;
  readonly wantsUsage: boolean;
  readonly scripts: readonly Script[];
}

async function run(
  { harness, engines, settled }: Pair,
  case_: Case,
): Promise<{ stream: ReadStream; promptIds: number[] }> {
  const { api, seed, maxTokens, length, wantsIds, wantsUsage, scripts } = case_;
  // Engines take their scripts from one list: the n-th request of this stream follows the n-th, wherever it runs.
  const list = [...scripts];
  for (const engine of engines) engine.scripts.splice(0, engine.scripts.length);
  for (const engine of engines) engine.scripts.shift = () => list.shift();
  const messages = [{ role: 'user', content: `prompt ${seed} “é”` }];
  const promptIds = api === 'chat' ? chatPromptIds(messages) : bytesOf(`prompt ${seed} é`);
  const response = await harness.post(
    api === 'chat' ? '/v1/chat/completions' : '/v1/completions',
    {
      model: MODEL,
      ...(api === 'chat' ? { messages } : { prompt: `prompt ${seed} é` }),
      max_tokens: maxTokens,
      temperature: 0,
      stream: true,
      ...(wantsIds ? { return_token_ids: true } : {}),
      ...(wantsUsage ? { stream_options: { include_usage: true } } : {}),
    },
    length === null ? {} : { headers: { 'x-oserve-emulated-output-tokens': String(length) } },
  );
  const stream = readStreamText(await response.text());
  await settled();
  return { stream, promptIds };
}

function expectUndisturbed({ stream, promptIds }: { stream: ReadStream; promptIds: number[] }, case_: Case): void {
  const expected = expectedOutput(promptIds, case_.maxTokens, case_.length);
  expect(stream.errors).toEqual([]);
  expect(stream.text).toBe(expected.text);
  expect(stream.finishReasons).toEqual([expected.finishReason]);
  expect(stream.doneCount).toBe(1);
  expect(stream.raw.endsWith('data: [DONE]\n\n')).toBe(true);
  for (const key of ['id', 'object', 'created', 'model'] as const) {
    expect(new Set(stream.events.map((event) => event[key])).size, key).toBe(1);
  }
  expect(stream.events[0]?.object).toBe(case_.api === 'chat' ? 'chat.completion.chunk' : 'text_completion');
  if (case_.wantsIds) {
    expect(stream.ids).toEqual(expected.ids);
    const told = stream.events.flatMap((e) => e.prompt_token_ids ?? e.choices?.[0]?.prompt_token_ids ?? []);
    expect(told).toEqual(promptIds);
  } else expect(stream.raw).not.toMatch(/token_ids" ?: ?\[/);
  if (case_.wantsUsage) {
    expect(stream.usage).toEqual({
      prompt_tokens: promptIds.length,
      completion_tokens: expected.ids.length,
      total_tokens: promptIds.length + expected.ids.length,
    });
  } else expect(stream.raw).not.toContain('"usage":{');
}

const script = fc.record({
  events: fc.nat(25),
  // Holding means: cut by an evacuation.
  ending: fc.constantFrom<Script['ending'][]>(
    'hold',
    'hold',
    'reset',
    'reset-inside-event',
    'end',
    'error-event',
    'abort-event',
    'reset-before-done',
  ),
});

const anyCase: fc.Arbitrary<Case> = fc.record({
  api: fc.constantFrom('chat' as const, 'completions' as const),
  seed: fc.nat(),
  maxTokens: fc.integer({ min: 1, max: 60 }),
  length: fc.option(fc.integer({ min: 1, max: 80 })),
  wantsIds: fc.boolean(),
  wantsUsage: fc.boolean(),
  // Three tries without progress are the limit, so at most two of these may make none.
  scripts: fc.array(script, { maxLength: 5 }).filter((list) => list.filter((s) => s.events === 0).length <= 2),
});

describe('a stream that is cut', () => {
  let single: Pair;
  let grouped: Pair;
  beforeAll(async () => {
    single = await startPair({ primesDetokenizer: false });
    grouped = await startPair({ tokensPerEvent: [1, 4, 2], bytesPerWrite: [7, 64, 300, 1] });
  });
  afterAll(async () => {
    await Promise.all([single.stop(), grouped.stop()]);
  });

  test('equals an undisturbed one wherever and however it is cut, even where detokenizers start inside characters', async () => {
    await fc.assert(
      // With the ids in the client's hands nothing can be taken back: then the engine must start its text right.
      fc.asyncProperty(anyCase, async (case_) => {
        const kept = { ...case_, wantsIds: false };
        expectUndisturbed(await run(single, kept), kept);
      }),
      { numRuns: 150 },
    );
    // The property would hold without any cut, too.
    const { text } = await single.harness.get('/metrics');
    for (const reason of ['evacuated', 'engine-failed', 'engine-aborted']) {
      const count = Number(new RegExp(`oserve_streams_continued_total\\{reason="${reason}"\\} (\\d+)`).exec(text)?.[1]);
      expect(count, reason).toBeGreaterThan(0);
    }
  });

  test('equals an undisturbed one when events carry several tokens and arrive in pieces', async () => {
    await fc.assert(
      fc.asyncProperty(anyCase, async (case_) => {
        expectUndisturbed(await run(grouped, case_), case_);
      }),
      { numRuns: 100 },
    );
  });

  test('continues with the ids that were delivered, the rest of the limit, and the number of continued tokens', async () => {
    const case_: Case = {
      api: 'chat',
      seed: 1,
      maxTokens: 40,
      length: 40,
      wantsIds: true,
      wantsUsage: true,
      scripts: [{ events: 10, ending: 'hold' }],
    };
    for (const engine of single.engines) engine.seen.length = 0;
    const result = await run(single, case_);
    expect(result.stream.errors).toEqual([]);
    const seen = single.engines.flatMap((engine) => engine.seen);
    const first = seen.find((request) => request.path === '/v1/chat/completions');
    const second = seen.find((request) => request.path === '/v1/completions');
    expect(first?.body).toMatchObject({ return_token_ids: true, max_tokens: 40 });
    expect(second?.body).toMatchObject({
      prompt: [...result.promptIds, ...result.stream.ids.slice(0, 10)],
      max_tokens: 30,
      temperature: 0,
      stream: true,
      return_token_ids: true,
      model: MODEL,
    });
    expect(second?.body).not.toHaveProperty('messages');
    expect(second?.headers).toMatchObject({
      'x-oserve-continued-tokens': '10',
      'x-oserve-emulated-output-tokens': '40',
    });
  });
});
