// `oserve trace stats | generate | fit`: look at a trace, make one, and fit the numbers that make one.
import { type Command, Option } from 'commander';
import { ConfigError, type FinishedRequest, type TraceRequest } from '../../core/domain/index.ts';
import { random } from '../../core/math/index.ts';
import { fitWorkload } from '../../core/workload/index.ts';
import {
  DEFAULT_FROM,
  DEFAULT_TO,
  fitService,
  formatTrace,
  generateTrace,
  type LengthStats,
  readTraceFile,
  SERVICES,
  type ServiceMix,
  serviceName,
  traceStats,
  writeTrace,
} from '../../host/index.ts';
import { numberFlag } from '../options.ts';
import { formatTable } from '../table.ts';

export function register(program: Command): void {
  const trace = program
    .command('trace')
    .description('Looks at traces and makes them.')
    .addHelpText('after', '\nExample:\n  $ oserve trace stats trace.csv.gz');
  registerStats(trace);
  registerGenerate(trace);
  registerFit(trace);
}

function registerStats(trace: Command): void {
  trace
    .command('stats')
    .description('Says what is in a trace: requests, rates, lengths, tenants and workload types.')
    .argument('<file>', 'trace: our CSV, Azure LLM CSV, BurstGPT CSV or Mooncake JSONL; plain or .gz')
    .option('--json', 'print one JSON object and nothing else')
    .addHelpText('after', '\nExample:\n  $ oserve trace stats trace.csv.gz')
    .action(async (file: string, flags: { json?: true }) => {
      const { format, requests, skippedRows, rowsOutOfOrder, notes } = await readTraceFile(file);
      const stats = traceStats(requests);
      const types = workloadTypes(requests);
      if (flags.json) print(JSON.stringify({ file, format, skippedRows, rowsOutOfOrder, ...stats, types }));
      else printStats(file, format, notes, stats, types);
    });
}

interface TypeRow {
  readonly share: number;
  readonly inputTokens: number;
  readonly outputTokens: number;
}

/** The types that the controller would see if all of this had just finished. */
function workloadTypes(requests: readonly TraceRequest[]): TypeRow[] {
  const step = Math.ceil(requests.length / 5000);
  const finished: FinishedRequest[] = requests
    .filter((_, i) => i % step === 0)
    .map((request) => ({
      arrivalSeconds: request.arrivalSeconds,
      model: '',
      inputTokens: request.inputTokens,
      maxTokens: request.outputTokens,
      outputTokens: request.outputTokens,
      finishedSeconds: request.arrivalSeconds,
      ttftSeconds: 0,
    }));
  const halfLifeSeconds = Number.POSITIVE_INFINITY;
  const model = fitWorkload({ finished, previous: null, random: random(1), options: { halfLifeSeconds } });
  const members = new Array<number>(model.types.length).fill(0);
  for (const counts of Object.values(model.posteriorCounts))
    counts.forEach((count, j) => {
      members[j] = (members[j] ?? 0) + count;
    });
  return model.types.map((type, j) => ({
    share: (members[j] ?? 0) / finished.length,
    inputTokens: type.inputTokens,
    outputTokens: type.outputTokens,
  }));
}

function printStats(
  file: string,
  format: string,
  notes: readonly string[],
  stats: ReturnType<typeof traceStats>,
  types: readonly TypeRow[],
): void {
  const perMinute = stats.requestsPerMinute;
  print(`${file} (${format})`);
  print(
    `${stats.requests} requests in ${(stats.spanSeconds / 60).toFixed(1)} minutes, ${stats.requestsPerSecond.toFixed(2)} requests/s; per minute ${perMinute.mean.toFixed(0)} on average, CV ${perMinute.cv.toFixed(2)}, at most ${perMinute.peak}\n`,
  );
  const lengths = (name: string, of: LengthStats): string[] => [
    name,
    ...[of.mean, of.p50, of.p90, of.p99, of.max].map((value) => value.toFixed(0)),
  ];
  print(
    formatTable(
      ['tokens', 'mean', 'p50', 'p90', 'p99', 'max'],
      [lengths('input', stats.inputTokens), lengths('output', stats.outputTokens)],
    ),
  );
  const row = (name: string, share: number, inputTokens: number, outputTokens: number): string[] => [
    name,
    (100 * share).toFixed(1),
    inputTokens.toFixed(0),
    outputTokens.toFixed(0),
  ];
  const header = ['requests %', 'mean input', 'mean output'];
  print(
    `\n${formatTable(
      ['workload type', ...header],
      types.map((type, j) => row(`${j}`, type.share, type.inputTokens, type.outputTokens)),
    )}`,
  );
  if (stats.tenants.length > 1) {
    const shown = stats.tenants.slice(0, 10);
    const rows = shown.map((t) => row(t.tenant, t.requests / stats.requests, t.inputTokens, t.outputTokens));
    print(`\n${formatTable(['tenant', ...header], rows)}`);
    if (stats.tenants.length > shown.length) print(`and ${stats.tenants.length - shown.length} more`);
  }
  for (const note of notes) print(`\nnote: ${note}`);
}

interface GenerateFlags {
  readonly minutes: number;
  readonly rate: number;
  readonly from: ServiceMix;
  readonly to: ServiceMix;
  readonly period: number;
  readonly variation: number;
  readonly seed: string;
  readonly output?: string;
}

function registerGenerate(trace: Command): void {
  const services = Object.keys(SERVICES).join(', ');
  trace
    .command('generate')
    .description('Makes a trace of services whose lengths and bursts are fitted to real ones, with a drifting mix.')
    .addOption(new Option('--minutes <n>', 'how long').default(60).argParser(numberOf('--minutes')))
    .addOption(
      new Option('--rate <n>', 'requests/s that a weight of 1 stands for').default(5).argParser(numberOf('--rate')),
    )
    .addOption(
      new Option('--from <mix>', `weights at the start, SERVICE=WEIGHT,...; services: ${services}`)
        .default(DEFAULT_FROM, mixText(DEFAULT_FROM))
        .argParser(mixFlag),
    )
    .addOption(
      new Option('--to <mix>', 'weights half a period later')
        .default(DEFAULT_TO, mixText(DEFAULT_TO))
        .argParser(mixFlag),
    )
    .addOption(
      new Option('--period <minutes>', 'from one mix to the other and back')
        .default(20)
        .argParser(numberOf('--period')),
    )
    .addOption(
      new Option('--variation <share>', 'share of the real wandering from minute to minute, 0 = steady Poisson')
        .default(1)
        .argParser(numberOf('--variation')),
    )
    .option('--seed <seed>', 'equal seeds make equal traces', '1')
    .option('--output <file>', 'write there (.gz compresses) instead of to standard output')
    .addHelpText(
      'after',
      '\nExample:\n  $ oserve trace generate --minutes 120 --rate 8 --from chat=1 --to code=1 --output drift.csv.gz',
    )
    .action(async (flags: GenerateFlags) => {
      const requests = generateTrace({
        minutes: flags.minutes,
        ratePerSecond: flags.rate,
        from: flags.from,
        to: flags.to,
        periodMinutes: flags.period,
        variation: flags.variation,
        seed: flags.seed,
      });
      if (flags.output === undefined) process.stdout.write(formatTrace(requests));
      else {
        await writeTrace(flags.output, requests);
        print(`${flags.output}: ${requests.length} requests in ${flags.minutes} minutes`);
      }
    });
}

function registerFit(trace: Command): void {
  trace
    .command('fit')
    .description('Fits the numbers that `generate` needs to a trace and prints them as JSON.')
    .argument('<file>', 'trace in any format that `stats` reads')
    .option('--tenant <name>', 'only the requests of this tenant')
    .addOption(
      new Option('--components <n>', 'log-normal components').default(6).argParser(numberOf('--components', 1, true)),
    )
    .option('--seed <seed>', 'equal seeds fit equally', '1')
    .addHelpText('after', '\nExample:\n  $ oserve trace fit azure2023_conv_50min.csv.gz --components 6')
    .action(async (file: string, flags: { tenant?: string; components: number; seed: string }) => {
      const { requests, notes } = await readTraceFile(file);
      for (const note of notes) process.stderr.write(`note: ${note}\n`);
      const members = requests.filter((request) => flags.tenant === undefined || request.tenant === flags.tenant);
      if (members.length === 0)
        throw new ConfigError(`${file} has no request of tenant "${flags.tenant}".`, {
          hint: '`oserve trace stats` lists the tenants.',
        });
      print(JSON.stringify(fitService(file, members, flags.components, random(flags.seed).fork('fit')), null, 2));
    });
}

const print = (text: string): void => {
  process.stdout.write(`${text}\n`);
};

const numberOf =
  (flag: string, least = 0, whole = false) =>
  (text: string): number =>
    numberFlag(flag, text, least, whole) ?? least;

/** `chat=1,code=0.5` */
function mixFlag(text: string): ServiceMix {
  const mix: Partial<Record<ReturnType<typeof serviceName>, number>> = {};
  for (const part of text.split(',')) {
    const [name = '', weight = ''] = part.split('=').map((side) => side.trim());
    mix[serviceName(name)] = numberOf(`The weight of ${name}`)(weight);
  }
  return mix;
}

const mixText = (mix: ServiceMix): string =>
  Object.entries(mix)
    .map(([name, weight]) => `${name}=${weight}`)
    .join(',');
