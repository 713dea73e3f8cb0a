// `oserve replay`: sends a trace to a server as its clients would, and says what they saw.
import type { Command } from 'commander';
import { readTrace, runTraffic, type TrafficProgress, type TrafficReport } from '../../host/index.ts';
import { numberFlag } from '../options.ts';
import { formatTable } from '../table.ts';

interface Flags {
  readonly url: string;
  readonly trace: string;
  readonly limit?: string;
  readonly seed: string;
  readonly json?: true;
}

export function register(program: Command): void {
  program
    .command('replay')
    .description('Sends the requests of a trace to a server when they are due, and checks that every answer is whole.')
    .requiredOption('--url <url>', 'base URL of an OpenAI-compatible server')
    .requiredOption('--trace <file>', 'trace file')
    .option('--limit <n>', 'only the first n requests')
    .option('--seed <n>', 'seed of prompts and of the clients’ limits', '1')
    .option('--json', 'print one JSON object and nothing else')
    .addHelpText(
      'after',
      `
Requests are sent when the trace says so, whatever has been answered by then. Against an emulated server time runs at
the server's speed, seconds are emulated seconds, and every token is checked: its model says which token must follow.
Against any other server time is real, and answers are made as long as in the trace. Turned away with 429 or 503, a
request is sent again at most twice, after the server's Retry-After. The exit code is 0 only if every answer was whole.

Example:
  $ oserve replay --url http://127.0.0.1:8080 --trace trace.csv.gz --limit 3000`,
    )
    .action(replay);
}

async function replay(flags: Flags): Promise<void> {
  const limit = numberFlag('--limit', flags.limit, 1, true);
  const trace = await readTrace(flags.trace, (note) => process.stderr.write(`note: ${note}\n`));
  const requests = limit === undefined ? trace : trace.slice(0, limit);
  const stop = new AbortController();
  const interrupt = () => stop.abort();
  process.once('SIGINT', interrupt);
  const bar = new ProgressBar(requests.length, process.stderr);
  let report: TrafficReport;
  try {
    report = await runTraffic({
      url: flags.url,
      requests,
      seed: numberFlag('--seed', flags.seed, 0, true)!,
      signal: stop.signal,
      onProgress: (progress) => bar.show(progress),
      onFault: (number, fault, message) => bar.note(`request ${number}: ${fault}${message ? `: ${message}` : ''}`),
    });
  } finally {
    bar.end();
    process.off('SIGINT', interrupt);
  }
  process.stdout.write(flags.json ? `${JSON.stringify(replayJson(report), null, 2)}\n` : renderReplay(report));
  if (report.completed < requests.length) process.exitCode = 1;
}

/** The shape of one policy of `oserve simulate --json`, plus `errors`. */
export function replayJson(report: TrafficReport) {
  const { switches, switchSeconds, wallSeconds, errors } = report;
  return { ...report.metrics, switches, switchSeconds, wallSeconds, errors };
}

const seconds = (value: number): string => (Number.isFinite(value) ? value.toFixed(value < 1 ? 3 : 2) : '∞');

export function renderReplay(report: TrafficReport): string {
  const { metrics, errors, retries, switches, switchSeconds, wallSeconds, latestSeconds, emulated, speed } = report;
  const lines: string[] = [];
  if (metrics) {
    const row = (name: string, { mean, p50, p90, p99 }: typeof metrics.e2eSeconds) => [
      name,
      ...[mean, p50, p90, p99].map(seconds),
    ];
    lines.push(
      formatTable(
        ['seconds', 'mean', 'p50', 'p90', 'p99'],
        [
          row('time to first token', metrics.ttftSeconds),
          row('per later token', metrics.tpotSeconds),
          row('whole answer', metrics.e2eSeconds),
        ],
      ),
      '',
      `requests   ${metrics.requests}: ${metrics.completed} whole, ${metrics.refused} refused, ${report.failed} failed, ${retries} sent again`,
      `output     ${metrics.outputTokensPerSecond.toFixed(1)} tokens/s, goodput ${metrics.goodput.toFixed(2)} requests/s`,
    );
  }
  const faults = Object.entries(errors).map(([kind, count]) => `${count} ${kind}`);
  lines.push(
    `errors     ${faults.length > 0 ? faults.join(', ') : 'none'}`,
    `switches   ${switches} seen, ${switchSeconds.toFixed(1)} s`,
    `clock      ${emulated ? `emulated, ${speed} seconds in one` : 'real'}; took ${wallSeconds.toFixed(1)} s, the latest request was sent ${(latestSeconds * 1000).toFixed(0)} ms late`,
    '',
  );
  return lines.join('\n');
}

const BAR_WIDTH = 30;
const FAULTS_SHOWN = 10;

/** One line on a terminal that is written over; in a log, a line for every tenth of the way. */
class ProgressBar {
  readonly #total: number;
  readonly #out: NodeJS.WriteStream;
  #lastMs = 0;
  #lastTenth = -1;
  #faults = 0;

  constructor(total: number, out: NodeJS.WriteStream) {
    this.#total = total;
    this.#out = out;
  }

  show({ sent, completed, refused, failed, open }: TrafficProgress): void {
    const share = this.#total === 0 ? 1 : (completed + refused + failed) / this.#total;
    const text = `${completed + refused + failed} of ${this.#total} answered, ${open} open, ${sent} sent, ${refused} refused, ${failed} failed`;
    const now = performance.now();
    if (this.#out.isTTY) {
      if (now - this.#lastMs < 100 && share < 1) return;
      this.#lastMs = now;
      const filled = Math.round(share * BAR_WIDTH);
      this.#out.write(`\r[${'#'.repeat(filled)}${'.'.repeat(BAR_WIDTH - filled)}] ${text}\x1b[K`);
      return;
    }
    const tenth = Math.floor(share * 10);
    if (tenth === this.#lastTenth) return;
    this.#lastTenth = tenth;
    this.#out.write(`${text}\n`);
  }

  note(text: string): void {
    this.#faults++;
    if (this.#faults > FAULTS_SHOWN) return;
    const more = this.#faults === FAULTS_SHOWN ? ' (more are only counted)' : '';
    this.#out.write(`${this.#out.isTTY ? '\r\x1b[K' : ''}${text}${more}\n`);
  }

  end(): void {
    if (this.#out.isTTY) this.#out.write('\n');
  }
}
