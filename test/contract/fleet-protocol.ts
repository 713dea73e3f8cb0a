// What the controller relies on in a node agent. The emulated agent and the vLLM agent both pass it, so it looks through
// HTTP alone, asks the agent for its capabilities, and waits for states, never for times.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  type CreateEngine,
  type EngineInfo,
  engineInfoSchema,
  errorBodySchema,
  eventBatchSchema,
  type Fill,
  type Inventory,
  inventorySchema,
  manifestSchema,
} from '../../src/wire/index.ts';
import { eventsOf, post, postJson, until } from './engine-client.ts';

export interface AgentUnderTest {
  readonly url: string;
  readonly token: string;
  /** Two layouts on the same GPUs of which only one can be awake at a time. */
  readonly layouts: readonly [Omit<CreateEngine, 'id'>, Omit<CreateEngine, 'id'>];
  readonly fill: Fill;
  stop(): Promise<void>;
}

export function fleetProtocolContract(start: () => Promise<AgentUnderTest>): void {
  describe('fleet protocol', () => {
    let agent: AgentUnderTest;
    beforeAll(async () => {
      agent = await start();
    });
    afterAll(() => agent?.stop());

    const authorization = () => ({ authorization: `Bearer ${agent.token}` });
    const ask = async (path: string) => {
      const response = await fetch(`${agent.url}/fleet/v1${path}`, { headers: authorization() });
      return { status: response.status, json: await response.json() };
    };
    const tell = (path: string, body: unknown = {}) =>
      postJson(agent.url, `/fleet/v1/engines${path}`, body, authorization());
    const inventory = async (): Promise<Inventory> => inventorySchema.parse((await ask('/inventory')).json);
    const engineOf = async (id: string) => (await inventory()).engines.find((engine) => engine.id === id);

    /** Tells, and expects the state that the call leads to. */
    async function reach(state: EngineInfo['state'], path: string, body: unknown = {}): Promise<EngineInfo> {
      const { status, json } = await tell(path, body);
      expect({ status, json }).toMatchObject({ status: 200, json: { state } });
      return engineInfoSchema.parse(json);
    }
    async function refused(status: number, path: string, body: unknown = {}): Promise<string> {
      const answer = await tell(path, body);
      expect({ path, status: answer.status, json: answer.json }).toMatchObject({ status });
      return errorBodySchema.parse(answer.json).error.message;
    }
    const create = (id: string, layout = agent.layouts[0]) => reach('parked', '', { ...layout, id });
    async function bringUp(id: string): Promise<EngineInfo> {
      await reach('waking', `/${id}/wake`);
      await reach('filled', `/${id}/fill`, agent.fill);
      await reach('filled', `/${id}/verify`);
      return reach('serving', `/${id}/admit`);
    }
    const usedBytes = async () => (await inventory()).gpus.map((gpu) => gpu.usedBytes);

    test('without its token nothing is said and nothing is done', async () => {
      for (const header of [{}, { authorization: 'Bearer wrong' }, { authorization: agent.token }]) {
        const read = await fetch(`${agent.url}/fleet/v1/inventory`, { headers: header as Record<string, string> });
        expect(read.status).toBe(401);
        errorBodySchema.parse(await read.json());
        const body = { ...agent.layouts[0], id: 'intruder' };
        expect((await postJson(agent.url, '/fleet/v1/engines', body, header as Record<string, string>)).status).toBe(
          401,
        );
      }
      expect(await engineOf('intruder')).toBeUndefined();
    });

    test('an engine goes through its life, serves in the middle of it, and leaves nothing behind', async () => {
      const empty = await usedBytes();
      const parked = await create('life');
      expect(parked).toMatchObject({ ...agent.layouts[0], id: 'life', failure: null });
      expect(parked.kvTokens).toBeGreaterThan(0);
      expect(parked.maxModelLen).toBeGreaterThan(0);
      expect(parked.maxModelLen).toBeLessThanOrEqual(parked.kvTokens);

      const { url } = await bringUp('life');
      const completion = { prompt: 'Hello', max_tokens: 4, ignore_eos: true, temperature: 0 };
      expect((await postJson(url, '/v1/completions', completion)).json.usage.completion_tokens).toBe(4);

      await reach('draining', '/life/drain');
      await reach('parked', '/life/park');
      await bringUp('life');
      expect((await postJson(url, '/v1/completions', completion)).status).toBe(200);
      expect((await tell('/life/release')).status).toBe(200);
      expect(await engineOf('life')).toBeUndefined();
      expect(await usedBytes()).toEqual(empty);
    });

    test('an engine that does not serve lets no request in, and says that another may', async () => {
      const { url } = await create('closed');
      const completion = { prompt: 'Hello', max_tokens: 1 };
      const whileParked = await postJson(url, '/v1/completions', completion);
      expect(whileParked.status).toBe(503);
      errorBodySchema.parse(whileParked.json);
      await bringUp('closed');
      await reach('draining', '/closed/drain');
      const whileDraining = await postJson(url, '/v1/completions', completion);
      expect(whileDraining.status).toBe(503);
      expect(whileDraining.headers.get('retry-after')).not.toBeNull();
      // A drain can be taken back: that is how a switch rolls back.
      await reach('serving', '/closed/admit');
      expect((await postJson(url, '/v1/completions', completion)).status).toBe(200);
      await tell('/closed/release');
    });

    test('a drain leaves running requests alone, a park ends them with "abort"', async () => {
      await create('cut');
      const { url, maxModelLen } = await bringUp('cut');
      const long = { prompt: 'Hello', max_tokens: maxModelLen - 50, ignore_eos: true, stream: true };
      const response = await post(url, '/v1/completions', long);
      let lastReason: string | null = null;
      let draining = false;
      for await (const event of eventsOf(response)) {
        if (event === '[DONE]') break;
        lastReason = JSON.parse(event).choices[0].finish_reason;
        if (!draining) {
          draining = true;
          const info = await reach('draining', '/cut/drain');
          expect(info.runningCount).toBe(1);
          void tell('/cut/park');
        }
      }
      expect(lastReason).toBe('abort');
      await until(async () => (await engineOf('cut'))?.state === 'parked');
      expect((await engineOf('cut'))?.runningCount).toBe(0);
      await tell('/cut/release');
    });

    test('every call may be repeated: in or past its state it answers at once and changes nothing', async () => {
      const { pid } = await create('again');
      expect((await create('again')).pid).toBe(pid);
      await reach('parked', '/again/park');
      await bringUp('again');
      const { lastEvent } = await inventory();
      for (const [call, body] of [
        ['wake', {}],
        ['fill', agent.fill],
        ['verify', {}],
        ['admit', {}],
      ] as const) {
        await reach('serving', `/again/${call}`, body);
      }
      expect((await tell('', { ...agent.layouts[0], id: 'again' })).json).toMatchObject({ state: 'serving', pid });
      expect((await inventory()).lastEvent).toBe(lastEvent);
      await reach('draining', '/again/drain');
      await reach('draining', '/again/drain');
      await reach('parked', '/again/park');
      await reach('parked', '/again/park');
      expect((await tell('/again/release')).status).toBe(200);
      expect((await tell('/again/release')).status).toBe(200);
    });

    test('two equal calls at the same time are one', async () => {
      await create('twice');
      const answers = await Promise.all([tell('/twice/wake'), tell('/twice/wake'), tell('/twice/wake')]);
      for (const { status, json } of answers)
        expect({ status, state: json.state }).toEqual({ status: 200, state: 'waking' });
      const { json } = await ask('/events?after=0');
      const wakes = eventBatchSchema.parse(json).events.filter((e) => e.engine === 'twice' && e.detail === 'waking');
      expect(wakes).toHaveLength(1);
      await tell('/twice/release');
    });

    test('what comes too early is refused, and says why', async () => {
      await create('early');
      expect(await refused(409, '/early/fill', agent.fill)).toContain('parked');
      await refused(409, '/early/verify');
      await refused(409, '/early/admit');
      await reach('waking', '/early/wake');
      await refused(409, '/early/admit');
      await reach('filled', '/early/fill', agent.fill);
      expect(await refused(409, '/early/admit')).toMatch(/verif/);
      await reach('filled', '/early/verify');
      await reach('serving', '/early/admit');
      expect(await refused(409, '/early/park')).toContain('serving');
      await tell('/early/release');
    });

    test('memory is accounted per GPU, and overcommit is refused with numbers', async () => {
      const [first, second] = agent.layouts;
      await create('big', first);
      await create('other', second);
      const parked = await inventory();
      for (const gpu of parked.gpus.filter(({ gpu }) => second.gpus.includes(gpu))) {
        expect(gpu.usedBytes).toBeGreaterThan(0);
        expect(gpu.usedBytes).toBeLessThan(0.2 * gpu.memoryBytes);
      }
      await reach('waking', '/big/wake');
      const before = await inventory();
      for (const gpu of before.gpus) expect(gpu.usedBytes).toBeLessThanOrEqual(gpu.memoryBytes);
      expect(await refused(409, '/other/wake')).toMatch(/\d.*GiB.*big/);
      expect((await engineOf('other'))?.state).toBe('parked');
      expect((await inventory()).gpus).toEqual(before.gpus);
      // With the first one out of the way it fits.
      await reach('parked', '/big/park');
      expect((await inventory()).gpus).toEqual(parked.gpus);
      await reach('waking', '/other/wake');
      await tell('/big/release');
      await tell('/other/release');
    });

    test('an engine can be released in any state', async () => {
      await create('leaving');
      const wake = tell('/leaving/wake');
      await until(async () => (await engineOf('leaving'))?.state === 'waking');
      expect((await tell('/leaving/release')).status).toBe(200);
      await wake;
      expect(await engineOf('leaving')).toBeUndefined();
    });

    test('events are numbered without gaps and tell each state; a poll wakes when one comes', async () => {
      const { lastEvent } = await inventory();
      const poll = ask(`/events?after=${lastEvent}&waitSeconds=1000`);
      await create('told');
      expect(eventBatchSchema.parse((await poll).json).events[0]).toMatchObject({
        number: lastEvent + 1,
        engine: 'told',
        kind: 'created',
      });
      await bringUp('told');
      await reach('draining', '/told/drain');
      await reach('parked', '/told/park');
      await tell('/told/release');
      const batch = eventBatchSchema.parse((await ask(`/events?after=${lastEvent}`)).json);
      expect(batch.events.map(({ number }) => number)).toEqual(batch.events.map((_, i) => lastEvent + 1 + i));
      expect(batch.lastEvent).toBe(batch.events.at(-1)?.number);
      expect(batch.events.map(({ kind, detail }) => (kind === 'state' ? detail : kind))).toEqual([
        'created',
        'parked',
        'waking',
        'filled',
        'serving',
        'draining',
        'parked',
        'released',
      ]);
      const times = batch.events.map(({ atSeconds }) => atSeconds);
      expect(times).toEqual([...times].sort((a, b) => a - b));
      const nothingNew = eventBatchSchema.parse((await ask(`/events?after=${batch.lastEvent}`)).json);
      expect(nothingNew).toEqual({ events: [], lastEvent: batch.lastEvent });
    });

    test('the manifest names the boxes that each rank holds, and none while parked', async () => {
      await create('boxes');
      const manifest = async () => manifestSchema.parse((await ask('/manifest?engine=boxes')).json);
      const parked = await manifest();
      expect(parked.ranks.map(({ gpu }) => gpu)).toEqual(agent.layouts[0].gpus);
      expect(parked.ranks.every(({ boxes }) => boxes.length === 0)).toBe(true);
      await bringUp('boxes');
      for (const { boxes } of (await manifest()).ranks) {
        expect(boxes.length).toBeGreaterThan(0);
        for (const { start, shape, bytes } of boxes) {
          expect(start).toHaveLength(shape.length);
          expect(bytes % shape.reduce((product, n) => product * n, 1)).toBe(0);
        }
      }
      await tell('/boxes/release');
    });

    test('what is not there or cannot be read is an error with the usual body', async () => {
      await refused(404, '/nobody/wake');
      await refused(404, '/nobody/release');
      await refused(400, '', { ...agent.layouts[0] });
      await refused(400, '', '{');
      await refused(400, '', { ...agent.layouts[0], id: 'odd', model: 'no-such-model' });
      await refused(400, '', { ...agent.layouts[0], id: 'odd', gpus: agent.layouts[0].gpus.map((gpu) => gpu + 1000) });
      expect((await ask('/manifest?engine=nobody')).status).toBe(404);
      expect((await ask('/no-such-path')).status).toBe(404);
      await create('taken');
      await refused(409, '', { ...agent.layouts[1], id: 'taken' });
      await refused(400, '/taken/fill', { source: 'nowhere' });
      await tell('/taken/release');
    });

    test('what the agent cannot do is missing from its capabilities and answered as missing', async () => {
      const { capabilities } = await inventory();
      expect(capabilities.rungs).toContain('parked-fill');
      await create('able');
      if (!capabilities.kvTransfer) {
        for (const call of ['kv-export', 'kv-import']) {
          const { status, json } = await tell(`/able/${call}`);
          expect({ status, code: json.error.code }).toEqual({ status: 501, code: 'capability_missing' });
        }
      }
      if (!capabilities.rungs.includes('wake')) {
        const { status, json } = await tell('/able/park', { keepWeights: true });
        expect({ status, code: json.error.code }).toEqual({ status: 501, code: 'capability_missing' });
      }
      await tell('/able/release');
    });
  });
}
