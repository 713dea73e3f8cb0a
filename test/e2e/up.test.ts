// `oserve up` as a user meets it: what it says, what it answers, how it ends, and how it refuses to start.
import { createServer } from 'node:net';
import { afterAll, describe, expect, test } from 'vitest';
import { endAllPools, isPortFree, startPool, TestPool } from '../support/pool.ts';
import { streamCompletion } from '../support/stream-client.ts';

const MODEL = 'llama3-8b';

/** One small node: 2 × TP2 serving, TP4 parked; seconds from start to service. */
const SMALL = {
  cluster: { nodes: [{ count: 1, gpusPerNode: 4 }] },
  models: [{ name: MODEL }],
  control: { slowTickSeconds: 60 },
  switching: { initial: '2xTP2', parkedLayouts: ['TP4', 'TP2'] },
  gateway: { port: 0 },
  emulation: { speed: 20 },
};

afterAll(endAllPools);

describe('a pool that runs', () => {
  test('says where it serves, answers the curl line that it prints, and ends by one Ctrl-C without a trace', async () => {
    const pool = await startPool({ config: SMALL });
    const { url, adminUrl, agents } = pool.state;
    expect(pool.output).toContain(`serving at ${url}`);

    const curl = /curl (\S+) -H '([^']+)' -d '([^']+)'/.exec(pool.output)!;
    const answer = await fetch(curl[1]!, {
      method: 'POST',
      headers: { 'content-type': curl[2]!.split(': ')[1]! },
      body: curl[3]!,
    });
    const body = (await answer.json()) as { choices: { text: string; finish_reason: string }[] };
    expect(answer.status).toBe(200);
    expect(body.choices[0]!.text.length).toBeGreaterThan(0);

    const engineUrls = (await pool.engines()).map((engine) => engine.url);
    expect(engineUrls).toHaveLength(3);
    expect(await pool.interrupt('SIGINT')).toBe(0);
    expect(pool.processes()).toEqual([]);
    for (const each of [url, adminUrl, ...agents.map((agent) => agent.url), ...engineUrls]) {
      expect(await isPortFree(each)).toBe(true);
    }
    expect(pool.output.match(/error/gi)).toBeNull();
  });

  test('lets running streams end whole at SIGTERM, and takes no new ones', async () => {
    const pool = await startPool({ config: SMALL, args: ['--speed', '4'] });
    const { url } = pool;
    const request = { url, model: MODEL, prompt: 'One more.', outputTokens: 300 };
    const running = streamCompletion(request);
    await pool.until(async () => {
      const { runningByReplica } = await pool.admin((gateway) => gateway.status());
      return Object.values(runningByReplica).some((count) => count > 0);
    }, 'the stream runs');
    const ended = pool.interrupt('SIGTERM');
    expect((await running).kind).toBe('whole');
    expect(await ended).toBe(0);
    expect((await streamCompletion(request)).kind).toBe('broken');
  });

  test('ends at once at a second Ctrl-C', async () => {
    const pool = await startPool({ config: SMALL, args: ['--speed', '1'] });
    const { url } = pool;
    const running = streamCompletion({ url, model: MODEL, prompt: 'A very long one.', outputTokens: 8000 });
    await pool.until(async () => {
      const { runningByReplica } = await pool.admin((gateway) => gateway.status());
      return Object.values(runningByReplica).some((count) => count > 0);
    }, 'the stream runs');
    void pool.interrupt('SIGINT');
    await pool.until(() => pool.output.includes('ending'), 'it is ending');
    expect(await pool.interrupt('SIGINT')).toBe(130);
    expect((await running).kind).toBe('broken');
    await pool.until(() => pool.processes().length === 0, 'all processes have ended', 5);
  });

  test('a second pool over the same state directory is refused, the first one stays', async () => {
    const pool = await startPool({ config: SMALL });
    const second = new TestPool({ config: { ...SMALL, stateDirectory: pool.stateDirectory } });
    expect(await second.ended).toBe(1);
    expect(second.output).toContain('held by another running oserve');
    expect((await fetch(`${pool.url}/readyz`)).status).toBe(200);
    await pool.interrupt();
  });

  test('Ctrl-C while it starts ends what has started', async () => {
    const pool = new TestPool({ config: SMALL });
    await pool.until(() => pool.processes('engine').length > 0, 'the first engine is there');
    expect(await pool.interrupt()).toBe(0);
    await pool.until(() => pool.processes().length === 0, 'all processes have ended', 5);
  });
});

describe('a pool that cannot start says why in one sentence, with an exit code', () => {
  test('a taken port', async () => {
    const server = createServer();
    await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
    const { port } = server.address() as { port: number };
    const pool = new TestPool({ config: SMALL, args: ['--port', String(port)] });
    expect(await pool.ended).toBe(1);
    server.close();
    expect(pool.output).toContain(`error: Port ${port} on 127.0.0.1 is taken by another process.\nhint: `);
    expect(pool.output).not.toContain('    at ');
    expect(pool.processes()).toEqual([]);
  });

  test.each([
    ['an unknown key', { ...SMALL, gatway: {} }, /gatway/],
    ['a value out of range', { ...SMALL, emulation: { speed: -1 } }, /emulation\.speed/],
    ['an illegal layout', { ...SMALL, switching: { parkedLayouts: ['TP3'] } }, /TP3/],
    [
      'a model that does not fit',
      { ...SMALL, models: [{ name: 'opt-66b' }], switching: { initial: '4xTP1' } },
      /opt-66b/,
    ],
    ['a trace that is not there', { ...SMALL, traffic: { source: 'nowhere.csv' } }, /nowhere\.csv/],
  ])('%s', async (_what, config, message) => {
    const pool = new TestPool({ config });
    expect(await pool.ended).toBe(1);
    expect(pool.output).toMatch(message);
    expect(pool.output).toMatch(/^error: /m);
    expect(pool.output).not.toContain('    at ');
    expect(pool.processes()).toEqual([]);
  });

  test('a flag that is no number', async () => {
    const pool = new TestPool({ config: SMALL, args: ['--speed', 'fast'] });
    expect(await pool.ended).not.toBe(0);
    expect(pool.output).toContain('"fast" is not a number');
  });
});
