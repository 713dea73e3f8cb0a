// Question: how long does a plan take, how far is it from the proven optimum, and who else finds that optimum?
// Peers: HiGHS (npm `highs`, WebAssembly) on the same mixed-integer program; brute force over all deployments (which
// refuses when there are too many); the best deployment of one class, which is what a static homogeneous fleet can be.
//
// Profiles cross, as measured ones do: n_kj = base_j × g^a_j × lognormal(0.12), a_j in [0.85, 1.25], 11 strategies. All
// solvers get the same seeded mixes, turn by turn; their optima are compared before any time is printed. Our time is that
// of the whole call: search, proof and the candidates for the twin.
import highsLoader from 'highs';
import { normal, random } from '../dist/core/math/index.js';
import { assign, searchDeployments } from '../dist/core/schedule/index.js';
import { quick, report, spreadOf } from './support/bench.mjs';

const SEED = 'plan-1';
const INSTANCES = quick ? 4 : 24;
const STRATEGIES = [
  [1, 1],
  [2, 1],
  [1, 2],
  [4, 1],
  [2, 2],
  [1, 4],
  [8, 1],
  [4, 2],
  [2, 4],
  [1, 8],
  [8, 2],
];
const highs = await highsLoader();

function instance(typeCount, gpuCount, index) {
  const draw = random(SEED).fork(`${typeCount}x${gpuCount}/${index}`);
  const base = Array.from({ length: typeCount }, () => 0.2 + 1.8 * draw.next());
  const growth = Array.from({ length: typeCount }, () => 0.85 + 0.4 * draw.next());
  const gpus = STRATEGIES.map(([tensorParallel, pipelineParallel]) => tensorParallel * pipelineParallel);
  const serviceRate = Float64Array.from({ length: gpus.length * typeCount }, (_, i) => {
    const type = i % typeCount;
    return base[type] * gpus[Math.floor(i / typeCount)] ** growth[type] * Math.exp(0.12 * normal(draw));
  });
  const weight = Array.from({ length: typeCount }, () => -Math.log(1 - draw.next()));
  const total = weight.reduce((sum, w) => sum + w, 0);
  return {
    classes: STRATEGIES.map(([tensorParallel, pipelineParallel]) => ({
      model: 'model',
      gpuKind: 'gpu',
      strategy: { tensorParallel, pipelineParallel },
    })),
    nodes: Array.from({ length: gpuCount / 8 }, () => ({ gpuKind: 'gpu', gpuCount: 8, usableCount: 8 })),
    arrivalRate: weight.map((w, type) => (w / total) * base[type] * gpuCount * 0.9),
    serviceRate,
    holdsFullLength: gpus.map((g) => g >= 4),
  };
}

/** The same program as text: one whole column per class. */
function highsText({ classes, nodes, arrivalRate, serviceRate, holdsFullLength }) {
  const types = arrivalRate.length;
  const gpus = classes.map(({ strategy }) => strategy.tensorParallel * strategy.pipelineParallel);
  const all = [...classes.keys()];
  const rows = [
    ...arrivalRate.map((rate, j) => `${all.map((k) => `y${j}_${k}`).join(' + ')} - ${rate} theta >= 0`),
    ...all.map(
      (k) => `${arrivalRate.map((_, j) => `${1 / serviceRate[k * types + j]} y${j}_${k}`).join(' + ')} - x${k} <= 0`,
    ),
    `${all.map((k) => `${gpus[k]} x${k}`).join(' + ')} <= ${nodes.length * 8}`,
    `${all
      .filter((k) => holdsFullLength[k])
      .map((k) => `x${k}`)
      .join(' + ')} >= 1`,
  ];
  return `Maximize\n obj: theta\nSubject To\n${rows.map((row, i) => ` r${i}: ${row}`).join('\n')}\nGeneral\n ${all.map((k) => `x${k}`).join(' ')}\nEnd\n`;
}

function timed(run) {
  const start = performance.now();
  const result = run();
  return { milliseconds: performance.now() - start, result };
}

function compare(name, problem, value, expected) {
  if (Math.abs(value / expected - 1) < 1e-5) return;
  throw new Error(`${name} found ${value}, HiGHS ${expected}, for ${JSON.stringify(problem.arrivalRate)}`);
}

const rows = [];
for (const typeCount of [4, 8]) {
  for (const gpuCount of [16, 32, 256]) {
    const warmUp = instance(typeCount, gpuCount, 'warm-up');
    for (let i = 0; i < 10; i++) searchDeployments(warmUp, { searchNodes: 100_000 });
    highs.solve(highsText(warmUp), { mip_rel_gap: 0 });
    const own = [];
    const wasm = [];
    const brute = [];
    const assignment = [];
    const nodes = [];
    const gaps = [];
    const lost = [];
    let deployments = 0;
    let refused = false;
    for (let index = 0; index < INSTANCES; index++) {
      const problem = instance(typeCount, gpuCount, index);
      const text = highsText(problem);
      const plan = timed(() => searchDeployments(problem, { searchNodes: 100_000 }));
      const judge = timed(() => highs.solve(text, { mip_rel_gap: 0 }));
      compare('branch and bound', problem, plan.result.value, judge.result.ObjectiveValue);
      own.push(plan.milliseconds);
      wasm.push(judge.milliseconds);
      nodes.push(plan.result.nodes);
      gaps.push(plan.result.gap);
      // The best one is homogeneous itself at times.
      const alone = plan.result.candidates
        .filter(({ counts }) => counts.filter((count) => count > 0).length === 1)
        .map(({ value }) => value);
      lost.push(1 - Math.max(0, ...alone) / plan.result.value);
      assignment.push(timed(() => assign({ ...problem, counts: plan.result.best })).milliseconds);
      // One brute force may be seconds: a few instances are enough to know.
      if (refused || index >= (quick || gpuCount > 16 ? 1 : 4)) continue;
      try {
        const slow = timed(() => searchDeployments(problem, { searchNodes: 0, solver: 'brute-force' }));
        compare('brute force', problem, slow.result.value, judge.result.ObjectiveValue);
        brute.push(slow.milliseconds);
        deployments = slow.result.nodes;
      } catch (error) {
        if (error.code !== 'search_too_large') throw error;
        refused = true;
      }
    }
    const ms = spreadOf(own);
    rows.push({
      gpus: gpuCount,
      types: typeCount,
      instances: INSTANCES,
      'plan ms': ms.median,
      'plan ms max': ms.max,
      'gap %': Math.max(...gaps) * 100,
      nodes: spreadOf(nodes).median,
      'assign ms': spreadOf(assignment).median,
      'HiGHS ms': spreadOf(wasm).median,
      'HiGHS ms max': spreadOf(wasm).max,
      'brute force ms': refused ? 'refused' : spreadOf(brute).median,
      deployments: refused ? '-' : deployments,
      'one class only, % less': spreadOf(lost).median * 100,
    });
  }
}
report({
  name: 'plan',
  question: 'how long does a plan take, and how far is it from the proven optimum?',
  seed: SEED,
  rows,
});
