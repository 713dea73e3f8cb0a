// The gateway as a process of its own, in front of emulated engines: streams that are cut again and again, kill -9 and
// restart without a controller, orderly and forced ends.
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import OpenAI from 'openai';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import type { StartedEngine } from '../../src/agent/index.ts';
import type { GatewayProcessOptions } from '../../src/cli/processes/gateway-options.ts';
import { type GatewayStatus, HEADER_OUTPUT_TOKENS, type RoutingUpdate } from '../../src/wire/index.ts';
import { startEmulatedEngine } from '../contract/emulated-engine.ts';
import { readStreamText, routingOf } from '../support/gateway-harness.ts';

const ENTRY = fileURLToPath(new URL('../../dist/cli/processes/gateway.js', import.meta.url));
const MODEL = 'llama3-8b';
const TOKEN = 'e2e-token';
/** A token takes half a real millisecond: streams live long enough to be cut several times. */
const SPEED = 20;

interface Started {
  readonly process: ChildProcess;
  readonly port: number;
  readonly adminPort: number;
  readonly url: string;
  readonly adminUrl: string;
  /** Exit code, or the signal's name. */
  readonly ended: Promise<number | string>;
}

const folder = mkdtempSync(join(tmpdir(), 'oserve-e2e-gateway-'));
const children = new Set<ChildProcess>();
let engines: StartedEngine[] = [];
const epochMs = Date.now();

function spawnGateway(options: Partial<GatewayProcessOptions> = {}) {
  const all: GatewayProcessOptions = { epochMs, speed: SPEED, token: TOKEN, port: 0, emulated: true, ...options };
  const child = fork(ENTRY, [], {
    env: { ...process.env, OSERVE_PROCESS_OPTIONS: JSON.stringify(all), OSERVE_LOG_LEVEL: 'error' },
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  });
  children.add(child);
  let errors = '';
  child.stderr?.on('data', (data: Buffer) => {
    errors += data.toString();
  });
  const ended = once(child, 'exit').then(([code, signal]) => (code ?? signal) as number | string);
  return { child, ended, errors: () => errors };
}

async function startGateway(options: Partial<GatewayProcessOptions> = {}): Promise<Started> {
  const { child, ended, errors } = spawnGateway(options);
  const [message] = await Promise.race([
    once(child, 'message'),
    ended.then((code) => Promise.reject(new Error(`the gateway ended with ${code}: ${errors()}`))),
  ]);
  return { process: child, ended, ...(message as Omit<Started, 'process' | 'ended'>) };
}

async function admin<T>(gateway: Started, method: string, path: string, body?: unknown): Promise<T> {
  const response = await fetch(`${gateway.adminUrl}/admin/v1${path}`, {
    method,
    headers: { authorization: `Bearer ${TOKEN}` },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  if (!response.ok) throw new Error(await response.text());
  return (await response.json()) as T;
}

const routing = (version: number): RoutingUpdate => ({
  ...routingOf(
    version,
    engines.map(({ url }, i) => ({
      id: `r${i}`,
      url,
      model: MODEL,
      classKey: `${MODEL}:TP1@H100-80GB`,
      gpuCount: 1,
      maxModelLen: 16384,
      kvTokens: 65536,
    })),
  ),
  workload: {
    version: 1,
    fittedToSeconds: 0,
    types: [
      { id: 't0', model: MODEL, inputTokens: 50, outputTokens: 400, logInput: 3.9, logOutput: 6, samples: [[50, 400]] },
    ],
    posteriorCounts: {},
  },
  assignment: {
    typeIds: ['t0'],
    classKeys: [`${MODEL}:TP1@H100-80GB`],
    share: [[1]],
    variant: { kind: 'plain' },
  },
});

async function streamOf(gateway: Started, api: 'chat' | 'completions', n: number, outputTokens: number) {
  const prompt = `Story ${n}, with “quotes” and 漢字.`;
  const response = await fetch(`${gateway.url}/v1/${api === 'chat' ? 'chat/completions' : 'completions'}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', [HEADER_OUTPUT_TOKENS]: String(outputTokens) },
    body: JSON.stringify({
      model: MODEL,
      ...(api === 'chat' ? { messages: [{ role: 'user', content: prompt }] } : { prompt }),
      max_tokens: 4096,
      stream: true,
      stream_options: { include_usage: true },
    }),
  });
  return readStreamText(await response.text());
}

/** Nothing runs or waits at any engine, by their own metrics. */
async function enginesAreIdle(): Promise<boolean> {
  const texts = await Promise.all(engines.map(async ({ url }) => (await fetch(`${url}/metrics`)).text()));
  return texts.every((text) => /^vllm:num_requests_running(\{.*\})? 0(\.0)?$/m.test(text));
}

const until = (condition: () => boolean | Promise<boolean>) =>
  vi.waitUntil(condition, { timeout: 60_000, interval: 10 });

beforeAll(async () => {
  engines = [await startEmulatedEngine({ speed: SPEED }), await startEmulatedEngine({ speed: SPEED })];
});
afterEach(async () => {
  for (const child of children) {
    if (child.exitCode === null && child.signalCode === null) {
      child.kill('SIGKILL');
      await once(child, 'exit');
    }
  }
  children.clear();
});
afterAll(async () => {
  for (const { close } of engines) await close();
  rmSync(folder, { recursive: true });
});

describe('the gateway process', () => {
  test('streams that are moved back and forth between emulated engines equal undisturbed ones', async () => {
    const gateway = await startGateway();
    let version = 1;
    await admin(gateway, 'PUT', '/routing', routing(version));
    const jobs = Array.from({ length: 12 }, (_, n) => ({
      api: n % 2 === 0 ? ('chat' as const) : ('completions' as const),
      n,
      outputTokens: 200 + 50 * n,
    }));
    const run = () => Promise.all(jobs.map(({ api, n, outputTokens }) => streamOf(gateway, api, n, outputTokens)));
    const undisturbed = await run();
    undisturbed.forEach((stream, n) => {
      expect(stream.usage?.completion_tokens).toBe(jobs[n]!.outputTokens);
    });

    let moved = 0;
    let over = false;
    const disturbed = run().finally(() => {
      over = true;
    });
    for (let i = 0; !over; i++) {
      const { movedCount } = await admin<{ movedCount: number }>(gateway, 'POST', `/replicas/r${i % 2}/evacuate`, {
        mode: 'cut',
      });
      moved += movedCount;
      version++;
      await admin(gateway, 'PUT', '/routing', routing(version));
    }
    const streams = await disturbed;
    expect(moved).toBeGreaterThan(jobs.length);
    streams.forEach((stream, n) => {
      expect(stream.errors).toEqual([]);
      expect(stream.text).toBe(undisturbed[n]!.text);
      expect(stream.usage).toEqual(undisturbed[n]!.usage);
      expect(stream.finishReasons).toEqual(undisturbed[n]!.finishReasons);
      expect(stream.doneCount).toBe(1);
      expect(new Set(stream.events.map((event) => event.id)).size).toBe(1);
    });
    await until(enginesAreIdle);
  });

  test('kill -9 frees the engines, and the next process serves at once on the last table, without a controller', async () => {
    const stateFile = join(folder, 'routing.json');
    const gateway = await startGateway({ stateFile });
    await admin(gateway, 'PUT', '/routing', routing(41));
    const broken = streamOf(gateway, 'chat', 1, 4000).then(
      () => 'whole',
      () => 'broken',
    );
    await until(async () => !(await enginesAreIdle()));
    gateway.process.kill('SIGKILL');
    expect(await broken).toBe('broken');
    await until(enginesAreIdle);

    const next = await startGateway({ stateFile, port: gateway.port, adminPort: gateway.adminPort });
    expect(await admin<GatewayStatus>(next, 'GET', '/status')).toMatchObject({ ready: true, routingVersion: 41 });
    const client = new OpenAI({ baseURL: `${next.url}/v1`, apiKey: 'none', maxRetries: 0 });
    const answer = await client.completions.create({ model: MODEL, prompt: 'Hello', max_tokens: 12 });
    expect(answer.usage?.completion_tokens).toBeGreaterThan(0);
  });

  test('SIGTERM lets a running stream end; the process exits with 0', async () => {
    const gateway = await startGateway();
    await admin(gateway, 'PUT', '/routing', routing(1));
    const stream = streamOf(gateway, 'completions', 5, 600);
    await until(async () => !(await enginesAreIdle()));
    gateway.process.kill('SIGTERM');
    expect((await stream).usage?.completion_tokens).toBe(600);
    expect(await gateway.ended).toBe(0);
  });

  test('a second SIGTERM forces, and a process without its parent ends by itself', async () => {
    const forced = await startGateway();
    await admin(forced, 'PUT', '/routing', routing(1));
    const broken = streamOf(forced, 'chat', 1, 4000).catch(() => 'broken');
    await until(async () => !(await enginesAreIdle()));
    forced.process.kill('SIGTERM');
    await until(async () => (await admin<GatewayStatus>(forced, 'GET', '/status')).ready === false);
    forced.process.kill('SIGTERM');
    expect(await forced.ended).toBe(1);
    expect(await broken).toBe('broken');

    const orphan = await startGateway();
    await admin(orphan, 'PUT', '/routing', routing(1));
    const cut = streamOf(orphan, 'chat', 1, 4000);
    await until(async () => !(await enginesAreIdle()));
    orphan.process.disconnect();
    expect((await cut).errors).toEqual([expect.objectContaining({ code: 'shutting_down' })]);
    expect(await orphan.ended).toBe(0);
    await until(enginesAreIdle);
  });

  test('a taken port is one clear sentence and a failing exit code', async () => {
    const first = await startGateway();
    const { ended, errors } = spawnGateway({ port: first.port });
    expect(await ended).toBe(1);
    expect(errors()).toContain(`Port ${first.port} on 127.0.0.1 is taken.`);
    expect(errors()).not.toContain('    at ');
  });
});
