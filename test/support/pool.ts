// Starts a real pool (`oserve up`) for a test, in a folder and on ports of its own, finds its processes, and leaves none
// of them behind, whatever the test did. Processes are found by a variable that all of a pool's processes carry in their
// environment, so also those whose parent was killed.
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { FleetClient, GatewayAdminClient, type PoolState, readPoolState } from '../../src/host/index.ts';
import type { EngineInfo } from '../../src/wire/index.ts';

const BIN = resolve(import.meta.dirname, '../../bin/oserve.js');

export interface PoolProcess {
  readonly pid: number;
  /** `agent`, `engine`, `gateway`, `controller`, `traffic`. */
  readonly kind: string;
  /** What its parent told it. */
  readonly options: Readonly<Record<string, unknown>>;
}

export interface StartPoolOptions {
  /** Written to a file and passed with --config; a text is the path of a file that exists. */
  readonly config: object | string;
  readonly args?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
}

const pools = new Set<TestPool>();

/** Ends every pool that the test file started and waits until nothing of them is left; for `afterAll`. */
export async function endAllPools(): Promise<void> {
  for (const pool of [...pools]) await pool.destroy();
}

export class TestPool {
  readonly directory: string;
  readonly supervisor: ChildProcess;
  /** Resolves with exit code or signal of the supervisor. */
  readonly ended: Promise<number | NodeJS.Signals>;
  #output = '';
  #hasEnded = false;
  #poolId: string | null = null;

  constructor({ config, args = [], environment = {} }: StartPoolOptions) {
    this.directory = mkdtempSync(join(tmpdir(), 'oserve-test-'));
    const file = typeof config === 'string' ? config : join(this.directory, 'pool.yaml');
    if (typeof config !== 'string') writeFileSync(file, JSON.stringify(config)); // JSON is YAML
    this.supervisor = spawn(process.execPath, [BIN, 'up', '--config', file, ...args], {
      cwd: this.directory,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...environment },
    });
    for (const stream of [this.supervisor.stdout, this.supervisor.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => {
        this.#output += text;
      });
    }
    this.ended = new Promise((done) => {
      this.supervisor.once('exit', (code, signal) => {
        this.#hasEnded = true;
        done(signal ?? code ?? -1);
      });
    });
    pools.add(this);
  }

  /** All that the pool wrote to stdout and stderr so far. */
  get output(): string {
    return this.#output;
  }

  get stateDirectory(): string {
    return join(this.directory, '.oserve');
  }

  get state(): PoolState {
    const state = readPoolState(this.stateDirectory);
    if (!state) throw new Error(`The pool has written no state yet. Output:\n${this.#output}`);
    this.#poolId = state.poolId;
    return state;
  }

  get url(): string {
    return this.state.url;
  }

  /** Waits until the pool has said that it serves. */
  async up(timeoutSeconds = 90): Promise<this> {
    await this.until(() => this.#output.includes('serving at '), 'the pool serves', timeoutSeconds);
    return this;
  }

  /** Waits for a condition; fails with the pool's output when it does not come true. */
  async until(condition: () => boolean | Promise<boolean>, what: string, timeoutSeconds = 60): Promise<void> {
    const deadline = performance.now() + timeoutSeconds * 1000;
    for (;;) {
      if (await holds(condition)) return;
      if (performance.now() > deadline) throw new Error(`Waited in vain until ${what}. Output:\n${this.#output}`);
      if (this.#hasEnded && !what.includes('end')) {
        await pause(50);
        if (await holds(condition)) return;
        throw new Error(`The pool ended before ${what}. Output:\n${this.#output}`);
      }
      await pause(50);
    }
  }

  /** Its processes that live now, without the supervisor. */
  processes(kind?: string): PoolProcess[] {
    const poolId = this.#poolId ?? readPoolState(this.stateDirectory)?.poolId;
    if (poolId === undefined) return [];
    this.#poolId = poolId;
    return processesWith('OSERVE_POOL_ID', poolId).filter((each) => kind === undefined || each.kind === kind);
  }

  pidOf(name: string): number {
    const found = this.state.processes.find((each) => each.name === name);
    if (!found?.pid) throw new Error(`${name} does not run`);
    return found.pid;
  }

  /** kill -9, and nothing else. */
  kill(pid: number): void {
    process.kill(pid, 'SIGKILL');
  }

  get token(): string {
    const [gateway] = this.processes('gateway');
    return String(gateway?.options.token);
  }

  /** What the agents that answer say about their engines. */
  async engines(): Promise<EngineInfo[]> {
    const { token } = this;
    const inventories = await Promise.all(
      this.state.agents.map(async ({ name, url }) => {
        const client = new FleetClient({ name, baseUrl: url, token });
        try {
          return (await client.inventory()).engines;
        } catch {
          return [];
        } finally {
          await client.close();
        }
      }),
    );
    return inventories.flat();
  }

  /** GPUs under replicas that serve and that the gateway may use, sorted. */
  async servingGpus(): Promise<number[]> {
    const engines = await this.engines();
    const serving = engines.filter((engine) => engine.state === 'serving');
    return serving.flatMap((engine) => engine.gpus).sort((a, b) => a - b);
  }

  async admin<T>(use: (gateway: GatewayAdminClient) => Promise<T>): Promise<T> {
    const client = new GatewayAdminClient({ baseUrl: this.state.adminUrl, token: this.token });
    try {
      return await use(client);
    } finally {
      await client.close();
    }
  }

  /** Asks for an orderly end, as Ctrl-C does. */
  interrupt(signal: NodeJS.Signals = 'SIGINT'): Promise<number | NodeJS.Signals> {
    this.supervisor.kill(signal);
    return this.ended;
  }

  /** Ends what is left, by force, and removes the folder. */
  async destroy(): Promise<void> {
    pools.delete(this);
    this.processes(); // learns the pool's id while its state file is there
    if (!this.#hasEnded) this.supervisor.kill('SIGKILL');
    await this.ended;
    for (let attempt = 0; attempt < 100; attempt++) {
      const left = this.processes();
      if (left.length === 0) break;
      for (const { pid } of left) {
        try {
          process.kill(pid, 'SIGKILL');
        } catch {
          // It ended by itself in the meantime.
        }
      }
      await pause(50);
    }
    rmSync(this.directory, { recursive: true, force: true });
  }
}

export const startPool = (options: StartPoolOptions): Promise<TestPool> => new TestPool(options).up();

export const pause = (ms: number): Promise<void> => new Promise((resolvePause) => setTimeout(resolvePause, ms));

/** Processes of this machine whose environment has the variable with this value. */
export function processesWith(variable: string, value: string): PoolProcess[] {
  const found: PoolProcess[] = [];
  for (const entry of readdirSync('/proc')) {
    const pid = Number(entry);
    if (!Number.isInteger(pid) || pid === process.pid) continue;
    try {
      const environment = readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0');
      if (!environment.includes(`${variable}=${value}`)) continue;
      const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8');
      const text = environment.find((each) => each.startsWith('OSERVE_PROCESS_OPTIONS='));
      found.push({
        pid,
        kind: /processes\/([a-z-]+)\.js/.exec(command)?.[1] ?? 'other',
        options: text ? JSON.parse(text.slice('OSERVE_PROCESS_OPTIONS='.length)) : {},
      });
    } catch {
      // It ended while we looked, or belongs to another user: not ours.
    }
  }
  return found;
}

/** A condition that cannot be looked at yet does not hold. */
async function holds(condition: () => boolean | Promise<boolean>): Promise<boolean> {
  try {
    return await condition();
  } catch {
    return false;
  }
}

/** Nobody listens there any more. */
export async function isPortFree(url: string): Promise<boolean> {
  try {
    await fetch(url, { signal: AbortSignal.timeout(1000) });
    return false;
  } catch (error) {
    return (error as { cause?: { code?: string } }).cause?.code === 'ECONNREFUSED';
  }
}
