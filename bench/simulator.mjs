// Question: how many requests and iterations does the simulator get through per second of CPU, and where does the time go?
// Peers: the replica engine alone, without arrivals, router and log (what an event loop around it costs); the evaluation
// world's table look-ups instead of the fitted step time. vidur, an iteration-level simulator in Python, makes 250-700
// requests/s on another machine (data/reference), so it is in no row here.
//
// Traffic: Poisson arrivals with conversation-like lengths, LLaMA2-70B as TP4 replicas on H100, near 70 % of capacity.
// Per-iteration version: every step of every replica is computed on its own. Rates are over CPU time of this process.
import { DEFAULT_ENGINE_OPTIONS, gpuKind, modelByName, replicaId, replicaMemory } from '../dist/core/domain/index.js';
import { exponential, logNormal, random } from '../dist/core/math/index.js';
import { fittedStepTime, ReplicaEngine } from '../dist/core/replica/index.js';
import { LeastLoadedRouter } from '../dist/core/routing/index.js';
import { SimulatedFleet } from '../dist/core/sim/index.js';
import { loadProfiles, readKernelTables } from '../dist/host/profiles/index.js';
import { worldStepTime } from '../dist/world/index.js';
import { quick, report, spreadOf } from './support/bench.mjs';

const SEED = 'simulator-1';
const MINUTES = quick ? 5 : 60;
const REPEATS = quick ? 1 : 5;
const model = modelByName('llama2-70b');
const replicaClass = {
  model: model.name,
  gpuKind: 'H100-80GB',
  strategy: { tensorParallel: 4, pipelineParallel: 1 },
};
const engine = DEFAULT_ENGINE_OPTIONS;
const costs = { drainSeconds: 5 };

function traffic(replicas) {
  const draw = random(SEED).fork(`${replicas} replicas`);
  const requests = [];
  const length = (median, sigma, largest) =>
    Math.max(1, Math.min(largest, Math.round(logNormal(draw, Math.log(median), sigma))));
  for (let at = 0; at < MINUTES * 60; at += exponential(draw, 1 / (2.5 * replicas))) {
    requests.push({ arrivalSeconds: at, inputTokens: length(700, 0.9, 7999), outputTokens: length(130, 0.8, 3000) });
  }
  return requests;
}

function wholeFleet(trace, replicas, stepTimeOf) {
  const fleet = new SimulatedFleet({
    trace,
    cluster: { nodes: [] },
    models: [model],
    engine,
    stepTimeOf,
    parkedBytes: 0,
    initial: Array.from({ length: replicas }, (_, i) => ({ ...replicaClass, id: replicaId(`r${i}`), gpus: [] })),
    makeRouter: (_, known) => {
      let router = new LeastLoadedRouter(known);
      return {
        route: (view, loads) => router.choose(view, [], loads),
        setReplicas: (others) => {
          router = new LeastLoadedRouter(others);
        },
      };
    },
    costs,
    random: random(SEED),
  });
  const { outcomes } = fleet.finish();
  return outcomes.filter(({ completed }) => completed).length;
}

/** The same requests, dealt in turn to engines that run to their end on their own. */
function enginesAlone(trace, replicas, stepTimeOf) {
  const { kvBlocks } = replicaMemory(model, replicaClass.strategy, gpuKind(replicaClass.gpuKind), engine);
  let finished = 0;
  let tokens = 0;
  const sink = {
    token: () => {
      tokens++;
    },
    finished: () => {
      finished++;
    },
  };
  for (let r = 0; r < replicas; r++) {
    const alone = new ReplicaEngine({
      stepTime: stepTimeOf(replicaClass, `r${r}`),
      pipelineParallel: 1,
      kvBlocks,
      engine,
    });
    for (let i = r; i < trace.length; i += replicas) {
      const { arrivalSeconds, inputTokens, outputTokens } = trace[i];
      alone.advance(arrivalSeconds, sink);
      alone.add(i, inputTokens, outputTokens, arrivalSeconds);
    }
    alone.advance(Number.POSITIVE_INFINITY, sink);
  }
  if (tokens === 0) throw new Error('The engines made no token.');
  return finished;
}

function measure(run, trace, replicas, stepTimeOf) {
  // Iterations are counted in a run of their own, so that counting costs nothing in the timed ones.
  let iterations = 0;
  const counting = (each, id) => {
    const stepTime = stepTimeOf(each, id);
    return {
      stageSeconds: (...batch) => {
        iterations++;
        return stepTime.stageSeconds(...batch);
      },
    };
  };
  const finished = run(trace, replicas, counting);
  if (finished !== trace.length) throw new Error(`${trace.length} requests in, ${finished} done.`);
  const seconds = [];
  for (let i = 0; i < REPEATS; i++) {
    const start = process.cpuUsage();
    run(trace, replicas, stepTimeOf);
    const used = process.cpuUsage(start);
    seconds.push((used.user + used.system) / 1e6);
  }
  return { iterations, seconds: spreadOf(seconds) };
}

const fitted = fittedStepTime(loadProfiles());
const steps = [['fitted', fitted]];
try {
  const tables = [readKernelTables(replicaClass.gpuKind)];
  steps.push(['world tables', worldStepTime({ tables, models: [model], seed: 1 })]);
} catch (error) {
  console.log(`skipped: rows of the evaluation world (${error.message})`);
}
const rows = [];
for (const replicas of [4, 8]) {
  const trace = traffic(replicas);
  for (const [stepTime, stepTimeOf] of steps) {
    for (const [what, run] of [
      ['simulated fleet', wholeFleet],
      ['engines alone', enginesAlone],
    ]) {
      const { iterations, seconds } = measure(run, trace, replicas, stepTimeOf);
      rows.push({
        what,
        'step time': stepTime,
        gpus: replicas * 4,
        requests: trace.length,
        iterations,
        'CPU s': seconds.median,
        'CPU s max': seconds.max,
        'requests/s': Math.round(trace.length / seconds.median),
        'iterations/s': Math.round(iterations / seconds.median),
      });
    }
  }
}
report({
  name: 'simulator',
  question: 'how many requests and iterations a second does the simulator do?',
  seed: SEED,
  rows,
});
