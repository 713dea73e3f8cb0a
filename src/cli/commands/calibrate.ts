// `oserve calibrate`: fits the step-time profiles from measurements, or shows how far the profiles are from measured serving.
import type { Command } from 'commander';
import { gpuKind, nearestRank, replicaMemory, strategyName } from '../../core/domain/index.ts';
import {
  closedLoop,
  type FitReport,
  FittedStepTime,
  openLoop,
  type Profile,
  predictLoop,
} from '../../core/replica/index.ts';
import {
  calibrate,
  closedLoops,
  KERNEL_TABLE_GPUS,
  loadProfiles,
  type NamedLoop,
  offlineRuns,
  type ReferenceRun,
  type ReferenceThroughput,
  referenceCollectives,
  referenceRuns,
  referenceThroughputs,
  staticBatches,
  writeProfile,
} from '../../host/index.ts';

const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;

/** Aligned columns, Markdown, so that documents can take it as it is. */
function table(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  const line = (cells: readonly string[]) => `| ${cells.map((cell, i) => cell.padEnd(widths[i]!)).join(' | ')} |\n`;
  const [head, ...body] = rows;
  return line(head!) + line(widths.map((width) => '-'.repeat(width))) + body.map(line).join('');
}

function fitTable(fits: readonly FitReport[]): string {
  return table([
    ['part', 'rows', 'held out', 'median error', 'p90', 'held out: median', 'p90', 'bias'],
    ...fits.map((fit) => [
      fit.part,
      String(fit.fittedRows),
      String(fit.heldOutRows),
      percent(fit.medianError),
      percent(fit.p90Error),
      percent(fit.heldOutMedianError),
      percent(fit.heldOutP90Error),
      percent(fit.heldOutBias),
    ]),
  ]);
}

interface Comparison {
  readonly group: string;
  /** Simulated / measured − 1. */
  readonly ttft: number;
  readonly tpot: number;
  readonly rate: number;
}

function compare(profiles: readonly Profile[], loops: readonly NamedLoop[]): Comparison[] {
  return loops.flatMap((loop) => {
    const profile = profiles.find((candidate) => candidate.gpuKind === loop.replicaClass.gpuKind);
    if (profile === undefined) return [];
    const { tensorParallel } = loop.replicaClass.strategy;
    const predicted = predictLoop(profile, loop, Math.ceil(loop.requests / loop.concurrency));
    return [
      {
        group: `${loop.source}: ${loop.servingEngine}, ${loop.model.name}, ${profile.gpuKind} TP${tensorParallel}`,
        ttft: predicted.meanTtftSeconds / loop.ttftSeconds - 1,
        tpot: predicted.meanTpotSeconds / loop.tpotSeconds - 1,
        rate: loop.outputTokensPerSecond > 0 ? predicted.outputTokensPerSecond / loop.outputTokensPerSecond - 1 : NaN,
      },
    ];
  });
}

function median(values: readonly number[]): string {
  const sorted = values.filter((value) => Number.isFinite(value)).sort((a, b) => a - b);
  return sorted.length === 0 ? '-' : percent(sorted[Math.floor(sorted.length / 2)]!);
}

function comparisonTable(comparisons: readonly Comparison[]): string {
  const groups = [...new Set(comparisons.map(({ group }) => group))];
  return table([
    ['measured', 'rows', 'TTFT: median', 'TPOT: median', 'median error size', 'tokens/s: median', 'median error size'],
    ...groups.map((group) => {
      const rows = comparisons.filter((comparison) => comparison.group === group);
      return [
        group,
        String(rows.length),
        median(rows.map((row) => row.ttft)),
        median(rows.map((row) => row.tpot)),
        median(rows.map((row) => Math.abs(row.tpot))),
        median(rows.map((row) => row.rate)),
        median(rows.map((row) => Math.abs(row.rate))),
      ];
    }),
  ]);
}

/** A replica as the reference simulates it: without host overhead, with its own all-reduces. */
function asReference(profiles: readonly Profile[], run: ReferenceRun | ReferenceThroughput) {
  const { model, replicaClass, engine } = run;
  const profile = profiles.find((candidate) => candidate.gpuKind === replicaClass.gpuKind);
  if (profile === undefined) return null;
  const coefficients = {
    ...profile.coefficients,
    host: { stepSeconds: 0, sequenceSeconds: 0 },
    allReduce: referenceCollectives(profile.gpuKind),
  };
  return {
    stepTime: new FittedStepTime({ ...profile, coefficients }, model, replicaClass),
    pipelineParallel: replicaClass.strategy.pipelineParallel,
    kvBlocks: replicaMemory(model, replicaClass.strategy, gpuKind(replicaClass.gpuKind), engine).kvBlocks,
    engine,
  };
}

function referenceTable(profiles: readonly Profile[], runs: readonly ReferenceRun[]): string {
  const rows = runs.flatMap((run) => {
    const replica = asReference(profiles, run);
    if (replica === null) return [];
    const ours = openLoop({ ...replica, requests: run.requests });
    const tpot = (ttft: Float64Array, e2e: Float64Array) =>
      e2e.map((seconds, i) => (seconds - ttft[i]!) / Math.max(1, run.requests[i]!.outputTokens - 1));
    const error = (mine: Float64Array, theirs: Float64Array, share: number) =>
      percent(nearestRank(mine.toSorted(), share) / nearestRank(theirs.toSorted(), share) - 1);
    const pairs = [
      [ours.ttftSeconds, run.ttftSeconds],
      [tpot(ours.ttftSeconds, ours.e2eSeconds), tpot(run.ttftSeconds, run.e2eSeconds)],
      [ours.e2eSeconds, run.e2eSeconds],
    ] as const;
    return [[run.name, ...pairs.flatMap(([mine, theirs]) => [0.5, 0.9].map((share) => error(mine, theirs, share)))]];
  });
  return table([['vidur run', 'TTFT p50', 'p90', 'TPOT p50', 'p90', 'end to end p50', 'p90'], ...rows]);
}

function referenceThroughputTable(profiles: readonly Profile[], runs: readonly ReferenceThroughput[]): string {
  const rows = runs.flatMap((run) => {
    const replica = asReference(profiles, run);
    if (replica === null) return [];
    const { inputTokens, outputTokens, requests, replicaClass } = run;
    const ours = closedLoop({ ...replica, inputTokens, outputTokens, concurrency: requests, requests });
    return [
      [
        `${replicaClass.gpuKind} ${strategyName(replicaClass.strategy)}`,
        `${inputTokens} / ${outputTokens}`,
        run.outputTokensPerSecond.toFixed(0),
        ours.outputTokensPerSecond.toFixed(0),
        percent(ours.outputTokensPerSecond / run.outputTokensPerSecond - 1),
      ],
    ];
  });
  return table([['512 requests at once', 'input / output', 'vidur tokens/s', 'ours', 'difference'], ...rows]);
}

export function register(program: Command): void {
  program
    .command('calibrate')
    .description('fit the step-time profiles in data/profiles from measurements (OSERVE_DATA)')
    .option('--gpu <kinds>', 'kinds of GPU, separated by commas', KERNEL_TABLE_GPUS.join(','))
    .option('--compare', 'fit nothing: compare the profiles with measured serving and with another simulator')
    .option('--dry-run', 'print the fit, write no file')
    .addHelpText('after', '\nExample:\n  $ oserve calibrate --gpu H100-80GB --dry-run')
    .action((options: { gpu: string; compare?: boolean; dryRun?: boolean }) => {
      const kinds = options.gpu.split(',').map((name) => gpuKind(name.trim()).name);
      if (options.compare) {
        const profiles = loadProfiles().filter((profile) => kinds.includes(profile.gpuKind));
        const loops = [...closedLoops(), ...staticBatches(), ...offlineRuns()];
        process.stdout.write(`${comparisonTable(compare(profiles, loops))}\n`);
        process.stdout.write(`${referenceTable(profiles, referenceRuns())}\n`);
        process.stdout.write(referenceThroughputTable(profiles, referenceThroughputs()));
        return;
      }
      for (const profile of calibrate(kinds)) {
        const where = options.dryRun ? 'not written' : writeProfile(profile);
        process.stdout.write(`${profile.name}: ${where}\n\n${fitTable(profile.fits)}\n`);
      }
    });
}
