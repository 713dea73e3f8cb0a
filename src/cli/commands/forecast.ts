// `oserve forecast`: how well each predictor would have forecast a series of counts.
import type { Command } from 'commander';
import { ConfigError, invariant } from '../../core/domain/index.ts';
import {
  evaluatePredictor,
  MOST_HORIZONS,
  PREDICTORS,
  type PredictorScore,
  predictorName,
} from '../../core/predict/index.ts';
import { readCounts } from '../../host/index.ts';
import { numberFlag } from '../options.ts';
import { formatTable } from '../table.ts';

interface ForecastFlags {
  readonly counts: string;
  readonly predictors: string;
  readonly horizon: string;
  readonly json?: true;
}

export function register(program: Command): void {
  program
    .command('forecast')
    .description('Compares predictors on counts per minute: nine tenths to learn from, the last tenth to score.')
    .requiredOption('--counts <file>', 'CSV minute,COLUMN... (.gz too); empty cells and missing minutes are gaps')
    .option('--predictors <names>', `comma-separated: ${PREDICTORS.join(', ')}`, PREDICTORS.join(','))
    .option('--horizon <minutes>', `how many minutes ahead is scored, 1..${MOST_HORIZONS}`, '1')
    .option('--json', 'print one JSON object and nothing else')
    .addHelpText(
      'after',
      `
rrmse           root mean squared error over mean count (0.1 = 10 %)
rrmseOverFloor  the same over 1/sqrt(mean count), the best possible for Poisson arrivals of known rate; 1 is perfect
pinball         mean of the pinball losses at the 0.5 and 0.9 quantiles, requests per minute
coverage        share of minutes that the 0.9 quantile covered
Each column is split by itself, over the minutes that it has; overall figures are means over the columns.

Example:
  $ oserve forecast --counts counts.csv.gz --predictors ewma,last-value`,
    )
    .action(forecast);
}

async function forecast(flags: ForecastFlags): Promise<void> {
  const names = flags.predictors.split(',').map((name) => predictorName(name.trim()));
  const horizon = numberFlag('--horizon', flags.horizon, 1, true) ?? 1;
  if (horizon > MOST_HORIZONS)
    throw new ConfigError(`--horizon is "${flags.horizon}"; expected a whole number of minutes, 1..${MOST_HORIZONS}.`);
  const { columns, counts, gapCells } = await readCounts(flags.counts);
  columns.forEach((column, j) => {
    const known = counts.filter((row) => !Number.isNaN(row[j]!)).length;
    if (known < 10)
      throw new ConfigError(
        `${flags.counts}: column ${column} has ${known} known minutes; 10 are needed to score it.`,
        {
          hint: 'Remove the column, or give a longer series.',
        },
      );
  });
  const scores = names.map((predictor) =>
    evaluatePredictor({
      predictor,
      types: columns,
      counts,
      windowSeconds: 60,
      horizon,
      clockSeconds: () => performance.now() / 1000,
    }),
  );
  if (flags.json) {
    const predictors = Object.fromEntries(names.map((name, i) => [name, scores[i]!]));
    process.stdout.write(`${JSON.stringify({ predictors })}\n`);
    return;
  }
  const gaps = gapCells > 0 ? `, ${gapCells} unknown cells` : '';
  process.stdout.write(`${flags.counts}: ${counts.length} minutes, columns ${columns.join(', ')}${gaps}\n\n`);
  process.stdout.write(`${table(names, columns, scores)}\n`);
}

function table(names: readonly string[], columns: readonly string[], scores: readonly PredictorScore[]): string {
  const percent = (ratio: number): string => (100 * ratio).toFixed(1);
  const rows = names.map((name, i) => {
    const score = scores[i];
    invariant(score, 'each predictor has a score');
    return [
      name,
      percent(score.rrmse),
      score.rrmseOverFloor.toFixed(2),
      score.pinball.toFixed(2),
      percent(score.coverage),
      (score.secondsPerPrediction * 1e6).toFixed(0),
      ...columns.map((column) => percent(score.byType[column]!.rrmse)),
    ];
  });
  const header = ['predictor', 'RRMSE %', '/ floor', 'pinball', 'coverage %', 'µs', ...columns.map((c) => `${c} %`)];
  return formatTable(header, rows);
}
