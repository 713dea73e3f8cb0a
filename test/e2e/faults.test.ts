// kill -9 of each kind of process of a real pool under load: what clients see, that the pool goes on, and that nothing
// is orphaned. Clients may see a whole answer or a clear, retryable error; never an answer that is cut in silence.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { endAllPools, startPool, type TestPool } from '../support/pool.ts';
import { SteadyLoad } from '../support/stream-client.ts';

const MODEL = 'llama2-70b';
const ALL_GPUS = Array.from({ length: 16 }, (_, gpu) => gpu);
/** Processes of a healthy pool: 2 × TP8 and 4 × TP4 layouts. */
const HEALTHY = { agent: 2, engine: 6, gateway: 1, controller: 1 };

let pool: TestPool;

beforeAll(async () => {
  pool = await startPool({
    config: {
      models: [{ name: MODEL }],
      // It routes and repairs; which deployment is best is not the question here.
      control: { mode: 'recommend', slowTickSeconds: 60 },
      switching: { initial: '4xTP4', parkedLayouts: ['TP8', 'TP4'] },
      gateway: { port: 0 },
      emulation: { speed: 10 },
    },
  });
});
afterAll(endAllPools);

const counts = () => {
  const found: Record<string, number> = {};
  for (const { kind } of pool.processes()) found[kind] = (found[kind] ?? 0) + 1;
  return found;
};

/** Every GPU serves, the gateway may use every replica, and there is each process once. */
async function isHealthy(): Promise<boolean> {
  if (JSON.stringify(await pool.servingGpus()) !== JSON.stringify(ALL_GPUS)) return false;
  const { ready, runningByReplica } = await pool.admin((gateway) => gateway.status());
  if (!ready || Object.keys(runningByReplica).length !== 4) return false;
  return Object.entries(HEALTHY).every(([kind, count]) => counts()[kind] === count);
}

/** Kills under load; returns what clients saw from the kill until the pool was healthy again, and some streams after. */
async function killUnderLoad(pids: () => Promise<number[]> | number[]): Promise<SteadyLoad> {
  await pool.until(isHealthy, 'the pool is healthy before');
  const load = await SteadyLoad.start(pool.url, MODEL, 12);
  await pool.until(() => load.of('whole').length >= 24, 'the load flows');
  const killed = await pids();
  for (const pid of killed) pool.kill(pid);
  await pool.until(() => pool.processes().every(({ pid }) => !killed.includes(pid)), 'they are dead');
  await pool.until(isHealthy, 'the pool is healthy again', 90);
  const before = load.of('whole').length;
  await pool.until(() => load.of('whole').length >= before + 24, 'the load flows again');
  await load.stop();
  expect(load.of('cut-in-silence')).toEqual([]);
  return load;
}

describe('kill -9', () => {
  test('of an engine: its streams go on elsewhere, token by token; it comes back', async () => {
    const load = await killUnderLoad(async () => {
      const serving = (await pool.engines()).filter((engine) => engine.state === 'serving');
      const busiest = serving.sort((a, b) => b.runningCount - a.runningCount)[0]!;
      expect(busiest.runningCount).toBeGreaterThan(0);
      return [busiest.pid!];
    });
    expect(load.results.filter((result) => result.kind !== 'whole')).toEqual([]);
  });

  test('of an agent: its engines end with it, the other node takes over, both come back', async () => {
    const enginesBefore = pool.processes('engine').map(({ pid }) => pid);
    const load = await killUnderLoad(() => [pool.pidOf('agent-1')]);
    expect(load.results.filter((result) => result.kind !== 'whole')).toEqual([]);
    const kept = pool.processes('engine').filter(({ pid }) => enginesBefore.includes(pid));
    expect(kept).toHaveLength(3); // those of the agent that lived
  });

  test('of the controller: no client notices, and the next one changes nothing', async () => {
    const enginesBefore = pool
      .processes('engine')
      .map(({ pid }) => pid)
      .sort();
    const backs = pool.output.split('controller is back').length;
    const load = await killUnderLoad(async () => [pool.pidOf('controller')]);
    await pool.until(() => pool.output.split('controller is back').length > backs, 'the next controller works');
    await pool.until(isHealthy, 'the pool is healthy under it');
    expect(load.results.filter((result) => result.kind !== 'whole')).toEqual([]);
    const enginesAfter = pool
      .processes('engine')
      .map(({ pid }) => pid)
      .sort();
    expect(enginesAfter).toEqual(enginesBefore);
  });

  test('of the gateway: connections break, the next requests are served; engines keep no abandoned request', async () => {
    const load = await killUnderLoad(() => [pool.pidOf('gateway')]);
    expect(load.of('refused')).toEqual([]);
    expect(load.of('broken').length).toBeGreaterThan(0);
    await pool.until(async () => {
      const engines = await pool.engines();
      return engines.every((engine) => engine.runningCount + engine.waitingCount === 0);
    }, 'engines are idle');
  });

  test('of everything but the supervisor at once: all comes back', async () => {
    const load = await killUnderLoad(() => pool.processes().map(({ pid }) => pid));
    expect(load.of('broken').length).toBeGreaterThan(0);
  });
});

test('kill -9 of the supervisor ends every process and frees every port', async () => {
  await pool.until(isHealthy, 'the pool is healthy before');
  const { url, adminUrl, agents } = pool.state;
  const urls = [url, adminUrl, ...agents.map((agent) => agent.url), ...(await pool.engines()).map((e) => e.url)];
  pool.supervisor.kill('SIGKILL');
  await pool.ended;
  await pool.until(() => pool.processes().length === 0, 'all processes have ended', 15);
  const refused = await Promise.all(
    urls.map((each) =>
      fetch(each).then(
        () => false,
        () => true,
      ),
    ),
  );
  expect(refused).toEqual(urls.map(() => true));
});
