// `oserve plan`: the best deployment for given rates, or for the minute of a trace that comes next.
import type { Command } from 'commander';
import {
  asFinished,
  forecastWindows,
  type PlanRequest,
  planOnce,
  trueCounts,
  workloadOf,
  workloadOfLengths,
} from '../../core/control/index.ts';
import { ConfigError, classKey, formatDeployment, type WorkloadModel } from '../../core/domain/index.ts';
import { random } from '../../core/math/index.ts';
import { fittedStepTime } from '../../core/replica/index.ts';
import { flagOverrides, loadConfig, loadProfiles, readRates, readTrace } from '../../host/index.ts';
import { choiceFlag, numberFlag } from '../options.ts';
import { formatTable } from '../table.ts';

interface PlanFlags {
  readonly trace?: string;
  readonly minute?: string;
  readonly rates?: string;
  readonly config?: string;
  readonly model?: string;
  readonly gpus?: string;
  readonly solver: string;
  readonly assignment: string;
  readonly json?: true;
}

const SOLVERS = ['exact', 'flow-guided', 'brute-force'] as const;
const ASSIGNMENTS = ['exact', 'preflow-push'] as const;
/** Branch-and-bound nodes of one plan: proves the optimum of every pool that the benchmarks hold. */
const SEARCH_NODES = 200_000;

export function register(program: Command): void {
  program
    .command('plan')
    .description('The best deployment and assignment for given rates, with its proven gap.')
    .option('--rates <file>', 'CSV inputTokens,outputTokens,ratePerSecond, a line per workload type')
    .option('--trace <file>', 'a trace; with --minute N, plans for the rates forecast for that minute')
    .option('--minute <n>', 'minute of the trace to plan for, from the minutes before it')
    .option('--config <file>', 'configuration file')
    .option('--model <name>', 'model, if not that of the configuration')
    .option('--gpus <n>', 'number of GPUs, in nodes of 8 H100')
    .option('--solver <name>', SOLVERS.join(', '), 'exact')
    .option('--assignment <name>', ASSIGNMENTS.join(', '), 'exact')
    .option('--json', 'print one JSON object and nothing else')
    .addHelpText('after', '\nExample:\n  $ oserve plan --rates examples/rates.csv --model llama2-70b --gpus 16')
    .action(plan);
}

async function plan(flags: PlanFlags): Promise<void> {
  const gpus = numberFlag('--gpus', flags.gpus, 1, true);
  const { config, cluster, models } = loadConfig({
    file: flags.config,
    flags: flagOverrides({ model: flags.model, gpus }),
  });
  const specs = models.map(({ spec }) => spec);
  const model = specs[0]!.name;
  const { workload, arrivalRate } = await demand(
    flags,
    model,
    config.workload.typeCount ?? 8,
    config.prediction.predictor,
  );
  const request: PlanRequest = {
    config: { models: specs, engine: config.engine, stepTimeOf: fittedStepTime(loadProfiles(), specs) },
    cluster,
    workload,
    arrivalRate,
    solver: choiceFlag('--solver', flags.solver, SOLVERS),
    method: choiceFlag('--assignment', flags.assignment, ASSIGNMENTS),
    searchNodes: SEARCH_NODES,
  };
  const start = performance.now();
  const result = planOnce(request);
  const seconds = (performance.now() - start) / 1000;
  const deployment = formatDeployment(result.deployment, { model, gpuKind: cluster.nodes[0]!.gpuKind });
  const assignment = workload.types.flatMap((type, j) =>
    result.deployment.flatMap((group, k) => {
      const share = result.assignment.share[j]![k]!;
      return share > 0 ? [{ type: type.id, replicaClass: classKey(group), share }] : [];
    }),
  );
  if (flags.json) {
    const { servedShare, value, upperBound, gap } = result;
    process.stdout.write(
      `${JSON.stringify({ solver: flags.solver, deployment, assignment, servedShare, value, upperBound, gap, seconds })}\n`,
    );
    return;
  }
  const rows = workload.types.map((type, j) => [
    type.id,
    type.inputTokens.toFixed(0),
    type.outputTokens.toFixed(0),
    arrivalRate[j]!.toFixed(2),
    result.deployment
      .map(
        (group, k) =>
          `${(100 * result.assignment.share[j]![k]!).toFixed(0)} % ${formatDeployment([{ ...group, count: 1 }], { model, gpuKind: group.gpuKind }).slice(2)}`,
      )
      .join(', '),
  ]);
  process.stdout.write(
    [
      `Deployment     ${deployment}`,
      `Served         ${(100 * result.servedShare).toFixed(1)} % of the type served least, highest utilisation ${(100 * result.utilisation).toFixed(0)} %`,
      `Capacity       ${result.value.toFixed(3)} times these rates; proven bound ${result.upperBound.toFixed(3)}, gap ${(100 * result.gap).toFixed(2)} % (for the linear share model)`,
      `Search         ${flags.solver}, ${result.nodes} nodes, ${(seconds * 1000).toFixed(1)} ms`,
      '',
      formatTable(['type', 'input', 'output', 'requests/s', 'goes to'], rows),
      '',
    ].join('\n'),
  );
}

async function demand(
  flags: PlanFlags,
  model: string,
  typeCount: number,
  predictor: string,
): Promise<{ workload: WorkloadModel; arrivalRate: number[] }> {
  if ((flags.rates === undefined) === (flags.trace === undefined)) {
    throw new ConfigError('plan needs either --rates FILE or --trace FILE with --minute N.', {
      hint: 'See oserve plan --help.',
    });
  }
  if (flags.rates !== undefined) {
    const rates = await readRates(flags.rates);
    return {
      workload: workloadOfLengths(rates.map((rate) => ({ ...rate, model }))),
      arrivalRate: rates.map((rate) => rate.ratePerSecond),
    };
  }
  const minute = numberFlag('--minute', flags.minute, 1, true);
  if (minute === undefined) throw new ConfigError('--trace needs --minute N: the minute to plan for.');
  const past = (await readTrace(flags.trace!)).filter((request) => request.arrivalSeconds < minute * 60);
  if (past.length < 32) {
    throw new ConfigError(
      `${flags.trace} has ${past.length} requests before minute ${minute}; 32 are needed to tell types.`,
      { hint: 'Give a later minute.' },
    );
  }
  const finished = asFinished(past, model);
  const workload = workloadOf(finished.slice(-5000), typeCount, random('plan'));
  const windows = Math.min(minute, 180);
  const counts = trueCounts(workload, finished, (minute - windows) * 60, 60, windows);
  const forecast = forecastWindows({ predictor, windowSeconds: 60, horizonWindows: 1 }, workload, counts, minute * 60);
  return { workload, arrivalRate: [...forecast.arrivalRate[0]!] };
}
