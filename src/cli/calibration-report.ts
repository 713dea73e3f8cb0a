// The tables that `oserve calibrate` prints: errors of a fit, and profiles against measurements and another simulator.
import {
  DEFAULT_ENGINE_OPTIONS,
  gpuKind,
  modelByName,
  nearestRank,
  replicaMemory,
  type Strategy,
  strategyName,
} from '../core/domain/index.ts';
import {
  closedLoop,
  type FitReport,
  FittedStepTime,
  openLoop,
  type Profile,
  predictLoop,
  serviceRate,
} from '../core/replica/index.ts';
import { type NamedLoop, type ReferenceRun, type ReferenceThroughput, referenceCollectives } from '../host/index.ts';

const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;

/** Aligned columns, Markdown, so that documents can take it as it is. */
function table(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  const line = (cells: readonly string[]) => `| ${cells.map((cell, i) => cell.padEnd(widths[i]!)).join(' | ')} |\n`;
  const [head, ...body] = rows;
  return line(head!) + line(widths.map((width) => '-'.repeat(width))) + body.map(line).join('');
}

/** Errors of one profile's fit. */
export function fitTable(fits: readonly FitReport[]): string {
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

export function compare(profiles: readonly Profile[], loops: readonly NamedLoop[]): Comparison[] {
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

/** Simulated against measured, by source, engine, model and layout. */
export function comparisonTable(comparisons: readonly Comparison[]): string {
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

/** Percentiles of vidur's runs against ours. */
export function referenceTable(profiles: readonly Profile[], runs: readonly ReferenceRun[]): string {
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

export function referenceThroughputTable(profiles: readonly Profile[], runs: readonly ReferenceThroughput[]): string {
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

const CROSSOVER_SHAPES = [
  [2048, 128],
  [4096, 64],
  [512, 256],
  [256, 1024],
] as const;
const EIGHT_GPUS: readonly Strategy[] = [
  { tensorParallel: 8, pipelineParallel: 1 },
  { tensorParallel: 4, pipelineParallel: 2 },
  { tensorParallel: 2, pipelineParallel: 4 },
];
const CROSSOVER_REQUESTS = 600;

/** Requests/s of LLaMA2-70B on one replica of eight GPUs: which layout is best depends on the lengths. */
export function crossoverTable(profiles: readonly Profile[]): string {
  const model = modelByName('llama2-70b');
  const engine = DEFAULT_ENGINE_OPTIONS;
  const rows = profiles.flatMap((profile) =>
    CROSSOVER_SHAPES.map(([inputTokens, outputTokens]) => {
      const cells = EIGHT_GPUS.map((strategy) => {
        const replicaClass = { model: model.name, gpuKind: profile.gpuKind, strategy };
        const stepTime = new FittedStepTime(profile, model, replicaClass);
        const closed = serviceRate({ model, replicaClass, engine, stepTime, inputTokens, outputTokens });
        const simulated = closedLoop({
          stepTime,
          pipelineParallel: strategy.pipelineParallel,
          kvBlocks: replicaMemory(model, strategy, gpuKind(profile.gpuKind), engine).kvBlocks,
          engine,
          inputTokens,
          outputTokens,
          concurrency: CROSSOVER_REQUESTS,
          requests: CROSSOVER_REQUESTS,
        });
        return `${closed.toFixed(2)} / ${simulated.requestsPerSecond.toFixed(2)}`;
      });
      return [profile.gpuKind, `${inputTokens} / ${outputTokens}`, ...cells];
    }),
  );
  return table([['closed form / simulated, requests/s', 'input / output', ...EIGHT_GPUS.map(strategyName)], ...rows]);
}
