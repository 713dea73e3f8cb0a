// Supervised processes: order, restarts, and the rule that nobody outlives its parent.
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { assertPortFree, type ChildEvent, findFreePort, Supervisor } from '../../src/host/index.ts';
import { pause, processesWith } from '../support/pool.ts';

const built = pathToFileURL(resolve(import.meta.dirname, '../../dist/host/index.js')).href;
let directory = '';

/** A child that says it is ready, notes how it ends, and dies in the way that it is told to. */
const CHILD = `
import { appendFileSync } from 'node:fs';
import { endWithParent, processOptions, tellParent } from '${built}';
const { name, log, stubborn = false, failsAtStart = false } = processOptions();
if (failsAtStart) process.exit(7);
endWithParent(async () => {
  appendFileSync(log, name + ' ends\\n');
  if (stubborn) await new Promise(() => {});
}, 60_000);
setInterval(() => {}, 1000);
tellParent({ kind: 'ready', name });
`;

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'oserve-supervisor-'));
  writeFileSync(join(directory, 'child.mjs'), CHILD);
});
afterAll(() => {
  rmSync(directory, { recursive: true, force: true });
});

function supervised() {
  const log = join(directory, `log-${Math.random()}`);
  writeFileSync(log, '');
  const mark = `${process.pid}-${Math.random()}`;
  const events: [string, ChildEvent][] = [];
  const supervisor = new Supervisor({ onEvent: (child, event) => events.push([child, event]) });
  const start = (name: string, more: object = {}, stopMs = 5000) =>
    supervisor.start({
      name,
      modulePath: join(directory, 'child.mjs'),
      options: { name, log, ...more },
      environment: { OSERVE_POOL_ID: mark },
      stopMs,
    });
  const lines = () => readFileSync(log, 'utf8').trim().split('\n').filter(Boolean);
  const alive = () => processesWith('OSERVE_POOL_ID', mark).length;
  return { supervisor, start, events, lines, alive, mark };
}

test('children are ready before the next one starts, and end in the order asked for', async () => {
  const { supervisor, start, lines, alive } = supervised();
  await start('engine-0');
  await start('engine-1');
  await start('front');
  expect(alive()).toBe(3);
  await supervisor.stop(['front']);
  expect(lines()[0]).toBe('front ends');
  expect(lines().slice(1).sort()).toEqual(['engine-0 ends', 'engine-1 ends']);
  expect(alive()).toBe(0);
});

test('a killed child comes back with the same options, each time a little later', async () => {
  const { supervisor, start, events } = supervised();
  await start('worker');
  for (let deaths = 1; deaths <= 3; deaths++) {
    const pid = supervisor.children[0]!.pid!;
    process.kill(pid, 'SIGKILL');
    while (events.filter(([, event]) => event.kind === 'ready').length <= deaths) await pause(10);
    expect(supervisor.children[0]!.pid).not.toBe(pid);
  }
  const pauses = events.flatMap(([, event]) => (event.kind === 'died' ? [event.restartMs] : []));
  expect(pauses).toEqual([200, 400, 800]);
  await supervisor.stop([]);
});

test('a child that dies before it is ready is an error with its exit code, and is not restarted', async () => {
  const { supervisor, start, alive } = supervised();
  await expect(start('broken', { failsAtStart: true })).rejects.toThrow('broken did not start: exit code 7');
  await supervisor.stop([]);
  expect(alive()).toBe(0);
});

test('a child that does not end when asked is ended', async () => {
  const { supervisor, start, alive } = supervised();
  await start('stubborn', { stubborn: true }, 300);
  await supervisor.stop([]);
  expect(alive()).toBe(0);
});

test('kill -9 of the supervising process ends its children', async () => {
  const mark = `${process.pid}-orphans`;
  const log = join(directory, 'orphans');
  const parent = `
    import { Supervisor } from '${built}';
    const supervisor = new Supervisor();
    for (const name of ['one', 'two']) {
      await supervisor.start({ name, modulePath: ${JSON.stringify(join(directory, 'child.mjs'))}, options: { name, log: ${JSON.stringify(log)} } });
    }
    console.log('up');
  `;
  writeFileSync(join(directory, 'parent.mjs'), parent);
  const child = spawn(process.execPath, [join(directory, 'parent.mjs')], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, OSERVE_POOL_ID: mark },
  });
  await new Promise((up) => child.stdout.once('data', up));
  expect(processesWith('OSERVE_POOL_ID', mark)).toHaveLength(3);
  child.kill('SIGKILL');
  while (processesWith('OSERVE_POOL_ID', mark).length > 0) await pause(20);
  expect(readFileSync(log, 'utf8').trim().split('\n').sort()).toEqual(['one ends', 'two ends']);
});

test('a taken port is named, a free one is found outside of what outgoing connections use', async () => {
  const server = createServer();
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  const { port } = server.address() as { port: number };
  await expect(assertPortFree(port, '127.0.0.1', '--port')).rejects.toThrow(
    `Port ${port} on 127.0.0.1 is taken by another process.`,
  );
  server.close();
  const free = await findFreePort('127.0.0.1');
  await assertPortFree(free, '127.0.0.1', '--port');
  expect(free).toBeLessThan(32_000);
});
