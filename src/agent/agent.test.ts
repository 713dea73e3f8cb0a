import { expect, test } from 'vitest';
import { DEFAULT_SWITCH_COSTS, modelByName, type OserveError } from '../core/domain/index.ts';
import { PoolClock } from '../host/index.ts';
import type { CreateEngine } from '../wire/index.ts';
import { Agent } from './agent.ts';
import type { LaunchEngine, RunningEngine } from './engine-control.ts';
import { agentOptionsSchema } from './options.ts';

const SPEED = 1000;

/** An engine that does nothing, but says what it was told and can be made to die. */
class PuppetEngine implements RunningEngine {
  readonly url = 'http://puppet';
  readonly pid = 4711;
  readonly told: string[] = [];
  readonly die: (why: string) => void;
  constructor(gone: (why: string) => void) {
    this.die = gone;
  }
  async load() {
    return { runningCount: 2, waitingCount: 1, kvUsedShare: 0.5 };
  }
  async setAdmitting(admitting: boolean) {
    this.told.push(admitting ? 'admit' : 'close');
  }
  async abortAll() {
    this.told.push('abort');
  }
  async stop() {
    this.told.push('stop');
  }
}

function startPuppets(launch?: LaunchEngine) {
  const clock = PoolClock.startNow(SPEED);
  const engines: PuppetEngine[] = [];
  const options = agentOptionsSchema.parse({
    ...clock.toJSON(),
    agent: 'node-0',
    nodeIndex: 0,
    token: 't',
    gpus: [0, 1].map((gpu) => ({ gpu, gpuKind: 'H100-80GB' })),
    models: [modelByName('llama3-8b')],
  });
  const agent = new Agent(
    options,
    clock,
    launch ??
      (async (_, gone) => {
        engines.push(new PuppetEngine(gone));
        return engines.at(-1)!;
      }),
  );
  return { agent, engines, clock };
}

const spec = (id: string, gpus = [0]): CreateEngine => ({
  id,
  model: 'llama3-8b',
  gpuKind: 'H100-80GB',
  strategy: { tensorParallel: gpus.length, pipelineParallel: 1 },
  gpus,
});
const fill = { source: 'host', bytes: 16e9, seconds: 0.7 } as const;
const codeOf = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => 'done',
    (error: OserveError) => error.code,
  );

async function bringUp(agent: Agent, id: string) {
  await agent.wake(id);
  await agent.fill(id, fill);
  await agent.verify(id);
  return agent.admit(id);
}

test('each step takes the emulated seconds that it costs', async () => {
  const { agent } = startPuppets();
  await agent.create(spec('e'));
  await bringUp(agent, 'e');
  await agent.drain('e');
  await agent.park('e');
  const { events } = agent.events.since(0);
  const at = Object.fromEntries(events.map(({ detail, atSeconds }) => [detail, atSeconds])) as Record<string, number>;
  const first = events.find(({ detail }) => detail === 'parked')!.atSeconds;
  const { newProcessSeconds, wakeSeconds, verifySeconds, parkSeconds } = DEFAULT_SWITCH_COSTS;
  expect(first - at.starting!).toBeGreaterThanOrEqual(newProcessSeconds * 0.999);
  expect(at.filled! - at.waking!).toBeGreaterThanOrEqual(wakeSeconds + fill.seconds - 0.01);
  expect(at.serving! - at.filled!).toBeGreaterThanOrEqual(verifySeconds - 0.01);
  expect(at.parked! - at.draining!).toBeGreaterThanOrEqual(parkSeconds - 0.01);
});

test('an engine that dies is failed, gives its memory back, tells why, and is revived by create', async () => {
  const { agent, engines } = startPuppets();
  await agent.create(spec('e'));
  expect(await bringUp(agent, 'e')).toMatchObject({ state: 'serving', pid: 4711, runningCount: 2, kvUsedShare: 0.5 });
  engines[0]!.die('killed by SIGKILL');
  const { engines: infos, gpus } = await agent.inventory();
  expect(infos).toMatchObject([{ state: 'failed', failure: 'killed by SIGKILL', url: '', pid: null, runningCount: 0 }]);
  expect(gpus.every(({ usedBytes }) => usedBytes === 0)).toBe(true);
  expect(agent.events.since(0).events.at(-1)).toMatchObject({ engine: 'e', kind: 'died', detail: 'killed by SIGKILL' });
  for (const action of [agent.wake('e'), agent.fill('e', fill), agent.drain('e'), agent.park('e')]) {
    expect(await codeOf(action)).toBe('wrong_state');
  }
  expect(await agent.create(spec('e'))).toMatchObject({ state: 'parked', failure: null });
  expect(await bringUp(agent, 'e')).toMatchObject({ state: 'serving' });
  expect(engines).toHaveLength(2);
});

test('a call that is under way when its engine dies says so', async () => {
  const { agent, engines } = startPuppets();
  await agent.create(spec('e'));
  const wake = codeOf(agent.wake('e'));
  engines[0]!.die('exit code 1');
  expect(await wake).toBe('engine_failed');
  expect((await agent.inventory()).engines[0]?.state).toBe('failed');
});

test('an engine that cannot be started is failed and says why; it holds no memory', async () => {
  let broken = true;
  const { agent } = startPuppets(async (_, gone) => {
    if (broken) throw new Error('no such file');
    return new PuppetEngine(gone);
  });
  await expect(agent.create(spec('e'))).rejects.toThrow('no such file');
  expect(await agent.inventory()).toMatchObject({
    engines: [{ state: 'failed', failure: 'no such file' }],
    gpus: [{ usedBytes: 0 }, { usedBytes: 0 }],
  });
  broken = false;
  expect((await agent.create(spec('e'))).state).toBe('parked');
});

test('a park cuts a wake short: a roll-back does not wait for what it undoes', async () => {
  const { agent } = startPuppets();
  await agent.create(spec('e'));
  const wake = codeOf(agent.wake('e'));
  expect((await agent.park('e')).state).toBe('parked');
  expect(await wake).toBe('engine_failed');
  expect((await bringUp(agent, 'e')).state).toBe('serving');
});

test('a park closes the streams that still run, after a drain has closed the door', async () => {
  const { agent, engines } = startPuppets();
  await agent.create(spec('e'));
  await bringUp(agent, 'e');
  expect(await codeOf(agent.park('e'))).toBe('wrong_state');
  await agent.drain('e');
  await agent.park('e');
  await agent.release('e');
  expect(engines[0]!.told).toEqual(['admit', 'close', 'abort', 'stop']);
});

test('a release while the engine starts leaves nothing', async () => {
  const { agent, engines } = startPuppets();
  const create = codeOf(agent.create(spec('e')));
  await agent.release('e');
  expect(await create).not.toBe('done');
  expect(engines.every(({ told }) => told.includes('stop'))).toBe(true);
  expect(await agent.inventory()).toMatchObject({ engines: [], gpus: [{ usedBytes: 0 }, { usedBytes: 0 }] });
});

test('more parked layouts than a GPU holds are refused, and the refused one never existed', async () => {
  const { agent } = startPuppets();
  const layouts = Math.floor((80 * 1024 ** 3) / DEFAULT_SWITCH_COSTS.parkedBytesPerLayout);
  await Promise.all(Array.from({ length: layouts }, (_, i) => agent.create(spec(`e${i}`))));
  expect(await codeOf(agent.create(spec('one-too-many')))).toBe('infeasible');
  expect((await agent.inventory()).engines).toHaveLength(layouts);
});

test('a lost GPU takes its engines with it and takes no new ones until it is back', async () => {
  const { agent, engines } = startPuppets();
  await agent.create(spec('both', [0, 1]));
  await agent.create(spec('other', [1]));
  await bringUp(agent, 'both');
  await agent.loseGpu(0);
  expect(await agent.inventory()).toMatchObject({
    gpus: [{ lost: true }, { lost: false }],
    engines: [
      { id: 'both', state: 'failed', failure: 'GPU 0 is lost' },
      { id: 'other', state: 'parked' },
    ],
  });
  expect(engines[0]!.told).toContain('stop');
  expect(await codeOf(agent.create(spec('both', [0, 1])))).toBe('gpu_lost');
  agent.restoreGpu(0);
  expect((await agent.create(spec('both', [0, 1]))).state).toBe('parked');
});

test('a layout that cannot be is refused before anything starts', async () => {
  const { agent, engines } = startPuppets();
  const wrong: [string, Partial<CreateEngine>][] = [
    ['model_unknown', { model: 'gpt' }],
    ['gpu_unknown', { gpus: [7] }],
    ['gpus_wrong', { gpus: [0, 1] }],
    ['gpus_wrong', { gpuKind: 'H200' }],
    ['strategy_illegal', { strategy: { tensorParallel: 3, pipelineParallel: 1 } }],
  ];
  for (const [code, part] of wrong) expect(await codeOf(agent.create({ ...spec('e'), ...part }))).toBe(code);
  expect(engines).toHaveLength(0);
});
