// One supervised process: started with its options in the environment and an IPC channel whose end is its own end,
// restarted with growing pauses when it dies, asked to stop by SIGTERM and ended by SIGKILL when it does not.
import { type ChildProcess, fork } from 'node:child_process';
import { EngineError } from '../../core/domain/index.ts';

export interface ChildSpec {
  /** Shown in logs and in the process list: `gateway`, `agent-0`. */
  readonly name: string;
  /** Compiled module to run. */
  readonly modulePath: string;
  /** Travels as JSON in OSERVE_PROCESS_OPTIONS. */
  readonly options: unknown;
  readonly environment?: Readonly<Record<string, string>>;
  /** How long it may take to stop once asked, real milliseconds. */
  readonly stopMs?: number;
  /** `always`: whatever its exit code. `on-failure`: it may end by itself with code 0. */
  readonly restart?: 'always' | 'on-failure';
}

/** What every process says once it listens; the rest is its own. */
export interface ReadyMessage {
  readonly kind: 'ready';
  readonly [key: string]: unknown;
}

export type ChildEvent =
  | { readonly kind: 'started'; readonly pid: number }
  | { readonly kind: 'ready'; readonly pid: number; readonly message: ReadyMessage }
  | { readonly kind: 'message'; readonly message: { readonly kind: string; readonly [key: string]: unknown } }
  | { readonly kind: 'died'; readonly how: string; readonly restartMs: number }
  | { readonly kind: 'ended' };

const FIRST_PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 5000;
/** Up for so long, its next death counts as the first again. */
const STEADY_MS = 20_000;

export class SupervisedChild {
  readonly spec: Required<ChildSpec>;
  readonly #onEvent: (event: ChildEvent) => void;
  #process: ChildProcess | null = null;
  #restartTimer: NodeJS.Timeout | null = null;
  #stopping = false;
  #everReady = false;
  #deaths = 0;

  constructor(spec: ChildSpec, onEvent: (event: ChildEvent) => void) {
    this.spec = { environment: {}, stopMs: 5000, restart: 'always', ...spec };
    this.#onEvent = onEvent;
  }

  get pid(): number | null {
    return this.#process?.pid ?? null;
  }

  /**
   * Resolves with the child's first ready message.
   *
   * @throws {@link EngineError} when it ends before that.
   */
  start(): Promise<ReadyMessage> {
    return new Promise((resolve, reject) => this.#spawn(resolve, reject));
  }

  /** Tells it something; one that does not run does not hear it. */
  tell(message: { readonly kind: string }): void {
    if (this.#process?.connected) this.#process.send(message, () => {});
  }

  /** Asks it to end, waits `stopMs`, then ends it. Resolves when it is gone. */
  async stop(): Promise<void> {
    this.#stopping = true;
    if (this.#restartTimer) clearTimeout(this.#restartTimer);
    const child = this.#process;
    if (!child) return;
    const gone = new Promise<void>((resolve) => child.once('exit', () => resolve()));
    child.kill('SIGTERM');
    const force = setTimeout(() => this.kill(), this.spec.stopMs);
    await gone;
    clearTimeout(force);
  }

  /** Ends it and whatever it started, at once. */
  kill(): void {
    this.#stopping = true;
    if (this.#restartTimer) clearTimeout(this.#restartTimer);
    const pid = this.#process?.pid;
    if (pid === undefined) return;
    try {
      process.kill(-pid, 'SIGKILL'); // its own process group: engines of an agent are in it
    } catch {
      this.#process?.kill('SIGKILL'); // the group is gone, or there are none on this system
    }
  }

  #spawn(onReady: (message: ReadyMessage) => void, onFailure: (error: Error) => void): void {
    const { name, modulePath, options, environment, restart } = this.spec;
    const startedMs = performance.now();
    const child = fork(modulePath, [name], {
      // A session of its own: Ctrl-C in the terminal reaches the supervisor alone, which ends the others in order.
      detached: true,
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      env: { ...process.env, ...environment, OSERVE_PROCESS_OPTIONS: JSON.stringify(options) },
    });
    this.#process = child;
    if (child.pid !== undefined) this.#onEvent({ kind: 'started', pid: child.pid });
    child.on('message', (message) => {
      if (typeof message !== 'object' || message === null || !('kind' in message)) return;
      const said = message as { kind: string; [key: string]: unknown };
      if (said.kind === 'ready' && child.pid !== undefined) {
        this.#everReady = true;
        this.#onEvent({ kind: 'ready', pid: child.pid, message: said as ReadyMessage });
        onReady(said as ReadyMessage);
      } else this.#onEvent({ kind: 'message', message: said });
    });
    let over = false;
    const end = (how: string, code: number | null) => {
      if (over) return;
      over = true;
      this.#process = null;
      if (this.#stopping || (restart === 'on-failure' && code === 0)) {
        this.#onEvent({ kind: 'ended' });
        onFailure(new EngineError(`${name} was stopped before it was ready.`));
        return;
      }
      if (!this.#everReady) {
        onFailure(new EngineError(`${name} did not start: ${how}.`, { hint: 'Its own message is above.' }));
        return;
      }
      this.#deaths = performance.now() - startedMs > STEADY_MS ? 0 : this.#deaths;
      const restartMs = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** this.#deaths++);
      this.#onEvent({ kind: 'died', how, restartMs });
      // A child that had been ready once is tried for ever; nobody waits for it.
      this.#restartTimer = setTimeout(
        () =>
          this.#spawn(
            () => {},
            () => {},
          ),
        restartMs,
      );
    };
    child.on('error', (error) => end(error.message, null));
    child.on('exit', (code, signal) => end(signal ? `signal ${signal}` : `exit code ${code}`, code));
  }
}
