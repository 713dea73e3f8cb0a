// One trace through the simulator and through emulated engines behind a gateway, on the same deployment: the same control
// code and the same replica model on two clocks must come to the same latencies.
//
// The tolerance is 15 %. The pool's clock is the wall clock, so what the machine adds to a request (parsing, two hops, late
// timers: 6-14 ms where two cores have other work too) counts. It is added once per request, so it weighs most in the time
// to the first token, and is multiplied by the pool's speed. So this test runs in real time and takes long prompts, whose
// first token takes some 150 ms: there it is 4-9 %, in the other figures below 1 %. A wrong step time, a lost step of the
// scheduler, a router that does not balance, or a clock that drifts would show in all of them.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, expect } from 'vitest';
import { runPolicy } from '../../src/core/control/index.ts';
import { parseDeployment, type TraceRequest } from '../../src/core/domain/index.ts';
import { random } from '../../src/core/math/index.ts';
import { fittedStepTime } from '../../src/core/replica/index.ts';
import { controllerConfigOf, loadConfig, loadProfiles, readTrace, scaleTrace } from '../../src/host/index.ts';
import { endAllPools, startPool } from '../support/pool.ts';
import { metricOf, type ReplayJson, runReplay } from '../support/replay.ts';
import { sharedDataTest } from '../support/shared-data.ts';

const MODEL = 'llama2-70b';
const DEPLOYMENT = '4xTP2PP2';
const SPEED = 1;
const SECONDS = 40;
const SHORTEST_PROMPT = 1000;
/** Batches of some ten requests in each pipeline, hardly any queue. */
const RATE_SCALE = 3;
const TOLERANCE = 0.15;

const config = {
  models: [{ name: MODEL }],
  // One class of replicas and no switch: what is left to differ is time.
  control: { freeze: true, slowTickSeconds: 600 },
  switching: { initial: DEPLOYMENT, parkedLayouts: ['TP2PP2'] },
  gateway: { port: 0 },
  emulation: { speed: SPEED },
};

afterAll(endAllPools);

sharedDataTest('a trace takes as long in emulated engines as in the simulator', async (file) => {
  const chats = (await readTrace(file('traces/azure2023_conv_50min.csv.gz'))).filter(
    ({ arrivalSeconds, inputTokens }) => arrivalSeconds < SECONDS && inputTokens >= SHORTEST_PROMPT,
  );
  const trace = scaleTrace(chats, RATE_SCALE, random(1));
  const pool = await startPool({ config });
  const simulated = await simulate(join(pool.directory, 'pool.yaml'), trace);

  const traceFile = join(pool.directory, 'trace.csv');
  writeFileSync(traceFile, csvOf(trace));
  const run = await runReplay(['--url', pool.url, '--trace', traceFile, '--json']);
  expect(run.code, run.stderr).toBe(0);
  const live = JSON.parse(run.stdout) as ReplayJson;
  expect(live).toMatchObject({ requests: trace.length, completed: trace.length, switches: 0 });
  expect(simulated).toMatchObject({ requests: trace.length, completed: trace.length, switches: 0 });
  expect(await metricOf(pool.url, 'oserve_streams_continued_total')).toBe(0);

  const ratios = {
    'mean e2e': live.e2eSeconds.mean / simulated.e2eSeconds.mean,
    'P50 TTFT': live.ttftSeconds.p50 / simulated.ttftSeconds.p50,
    'mean TPOT': live.tpotSeconds.mean / simulated.tpotSeconds.mean,
  };
  for (const [name, ratio] of Object.entries(ratios)) {
    expect(Math.abs(ratio - 1), `${name}: ${JSON.stringify(ratios)}`).toBeLessThan(TOLERANCE);
  }
});

/** The same pool in virtual time, judged by the planner's own step times: the emulated engines run on them too. */
function simulate(configFile: string, trace: readonly TraceRequest[]) {
  const loaded = loadConfig({ file: configFile });
  const profiles = loadProfiles();
  const { config: settings, cluster, models } = loaded;
  return runPolicy('oserve', {
    trace,
    cluster,
    config: controllerConfigOf({ ...loaded, profiles }),
    budget: { searchNodes: settings.search.nodes, simulatedRequests: settings.twin.simulatedRequests },
    slowTickSeconds: settings.control.slowTickSeconds,
    fastTickSeconds: settings.control.fastTickSeconds,
    seed: settings.control.seed,
    initial: parseDeployment(DEPLOYMENT, { model: MODEL, gpuKind: cluster.nodes[0]!.gpuKind }),
    world: {
      stepTimeOf: fittedStepTime(
        profiles,
        models.map(({ spec }) => spec),
      ),
    },
  });
}

const csvOf = (trace: readonly TraceRequest[]): string =>
  ['arrival_s,input_tokens,output_tokens']
    .concat(trace.map((request) => `${request.arrivalSeconds},${request.inputTokens},${request.outputTokens}`))
    .join('\n');
