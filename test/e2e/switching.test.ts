// Switches of a real pool: a stream that runs through one does not notice, and a controller that is killed in the middle
// of one leaves a state from which the next goes on.
import { join, resolve } from 'node:path';
import Database from 'libsql';
import { afterAll, expect, test } from 'vitest';
import { endAllPools, isPortFree, startPool, type TestPool } from '../support/pool.ts';
import { SteadyLoad } from '../support/stream-client.ts';

const MODEL = 'llama2-70b';
const QUICKSTART = resolve(import.meta.dirname, '../../examples/quickstart.yaml');
const ALL_GPUS = Array.from({ length: 16 }, (_, gpu) => gpu);

afterAll(endAllPools);

/** The newest switch in the pool's journal: how many notes it has, and how it ended. Reads beside the controller. */
function switchInJournal(pool: TestPool): { notes: number; outcome: string | null } | null {
  const database = new Database(join(pool.stateDirectory, 'journal.db'), { readonly: true });
  try {
    const row = database.prepare('SELECT number, outcome FROM switches ORDER BY number DESC LIMIT 1').get() as
      | { number: number; outcome: string | null }
      | undefined;
    if (!row) return null;
    const { notes } = database
      .prepare('SELECT count(*) AS notes FROM switch_steps WHERE switch_number = ?')
      .get(row.number) as { notes: number };
    return { notes, outcome: row.outcome };
  } finally {
    database.close();
  }
}

/** Every GPU serves, and the gateway sends requests to exactly the replicas that serve. */
async function isWhole(pool: TestPool): Promise<boolean> {
  const serving = (await pool.engines()).filter((engine) => engine.state === 'serving');
  const gpus = serving.flatMap((engine) => engine.gpus).sort((a, b) => a - b);
  const { runningByReplica } = await pool.admin((gateway) => gateway.status());
  const routed = Object.keys(runningByReplica).sort();
  return (
    JSON.stringify(gpus) === JSON.stringify(ALL_GPUS) &&
    JSON.stringify(routed) === JSON.stringify(serving.map((engine) => engine.id).sort())
  );
}

test('the quick start reaches a switch under its own drifting traffic; every stream comes whole, and it ends clean', async () => {
  const pool = await startPool({ config: QUICKSTART, args: ['--port', '0'] });
  const { url } = pool;
  const load = await SteadyLoad.start(url, MODEL, 6);
  await pool.until(() => /switch \S+ done/.test(pool.output), 'a switch is done', 150);
  await pool.until(() => isWhole(pool), 'every GPU serves');
  const before = load.count;
  await pool.until(() => load.count >= before + 12, 'the load flows after the switch');
  await load.stop();
  expect(load.results.filter((result) => result.kind !== 'whole')).toEqual([]);
  expect(pool.output).toMatch(/switch \S+: 4xTP4 → \S+, \d+\.\d GB to move, about \d+\.\d s/);
  expect(pool.output).toMatch(/switch \S+ done: \S+ serves after \d+\.\d s, \d+\.\d GB moved/);

  expect(await pool.interrupt()).toBe(0);
  expect(pool.output).toMatch(/\d+ requests sent: \d+ answered whole, 0 refused, 0 failed/);
  expect(pool.processes()).toEqual([]);
  expect(await isPortFree(url)).toBe(true);
});

test('a controller that is killed again and again in the middle of one switch: it is carried to its end', async () => {
  const pool = await startPool({
    config: {
      models: [{ name: MODEL }],
      control: { slowTickSeconds: 20, maxSwitchesPerHour: 1 },
      // A start that no controller would keep for these requests.
      switching: { initial: '4xTP2PP2', parkedLayouts: ['TP8', 'TP4', 'TP2PP2'] },
      gateway: { port: 0 },
      emulation: { speed: 4 },
    },
  });
  const load = await SteadyLoad.start(pool.url, MODEL, 8);
  await pool.until(() => switchInJournal(pool) !== null, 'a switch begins', 150);

  const killedAt: number[] = [];
  for (let next = 1; ; ) {
    await pool.until(() => {
      const seen = switchInJournal(pool);
      return seen !== null && (seen.outcome !== null || seen.notes >= next);
    }, `note ${next} of the switch is written`);
    const seen = switchInJournal(pool)!;
    if (seen.outcome !== null) break;
    const pid = pool.pidOf('controller');
    pool.kill(pid);
    killedAt.push(seen.notes);
    next = seen.notes + 3; // what was under way is noted again by the next one, and then something new
    await pool.until(() => pool.pidOf('controller') !== pid, 'the next controller is there');
  }
  expect(killedAt.length).toBeGreaterThanOrEqual(3);
  expect(switchInJournal(pool)!.outcome).toBe('done');
  expect(pool.output).toContain('is taken up where the last controller left it');
  await pool.until(() => isWhole(pool), 'every GPU serves');
  expect(
    (await pool.engines()).some((engine) => engine.state === 'serving' && engine.strategy.pipelineParallel > 1),
  ).toBe(false);
  const before = load.count;
  await pool.until(() => load.count >= before + 16, 'the load flows after the switch');
  await load.stop();
  expect(load.results.filter((result) => result.kind !== 'whole')).toEqual([]);
});

test('an engine that dies in the middle of a switch: it is rolled back, with every GPU serving in the end', async () => {
  const pool = await startPool({
    config: {
      models: [{ name: MODEL }],
      control: { slowTickSeconds: 20, maxSwitchesPerHour: 1 },
      switching: { initial: '4xTP2PP2', parkedLayouts: ['TP8', 'TP4', 'TP2PP2'] },
      gateway: { port: 0 },
      emulation: { speed: 4 },
    },
  });
  const load = await SteadyLoad.start(pool.url, MODEL, 8);
  // Killed in the same look that finds it: a moment later it might serve already.
  await pool.until(
    async () => {
      const victim = (await pool.engines()).find((engine) => engine.state === 'waking');
      if (switchInJournal(pool) === null || !victim?.pid) return false;
      pool.kill(victim.pid);
      return true;
    },
    'an engine that a switch wakes is killed',
    150,
  );
  await pool.until(() => switchInJournal(pool)?.outcome !== null, 'the switch has ended', 90);
  expect(switchInJournal(pool)!.outcome).toBe('rolled-back');
  await pool.until(() => isWhole(pool), 'every GPU serves', 90);
  await load.stop();
  expect(load.results.filter((result) => result.kind !== 'whole')).toEqual([]);
});
