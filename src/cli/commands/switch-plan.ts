// `oserve switch-plan`: how the pool would get from one deployment to another, with bytes, seconds and every step.
import type { Command } from 'commander';
import {
  type Cluster,
  DEFAULT_ENGINE_OPTIONS,
  DEFAULT_SWITCH_COSTS,
  formatDeployment,
  MODELS,
  modelByName,
  type PlacedReplica,
  parseDeployment,
  type SwitchPlan,
  strategyName,
  uniformCluster,
} from '../../core/domain/index.ts';
import { placeDeployment, planSwitch, schedule } from '../../core/switching/index.ts';
import { choiceFlag, numberFlag } from '../options.ts';
import { formatTable } from '../table.ts';

interface Flags {
  readonly from: string;
  readonly to: string;
  readonly model: string;
  readonly gpus: string;
  readonly planner: string;
  readonly json?: true;
}

const PLANNERS = ['greedy', 'optimal'] as const;
const GPU_KIND = 'H100-80GB';

export function register(program: Command): void {
  program
    .command('switch-plan')
    .description('Plans the change from one deployment to another: bytes by link, seconds, and the steps in order.')
    .requiredOption('--from <deployment>', 'what serves now, for example 4xTP8')
    .requiredOption('--to <deployment>', 'what shall serve, for example 8xTP4')
    .option('--model <name>', 'model of groups that name none', 'llama2-70b')
    .option('--gpus <n>', 'number of GPUs, in nodes of 8 H100', '16')
    .option('--planner <name>', `how sources of transfers are chosen: ${PLANNERS.join(', ')}`, 'greedy')
    .option('--json', 'print one JSON object and nothing else')
    .addHelpText(
      'after',
      `
Deployments are written [MODEL:]COUNTxTPa[PPb][@GPU], separated by commas. The old weights stay on their GPUs until the
new layout is filled from them; no layout is parked beforehand, so that new replicas are new processes.

Example:
  $ oserve switch-plan --from 4xTP8 --to 8xTP4 --model llama2-70b --gpus 32`,
    )
    .action((flags: Flags) => {
      const planner = choiceFlag('--planner', flags.planner, PLANNERS);
      const cluster = uniformCluster(numberFlag('--gpus', flags.gpus, 1, true)!, GPU_KIND);
      const defaults = { model: modelByName(flags.model).name, gpuKind: GPU_KIND };
      const read = (text: string) =>
        parseDeployment(text, defaults).map((group) => ({ ...group, model: modelByName(group.model).name }));
      const from = placeDeployment(cluster, [], read(flags.from), MODELS);
      const to = placeDeployment(cluster, from, read(flags.to), MODELS);
      const plan = planSwitch({
        id: 'switch-plan',
        cluster,
        models: MODELS,
        from,
        to,
        engine: DEFAULT_ENGINE_OPTIONS,
        costs: DEFAULT_SWITCH_COSTS,
        parkedLayouts: [],
        planner,
        oldWeightsLeave: 'after-fill',
      });
      process.stdout.write(flags.json ? renderSwitchJson(plan) : renderSwitch(plan, cluster, defaults));
    });
}

/** The contract that scripts rely on: `{bytes, seconds, lowerBoundSeconds, links, steps}`, nothing more. */
export function renderSwitchJson({ bytes, seconds, lowerBoundSeconds, links, steps }: SwitchPlan): string {
  const shown = {
    bytes,
    seconds,
    lowerBoundSeconds,
    links: links.map((link) => ({ from: link.from, to: link.to, bytes: link.bytes, seconds: link.seconds })),
    steps: steps.map((step) => ({ replica: step.replica, action: step.action, seconds: step.seconds })),
  };
  return `${JSON.stringify(shown, null, 2)}\n`;
}

const gb = (bytes: number): string => `${(bytes / 1e9).toFixed(1)} GB`;

/** `0-3`, `0,2,4-6` in rank order. */
export function gpuRanges(gpus: readonly number[]): string {
  const ranges: string[] = [];
  for (let i = 0; i < gpus.length; ) {
    let end = i;
    while (end + 1 < gpus.length && gpus[end + 1] === gpus[end]! + 1) end++;
    ranges.push(end === i ? `${gpus[i]}` : `${gpus[i]}-${gpus[end]}`);
    i = end + 1;
  }
  return ranges.join(',');
}

export function renderSwitch(
  plan: SwitchPlan,
  cluster: Cluster,
  defaults: { readonly model: string; readonly gpuKind: string },
): string {
  const times = schedule(plan.steps);
  const row = (replica: PlacedReplica, what: string): string[] => {
    const own = plan.steps.flatMap((step, i) => (step.replica === replica.id ? [{ step, ...times[i]! }] : []));
    const bytes = own.reduce((sum, { step }) => sum + step.bytes, 0);
    const model = replica.model === defaults.model ? '' : `${replica.model}:`;
    return [
      replica.id,
      `${model}${strategyName(replica.strategy)}`,
      gpuRanges(replica.gpus),
      what,
      own.length > 0 ? Math.min(...own.map(({ start }) => start)).toFixed(1) : '-',
      own.length > 0 ? Math.max(...own.map(({ end }) => end)).toFixed(1) : '-',
      bytes > 0 ? gb(bytes) : '-',
      own.map(({ step }) => `${step.action} ${step.seconds.toFixed(step.seconds < 1 ? 2 : 1)}`).join(' → ') || '-',
    ];
  };
  const kept = plan.to.filter(({ id }) => plan.kept.includes(id));
  const rows = [
    ...kept.map((replica) => row(replica, 'stays')),
    ...plan.leaving.map((replica) => row(replica, 'leaves')),
    ...plan.arriving.map(({ replica, rung }) => row(replica, rung)),
  ];
  const busiest = plan.links.reduce<SwitchPlan['links'][number] | null>(
    (most, link) => (most && most.seconds >= link.seconds ? most : link),
    null,
  );
  const title = (deployment: SwitchPlan['from']) =>
    formatDeployment(
      deployment.map(({ model, gpuKind, strategy }) => ({ model, gpuKind, strategy, count: 1 })),
      defaults,
    );
  const nodes = `${cluster.nodes.length} node${cluster.nodes.length === 1 ? '' : 's'}`;
  return [
    `${title(plan.from)} → ${title(plan.to)}, ${defaults.model}, ${nodes} of ${defaults.gpuKind}`,
    '',
    formatTable(['replica', 'layout', 'GPUs', 'way', 'from s', 'to s', 'moves', 'steps (seconds)'], rows),
    '',
    `bytes      ${gb(plan.bytes)} over ${plan.links.length} links${
      busiest ? `; longest ${busiest.from} → ${busiest.to}: ${gb(busiest.bytes)}, ${busiest.seconds.toFixed(3)} s` : ''
    }`,
    `seconds    ${plan.seconds.toFixed(1)} expected from the first drain to the last admit`,
    `transfers  ${plan.lowerBoundSeconds.toFixed(3)} s at least, if all were moved at once`,
    '',
  ].join('\n');
}
