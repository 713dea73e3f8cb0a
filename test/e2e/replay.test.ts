// `oserve replay` sends real traffic to an accelerated pool while its controller leaves the deployment that it started
// with. The client knows which token must follow each prefix, so a lost or repeated one is found whatever it looks like.
//
// The pool's speed is one at which two cores keep up: then latencies are those of the emulated engines, not of the
// machine. The whole trace by hand: docs/replay.md.
import { resolve } from 'node:path';
import { afterAll, expect } from 'vitest';
import { endAllPools, startPool } from '../support/pool.ts';
import { isDistribution, metricOf, type ReplayJson, runReplay } from '../support/replay.ts';
import { sharedDataTest } from '../support/shared-data.ts';

const POOL = resolve(import.meta.dirname, '../../examples/04-replay-a-trace.yaml');
const REQUESTS = 3000;

afterAll(endAllPools);

sharedDataTest(
  'thousands of real chats are answered whole while the pool switches: none refused, no token lost or repeated',
  async (file) => {
    const pool = await startPool({ config: POOL, args: ['--port', '0'] });
    const trace = file('traces/azure2023_conv_50min.csv.gz');
    const run = await runReplay(['--url', pool.url, '--trace', trace, '--limit', `${REQUESTS}`, '--json']);
    const report = JSON.parse(run.stdout) as ReplayJson;
    expect(report.errors, run.stderr).toEqual({});
    expect(report).toMatchObject({ requests: REQUESTS, completed: REQUESTS, refused: 0 });
    expect(run.code).toBe(0);
    for (const seconds of [report.e2eSeconds, report.ttftSeconds, report.tpotSeconds]) {
      expect(isDistribution(seconds), JSON.stringify(report)).toBe(true);
    }

    // Without a switch that met requests under way, all this would say little.
    expect(pool.output).toMatch(/switch \S+ done: \S+ serves/);
    expect(report.switches).toBeGreaterThan(0);
    expect(report.switchSeconds).toBeGreaterThan(0);
    expect(await metricOf(pool.url, 'oserve_streams_continued_total', 'evacuated')).toBeGreaterThan(0);
    expect(await metricOf(pool.url, 'oserve_streams_interrupted_total')).toBe(0);

    // The gateway counted what the client counted.
    expect(await metricOf(pool.url, 'oserve_requests_total', 'outcome="completed"')).toBe(REQUESTS);
    expect(await metricOf(pool.url, 'oserve_requests_total')).toBe(REQUESTS);
    expect(await metricOf(pool.url, 'oserve_requests_in_flight')).toBe(0);
    expect(await pool.interrupt()).toBe(0);
    expect(pool.processes()).toEqual([]);
  },
  240_000,
);
