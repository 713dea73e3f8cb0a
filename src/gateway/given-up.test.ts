// An engine that is parked ends its requests with the finish reason `abort`. No client ever sees that: streams go on
// elsewhere (continuation.test.ts), whole answers are made anew elsewhere.
import { afterEach, expect, test } from 'vitest';
import { GatewayHarness, MODEL, readStreamText, replicaOf } from '../../test/support/gateway-harness.ts';
import { expectedOutput, MockEngine } from '../../test/support/mock-engine.ts';
import { isGivenUp } from './engine-call.ts';

const closers: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
});

async function setUp(engineCount: number) {
  const harness = await GatewayHarness.start({ models: [{ name: MODEL, maxModelLen: 100_000 }] });
  closers.push(() => harness.gateway.close(0));
  const engines: MockEngine[] = [];
  for (let i = 0; i < engineCount; i++) {
    const engine = await MockEngine.start({});
    engines.push(engine);
    closers.push(() => engine.kill());
  }
  await harness.route(engines.map((engine, i) => replicaOf(engine, `r${i}`)));
  return { harness, engines };
}

const aborted = {
  status: 200,
  body: JSON.stringify({
    id: 'cmpl-1',
    object: 'text_completion',
    choices: [{ index: 0, text: 'half an ans', logprobs: null, finish_reason: 'abort' }],
    usage: { prompt_tokens: 5, completion_tokens: 3, total_tokens: 8 },
  }),
};
const completion = (more: object = {}) => ({ model: MODEL, prompt: 'hello', max_tokens: 20, ...more });
const promptIds = [...Buffer.from('hello')];

test('a whole answer that an engine gives up is made anew by another one', async () => {
  const { harness, engines } = await setUp(2);
  for (const engine of engines) engine.answers.push(aborted);
  const response = await harness.post('/v1/completions', completion());
  expect(response.status).toBe(200);
  const { choices, usage } = (await response.json()) as {
    choices: { text: string; finish_reason: string }[];
    usage: { completion_tokens: number };
  };
  const expected = expectedOutput(promptIds, 20);
  expect(choices[0]).toMatchObject({ text: expected.text, finish_reason: expected.finishReason });
  expect(usage.completion_tokens).toBe(expected.ids.length);
  const { text } = await harness.get('/metrics');
  expect(text).toContain('oserve_retries_total{reason="engine-aborted"} 2');
  // It may take requests again at once: giving up is no failure.
  expect(text).toContain('oserve_replica_available{replica="r0"} 1');
});

test('engines that give up without end are not asked without end', async () => {
  const { harness, engines } = await setUp(1);
  engines[0]!.answers.push(...Array(9).fill(aborted));
  const whole = await harness.post('/v1/completions', completion());
  expect(whole.status).toBe(502);
  expect(engines[0]!.seen.length).toBe(3);

  engines[0]!.answers.length = 0;
  for (let i = 0; i < 9; i++) engines[0]!.scripts.push({ events: i === 0 ? 3 : 0, ending: 'abort-event' });
  const stream = await harness.post('/v1/completions', completion({ stream: true }));
  const { errors, finishReasons } = readStreamText(await stream.text());
  expect(errors).toEqual([expect.objectContaining({ code: 'engine_failed' })]);
  expect(finishReasons).toEqual([]);
});

test('text that speaks of aborts is not taken for one', () => {
  const said = { choices: [{ text: 'it said "finish_reason":"abort", really', finish_reason: 'stop' }], why: 'abort' };
  expect(isGivenUp(Buffer.from(JSON.stringify(said)))).toBe(false);
  expect(isGivenUp(Buffer.from(aborted.body))).toBe(true);
});
