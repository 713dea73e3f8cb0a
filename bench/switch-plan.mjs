// Question: how long does planning a switch take, how many bytes does it move, and how close is the busiest link to what
// no plan can beat? Peers: the paper's greedy transfers on a placement that ignores what stands (nodes in random order),
// against the same transfers after matching. Both plan the whole cluster at once, old weights staying until the fill.
import {
  DEFAULT_ENGINE_OPTIONS,
  DEFAULT_SWITCH_COSTS,
  gpuKind,
  MODELS,
  parseDeployment,
  uniformCluster,
} from '../dist/core/domain/index.js';
import { random } from '../dist/core/math/index.js';
import { placeDeployment, planSwitch, replicaIdGenerator } from '../dist/core/switching/index.js';
import { quick, report, spreadOf } from './support/bench.mjs';

const SEED = 5;
const PAIRS = quick ? 6 : 60;
const SIZES = [32, 256];
const defaults = { model: 'llama2-70b', gpuKind: 'H100-80GB' };
const strategies = ['TP4', 'TP2PP2', 'TP8', 'TP4PP2', 'TP2PP4', 'TP8PP2'];
const gpusOf = (text) => [...text.matchAll(/\d+/g)].reduce((product, [digits]) => product * Number(digits), 1);

/** Replicas drawn until the cluster is full, as notation. */
function drawLayout(dice, gpus) {
  const names = [];
  for (let left = gpus; left > 0; ) {
    const name = strategies[Math.floor(dice.next() * strategies.length)];
    if (gpusOf(name) > left) continue;
    names.push(`1x${name}`);
    left -= gpusOf(name);
  }
  return parseDeployment(names.join(','), defaults);
}

/** A placement that does not look at what stands: nodes in random order. */
function placeBlindly(dice, cluster, to, nextId) {
  const nodes = cluster.nodes.map((_, index) => index);
  for (let i = nodes.length - 1; i > 0; i--) {
    const j = Math.floor(dice.next() * (i + 1));
    [nodes[i], nodes[j]] = [nodes[j], nodes[i]];
  }
  return placeDeployment(cluster, [], to, MODELS, { nextId }).map((replica) => ({
    ...replica,
    gpus: replica.gpus.map((gpu) => nodes[Math.floor(gpu / 8)] * 8 + (gpu % 8)),
  }));
}

/** Seconds of the busiest port: out of and into GPUs, host memory, and nodes. */
function busiestSeconds({ links }, cluster) {
  const ports = new Map();
  const { linkBytesPerSecond, hostBytesPerSecond } = gpuKind(defaults.gpuKind);
  for (const { from, to, bytes } of links) {
    const network = cluster.nodes[0].networkBytesPerSecond;
    const speed = from.startsWith('net') ? network : from.startsWith('host') ? hostBytesPerSecond : linkBytesPerSecond;
    const keys = from.startsWith('host') ? [`${to} from host`] : [`out of ${from}`, `into ${to}`];
    for (const key of keys) ports.set(key, (ports.get(key) ?? 0) + bytes / speed);
  }
  return Math.max(0, ...ports.values());
}

const rows = [];
for (const gpus of SIZES) {
  const cluster = uniformCluster(gpus);
  const dice = random(SEED).fork(`layouts-${gpus}`);
  const results = { blind: [], matched: [] };
  for (let pair = -20; pair < (gpus > 100 ? Math.ceil(PAIRS / 3) : PAIRS); pair++) {
    const from = placeDeployment(cluster, [], drawLayout(dice, gpus), MODELS);
    const to = drawLayout(dice, gpus);
    for (const placement of ['blind', 'matched']) {
      const start = process.cpuUsage();
      const nextId = replicaIdGenerator(from.map(({ id }) => id));
      const placed =
        placement === 'matched'
          ? placeDeployment(cluster, from, to, MODELS, { nextId })
          : placeBlindly(dice, cluster, to, nextId);
      const plan = planSwitch({
        id: `pair-${pair}`,
        cluster,
        models: MODELS,
        from,
        to: placed,
        engine: DEFAULT_ENGINE_OPTIONS,
        costs: DEFAULT_SWITCH_COSTS,
        parkedLayouts: [],
        planner: 'greedy',
        oldWeightsLeave: 'after-fill',
        mostUnavailableShare: 1,
      });
      const { user, system } = process.cpuUsage(start);
      const milliseconds = (user + system) / 1000;
      // The first pairs warm the machine up. CPU time, as other work may share the cores.
      if (pair >= 0) results[placement].push({ milliseconds, plan, seconds: busiestSeconds(plan, cluster) });
    }
  }
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  for (const [placement, runs] of Object.entries(results)) {
    const ms = spreadOf(runs.map(({ milliseconds }) => milliseconds));
    const bounded = runs.filter(({ plan }) => plan.lowerBoundSeconds > 0);
    const ratios = bounded.map(({ plan, seconds }) => seconds / plan.lowerBoundSeconds);
    rows.push({
      gpus,
      placement: `${placement} + greedy`,
      pairs: runs.length,
      'CPU ms median': ms.median,
      'CPU ms max': ms.max,
      'GB mean': mean(runs.map(({ plan }) => plan.bytes / 1e9)),
      'busiest link s, mean': mean(runs.map(({ seconds }) => seconds)),
      'over lower bound, mean': mean(ratios),
      'over lower bound, max': Math.max(...ratios),
    });
  }
}
report({
  name: 'switch-plan',
  question:
    'CPU milliseconds to place and plan a switch of llama2-70b, bytes moved, and the busiest link over its lower bound',
  seed: SEED,
  rows,
});
