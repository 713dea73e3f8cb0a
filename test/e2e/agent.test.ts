// The emulated agent and its engines as processes: what it means when one of them is killed.
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { resolve } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import type { AgentInput } from '../../src/agent/index.ts';
import { modelByName } from '../../src/core/domain/index.ts';
import { loadProfiles } from '../../src/host/index.ts';
import {
  type CreateEngine,
  type EngineInfo,
  engineInfoSchema,
  eventBatchSchema,
  type Inventory,
  inventorySchema,
} from '../../src/wire/index.ts';
import { eventsOf, post, postJson, until } from '../contract/engine-client.ts';
import { fleetProtocolContract } from '../contract/fleet-protocol.ts';

const SPEED = 50;
const TOKEN = 'a token of this test';
const authorization = { authorization: `Bearer ${TOKEN}` };

class AgentProcess {
  readonly child: ChildProcess;
  readonly url: Promise<string>;
  errors = '';

  constructor(options: Partial<AgentInput> = {}) {
    const all = {
      epochMs: Date.now(),
      speed: SPEED,
      agent: 'node-0',
      nodeIndex: 0,
      token: TOKEN,
      gpus: [0, 1].map((gpu) => ({ gpu, gpuKind: 'H100-80GB' })),
      models: [modelByName('llama3-8b')],
      profiles: loadProfiles().filter(({ gpuKind }) => gpuKind === 'H100-80GB'),
      ...options,
    };
    this.child = fork(resolve(import.meta.dirname, '../../dist/cli/processes/agent.js'), [], {
      env: { ...process.env, OSERVE_PROCESS_OPTIONS: JSON.stringify(all) },
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    });
    this.child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.errors += text;
    });
    this.url = new Promise((ready, failed) => {
      this.child.once('message', (message: { url: string }) => ready(message.url));
      this.child.once('exit', (code) => failed(new Error(`The agent ended with ${code}: ${this.errors}`)));
    });
    this.url.catch(() => {}); // whoever needs the address hears of it
  }

  async tell(path: string, body: unknown = {}): Promise<EngineInfo> {
    const { status, json } = await postJson(await this.url, `/fleet/v1/engines${path}`, body, authorization);
    expect({ status, json }).toMatchObject({ status: 200 });
    return engineInfoSchema.parse(json);
  }

  async inventory(): Promise<Inventory> {
    const response = await fetch(`${await this.url}/fleet/v1/inventory`, { headers: authorization });
    return inventorySchema.parse(await response.json());
  }

  async serve(id: string, gpus = [0]): Promise<EngineInfo> {
    await this.tell('', { ...layout(gpus), id });
    await this.tell(`/${id}/wake`);
    await this.tell(`/${id}/fill`, { source: 'host', bytes: 16e9, seconds: 0.4 });
    await this.tell(`/${id}/verify`);
    return this.tell(`/${id}/admit`);
  }

  async exit(): Promise<{ code: number | null; signal: string | null }> {
    if (this.child.exitCode === null && this.child.signalCode === null) await once(this.child, 'exit');
    return { code: this.child.exitCode, signal: this.child.signalCode };
  }
}

const layout = (gpus: number[]): Omit<CreateEngine, 'id'> => ({
  model: 'llama3-8b',
  gpuKind: 'H100-80GB',
  strategy: { tensorParallel: gpus.length, pipelineParallel: 1 },
  gpus,
});

const isAlive = (pid: number | null): boolean => {
  try {
    return process.kill(pid!, 0);
  } catch {
    return false;
  }
};

const agents: AgentProcess[] = [];
function start(options?: Partial<AgentInput>): AgentProcess {
  const agent = new AgentProcess(options);
  agents.push(agent);
  return agent;
}
afterEach(async () => {
  for (const agent of agents.splice(0)) {
    agent.child.kill('SIGKILL');
    await agent.exit();
  }
});

fleetProtocolContract(async () => {
  const agent = new AgentProcess();
  return {
    url: await agent.url,
    token: TOKEN,
    layouts: [layout([0, 1]), layout([0])],
    fill: { source: 'host', bytes: 16e9, seconds: 0.4 },
    async stop() {
      agent.child.kill('SIGTERM');
      expect(await agent.exit()).toEqual({ code: 0, signal: null });
    },
  };
});

test('an engine that is killed while it streams: the stream breaks off, the agent says so, create revives it', async () => {
  const agent = start();
  const { url, pid } = await agent.serve('e');
  const other = await agent.serve('other', [1]);
  const long = { prompt: 'Hello', max_tokens: 16_000, ignore_eos: true, stream: true };
  const response = await post(url, '/v1/completions', long);
  const { lastEvent } = await agent.inventory();
  const events: string[] = [];
  const read = (async () => {
    for await (const event of eventsOf(response)) {
      if (events.push(event) === 1) process.kill(pid!, 'SIGKILL');
    }
  })();
  await expect(read).rejects.toThrow();
  expect(events).not.toContain('[DONE]');

  const poll = await fetch(`${await agent.url}/fleet/v1/events?after=${lastEvent}&waitSeconds=1000`, {
    headers: authorization,
  });
  expect(eventBatchSchema.parse(await poll.json()).events).toMatchObject([
    { engine: 'e', kind: 'died', detail: 'killed by SIGKILL' },
  ]);
  const { engines, gpus } = await agent.inventory();
  expect(engines.find(({ id }) => id === 'e')).toMatchObject({
    state: 'failed',
    failure: 'killed by SIGKILL',
    pid: null,
  });
  expect(gpus[0]?.usedBytes).toBe(0);
  // Its neighbour has not noticed.
  expect((await postJson(other.url, '/v1/completions', { prompt: 'Hello', max_tokens: 3 })).status).toBe(200);

  const revived = await agent.serve('e');
  expect(revived.pid).not.toBe(pid);
  expect((await postJson(revived.url, '/v1/completions', { prompt: 'Hello', max_tokens: 3 })).status).toBe(200);
});

test('when the agent is killed, its engines end by themselves', async () => {
  const agent = start();
  const engines = [await agent.serve('a', [0]), await agent.serve('b', [1])];
  expect(engines.every(({ pid }) => isAlive(pid))).toBe(true);
  agent.child.kill('SIGKILL');
  await until(() => engines.every(({ pid }) => !isAlive(pid)));
});

test('asked to end, the agent ends its engines, even with streams on them, and then itself with code 0', async () => {
  const agent = start();
  const { url, pid } = await agent.serve('e');
  const response = await post(url, '/v1/completions', {
    prompt: 'Hello',
    max_tokens: 16_000,
    ignore_eos: true,
    stream: true,
  });
  agent.child.kill('SIGTERM');
  expect(await agent.exit()).toEqual({ code: 0, signal: null });
  expect(isAlive(pid)).toBe(false);
  await expect(response.text()).rejects.toThrow();
});

test('a second signal forces: the agent does not wait for an engine that hangs', async () => {
  const agent = start();
  const { pid } = await agent.serve('e');
  process.kill(pid!, 'SIGSTOP');
  agent.child.kill('SIGTERM');
  await until(async () => {
    agent.child.kill('SIGTERM');
    return agent.child.exitCode !== null;
  });
  expect(await agent.exit()).toEqual({ code: 1, signal: null });
  process.kill(pid!, 'SIGCONT');
  await until(() => !isAlive(pid));
});

test('when its parent is gone, the agent ends', async () => {
  const agent = start();
  const { pid } = await agent.serve('e');
  agent.child.disconnect();
  await agent.exit();
  await until(() => !isAlive(pid));
});

test('options that are wrong, or an address that is taken, end the agent with a reason', async () => {
  const wrong = start({ gpus: [] });
  await expect(wrong.url).rejects.toThrow(/ended with 1/);
  expect(wrong.errors).toContain('gpus');
  const { port } = new URL(await start().url);
  const second = start({ port: Number(port) });
  await expect(second.url).rejects.toThrow(/ended with 1/);
  expect(second.errors).toContain(port);
});

test('an engine that cannot start is failed with its own reason', async () => {
  const agent = start({ profiles: [] });
  const answer = await postJson(await agent.url, '/fleet/v1/engines', { ...layout([0]), id: 'e' }, authorization);
  expect(answer.status).toBe(502);
  expect(answer.json.error.message).toContain('There is no profile for H100-80GB');
  expect((await agent.inventory()).engines).toMatchObject([{ id: 'e', state: 'failed' }]);
});
