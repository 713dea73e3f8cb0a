// What all benchmarks share: `--quick`, warm-up and repeats, a table for people and a JSON file for the tables in docs.
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';

/** `npm run bench -- --quick`: fewer repeats and smaller inputs, to see that everything still runs. */
export const quick = process.argv.includes('--quick');

/** Median, and the smallest and largest of some numbers. */
export function spreadOf(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const median = sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
  return { median, min: sorted[0], max: sorted.at(-1) };
}

/**
 * Times a function: once to warm up, then `repeats` times.
 *
 * @param run - its result is kept, so that no engine can leave the work out.
 * @returns milliseconds (median, min, max) and the last result.
 */
export async function time(run, { repeats = quick ? 3 : 9, warmUps = 1 } = {}) {
  let result;
  for (let i = 0; i < warmUps; i++) result = await run();
  const milliseconds = [];
  for (let i = 0; i < repeats; i++) {
    const start = performance.now();
    result = await run();
    milliseconds.push(performance.now() - start);
  }
  return { ...spreadOf(milliseconds), result };
}

/** Prints rows of one shape as an aligned table; numbers are cut to four digits. */
export function printTable(rows) {
  if (rows.length === 0) throw new Error('A benchmark gave no rows.');
  const text = (value) =>
    typeof value === 'number' && !Number.isInteger(value) ? String(Number(value.toPrecision(4))) : String(value);
  const heads = Object.keys(rows[0]);
  const cells = [heads, ...rows.map((row) => heads.map((head) => text(row[head])))];
  const widths = heads.map((_, column) => Math.max(...cells.map((row) => row[column].length)));
  for (const row of cells) console.log(row.map((cell, column) => cell.padStart(widths[column])).join('  '));
}

function commitOf() {
  try {
    return execFileSync('git', ['rev-parse', '--short', 'HEAD'], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    }).trim();
  } catch {
    return 'unknown';
  }
}

/**
 * Prints the table of one benchmark and keeps it in bench/results/NAME.json.
 *
 * @param question - what the benchmark answers, one sentence.
 */
export function report({ name, question, seed, rows }) {
  console.log(`\n${name}: ${question}`);
  printTable(rows);
  const folder = new URL('../results/', import.meta.url);
  mkdirSync(folder, { recursive: true });
  const result = {
    name,
    question,
    seed,
    quick,
    commit: commitOf(),
    node: process.version,
    cpu: `${cpus().length} × ${cpus()[0]?.model ?? 'unknown'}`,
    rows,
  };
  writeFileSync(new URL(`${name}.json`, folder), `${JSON.stringify(result, null, 2)}\n`);
}
