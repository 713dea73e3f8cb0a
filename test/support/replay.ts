// `oserve replay` as a process of its own, and what a gateway's metrics say about a run.
import { spawn } from 'node:child_process';
import { resolve } from 'node:path';
import type { Distribution, RunMetrics } from '../../src/core/domain/index.ts';

const BIN = resolve(import.meta.dirname, '../../bin/oserve.js');

/** What `oserve replay --json` prints. */
export interface ReplayJson extends RunMetrics {
  readonly switches: number;
  readonly switchSeconds: number;
  readonly wallSeconds: number;
  readonly errors: Readonly<Record<string, number>>;
}

export interface ReplayRun {
  readonly code: number | NodeJS.Signals;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs it to its end. Never rejects for what it answers. */
export function runReplay(args: readonly string[]): Promise<ReplayRun> {
  const child = spawn(process.execPath, [BIN, 'replay', ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  let [stdout, stderr] = ['', ''];
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  return new Promise((done, fail) => {
    child.once('error', fail);
    child.once('close', (code, signal) => done({ code: signal ?? code ?? -1, stdout, stderr }));
  });
}

export const isDistribution = (value: Distribution): boolean =>
  [value.mean, value.p50, value.p90, value.p99].every((seconds) => Number.isFinite(seconds) && seconds >= 0);

/** Sum of the samples of one Prometheus metric whose labels contain the given text. */
export async function metricOf(url: string, name: string, labels = ''): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text();
  const samples = text.split('\n').filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `));
  return samples.filter((line) => line.includes(labels)).reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0);
}
