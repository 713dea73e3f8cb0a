// `oserve simulate`: policies side by side on one trace, in virtual time.
import { basename } from 'node:path';
import type { Command } from 'commander';
import { type Contest, POLICIES, type PolicyName, type PolicyResult, runPolicy } from '../../core/control/index.ts';
import { ConfigError, formatDeployment, OBJECTIVES, type TraceRequest } from '../../core/domain/index.ts';
import { random } from '../../core/math/index.ts';
import {
  controllerConfigOf,
  flagOverrides,
  initialDeployment,
  loadConfig,
  loadProfiles,
  readTraceFile,
  scaleTrace,
} from '../../host/index.ts';
import { choiceFlag, numberFlag } from '../options.ts';
import { ProgressBar } from '../progress.ts';
import { formatTable } from '../table.ts';
import { WORLDS, worldOf } from '../world.ts';

interface SimulateFlags {
  readonly trace: string;
  readonly config?: string;
  readonly model?: string;
  readonly gpus?: string;
  readonly policies: string;
  readonly rateScale?: string;
  readonly minutes?: string;
  readonly objective?: string;
  readonly seed?: string;
  readonly admission?: string;
  readonly world: string;
  readonly json?: true;
}

export function register(program: Command): void {
  program
    .command('simulate')
    .description('Plays a trace through several policies and prints them side by side.')
    .requiredOption('--trace <file>', 'trace in any known format (see oserve trace --help); .gz too')
    .option('--config <file>', 'configuration file')
    .option('--model <name>', 'model, if not that of the configuration')
    .option('--gpus <n>', 'number of GPUs, in nodes of 8 H100')
    .option('--policies <names>', `comma-separated: ${POLICIES.join(', ')}`, POLICIES.join(','))
    .option('--rate-scale <x>', 'thins or replicates the requests; the duration stays')
    .option('--minutes <n>', 'only the first N minutes of the trace')
    .option('--objective <name>', OBJECTIVES.join(', '))
    .option('--seed <n>', 'seed of everything that is random')
    .option('--admission <n>', 'refuse a request that arrives while N wait; by default queues are unbounded')
    .option('--world <name>', `${WORLDS.join(', ')}: what judges the policies`, WORLDS[0])
    .option('--json', 'print one JSON object and nothing else')
    .addHelpText(
      'after',
      '\nExample:\n  $ oserve simulate --trace trace.csv.gz --model llama2-70b --gpus 16 --rate-scale 1.7',
    )
    .action(simulate);
}

async function simulate(flags: SimulateFlags): Promise<void> {
  const policies = flags.policies.split(',').map((name) => choiceFlag('--policies', name.trim(), POLICIES));
  const gpus = numberFlag('--gpus', flags.gpus, 1, true);
  const seedFlag = numberFlag('--seed', flags.seed, 0, true);
  const loaded = loadConfig({
    file: flags.config,
    flags: flagOverrides({ model: flags.model, gpus, objective: flags.objective, seed: seedFlag }),
  });
  const { config, cluster, models } = loaded;
  const seed = config.control.seed;
  const trace = await traceOf(flags, seed);
  const input = { ...loaded, profiles: loadProfiles() };
  const controllerConfig = controllerConfigOf(input);
  const initial = initialDeployment(input);
  const world = worldOf(
    choiceFlag('--world', flags.world, WORLDS),
    models.map(({ spec }) => spec),
    cluster,
    seed,
  );
  const admission = numberFlag('--admission', flags.admission, 1, true);
  const progress = new ProgressBar(process.stderr);
  const results: [PolicyName, PolicyResult, number][] = [];
  for (const [index, name] of policies.entries()) {
    const hindsight = results.find(([known]) => known === 'vllm-static')?.[1];
    const contest: Contest = {
      trace,
      cluster,
      config: controllerConfig,
      initial,
      budget: { searchNodes: config.search.nodes, simulatedRequests: config.twin.simulatedRequests },
      slowTickSeconds: config.control.slowTickSeconds,
      fastTickSeconds: config.control.fastTickSeconds,
      seed,
      world,
      ...(admission === undefined ? {} : { admission }),
      ...(hindsight ? { hindsight } : {}),
      onProgress: (share) => progress.show((index + share) / policies.length, name),
    };
    const start = performance.now();
    results.push([name, await runPolicy(name, contest), (performance.now() - start) / 1000]);
  }
  progress.clear();
  const model = models[0]!.spec.name;
  const gpuCount = cluster.nodes.reduce((sum, node) => sum + node.gpuCount, 0);
  if (flags.json) {
    const byName = Object.fromEntries(
      results.map(([name, result, wallSeconds]) => [name, jsonOf(result, wallSeconds)]),
    );
    process.stdout.write(
      `${JSON.stringify({ trace: basename(flags.trace), seed, model, gpus: gpuCount, policies: byName })}\n`,
    );
    return;
  }
  const minutes = (trace.at(-1)!.arrivalSeconds - trace[0]!.arrivalSeconds) / 60;
  process.stdout.write(
    `${basename(flags.trace)}: ${trace.length} requests in ${minutes.toFixed(1)} minutes; ${model} on ${gpuCount} GPUs; objective ${config.control.objective}; seed ${seed}\n\n` +
      `${tableOf(results, model, cluster.nodes[0]!.gpuKind)}\n`,
  );
}

async function traceOf(flags: SimulateFlags, seed: number): Promise<TraceRequest[]> {
  const minutes = numberFlag('--minutes', flags.minutes, 0);
  const rateScale = numberFlag('--rate-scale', flags.rateScale, 0) ?? 1;
  if (rateScale <= 0) throw new ConfigError(`--rate-scale is ${rateScale}; expected a number above 0.`);
  const { requests, notes } = await readTraceFile(flags.trace);
  for (const note of notes) process.stderr.write(`note: ${note}\n`);
  const first = requests[0]?.arrivalSeconds ?? 0;
  const slice =
    minutes === undefined ? requests : requests.filter((request) => request.arrivalSeconds - first < minutes * 60);
  const scaled = rateScale === 1 ? slice : scaleTrace(slice, rateScale, random(seed).fork('rate scale'));
  if (scaled.length === 0) {
    throw new ConfigError(
      `${flags.trace} has no requests${minutes === undefined ? '' : ` in its first ${minutes} minutes`}.`,
    );
  }
  // Time begins with the first request.
  return scaled.map((request) => ({ ...request, arrivalSeconds: request.arrivalSeconds - first }));
}

function jsonOf(result: PolicyResult, wallSeconds: number): object {
  const { records: _, deployment, ...metrics } = result;
  return { ...metrics, deployment: formatDeployment(deployment), wallSeconds };
}

function tableOf(results: readonly [PolicyName, PolicyResult, number][], model: string, kind: string): string {
  const s = (seconds: number) => (Number.isFinite(seconds) ? seconds.toFixed(2) : '∞');
  const rows = results.map(([name, r, wallSeconds]) => [
    name,
    formatDeployment(r.deployment, { model, gpuKind: kind }),
    `${r.completed}/${r.requests}`,
    s(r.e2eSeconds.mean),
    s(r.e2eSeconds.p50),
    s(r.e2eSeconds.p99),
    s(r.ttftSeconds.p50),
    s(r.ttftSeconds.p99),
    (1000 * r.tpotSeconds.p50).toFixed(0),
    (1000 * r.tpotSeconds.p99).toFixed(0),
    r.outputTokensPerSecond.toFixed(0),
    r.goodput.toFixed(2),
    `${r.switches}`,
    wallSeconds.toFixed(1),
  ]);
  return formatTable(
    [
      'policy',
      'starts as',
      'completed',
      'e2e mean s',
      'p50',
      'p99',
      'TTFT p50 s',
      'p99',
      'TPOT p50 ms',
      'p99',
      'tokens/s',
      'goodput',
      'switches',
      'took s',
    ],
    rows,
  );
}
