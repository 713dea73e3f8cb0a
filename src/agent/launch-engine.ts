// The two ways to run an engine: in the agent's own process, or in a child that is asked over IPC.
import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { EngineError } from '../core/domain/index.ts';
import type { EngineCall, EngineMessage, LaunchEngine } from './engine-control.ts';
import { type EngineParts, startEngine } from './start-engine.ts';

/** Starts engines in this very process. */
export const launchShared =
  (parts: EngineParts): LaunchEngine =>
  async (options) => {
    const { url, control, close } = await startEngine(options, parts);
    return { ...control, url, pid: null, stop: close };
  };

/** After SIGTERM an engine has this long, real milliseconds, before it is killed. */
const STOP_GRACE_MS = 2000;

/**
 * Starts engines as child processes. They end when the IPC channel closes, so also when the agent is killed.
 *
 * @param entry - module to run; src/cli/processes/engine.ts, built, when left out.
 */
export function launchProcess(entry?: string): LaunchEngine {
  const file = entry ?? fileURLToPath(new URL('../cli/processes/engine.js', import.meta.url));
  return (options, gone) =>
    new Promise((resolve, reject) => {
      const child = fork(file, [], {
        env: { ...process.env, OSERVE_PROCESS_OPTIONS: JSON.stringify(options) },
        stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      });
      const pending = new Map<number, { resolve(value: unknown): void; reject(error: Error): void }>();
      let calls = 0;
      let state: 'starting' | 'running' | 'stopping' | 'ended' = 'starting';
      let failure = '';

      const ask = <T>(method: EngineCall['method'], value?: unknown) =>
        new Promise<T>((answer, refuse) => {
          if (state !== 'running') return refuse(new EngineError(`Engine ${options.id} does not run.`));
          calls += 1;
          pending.set(calls, { resolve: answer as (value: unknown) => void, reject: refuse });
          child.send({ call: calls, method, value } satisfies EngineCall, (error) => {
            if (error) refuse(new EngineError(`Engine ${options.id} cannot be reached.`, { cause: error }));
          });
        });

      const ended = new Promise<void>((end) => {
        const onEnd = (why: string) => {
          if (state === 'ended') return;
          const before = state;
          state = 'ended';
          const error = new EngineError(`Engine ${options.id} ended: ${failure || why}.`);
          for (const call of pending.values()) call.reject(error);
          pending.clear();
          end();
          if (before === 'starting') reject(error);
          if (before === 'running') gone(failure || why);
        };
        child.once('error', (error) => onEnd(error.message));
        child.once('exit', (code, signal) => onEnd(signal ? `killed by ${signal}` : `exit code ${code}`));
      });

      child.on('message', (message: EngineMessage) => {
        if (message.kind === 'ready') {
          state = 'running';
          resolve({
            url: message.url,
            pid: child.pid ?? null,
            load: () => ask('load'),
            setAdmitting: (admitting) => ask('setAdmitting', admitting),
            abortAll: () => ask('abortAll'),
            async stop() {
              if (state === 'ended') return;
              state = 'stopping';
              child.kill('SIGTERM');
              const kill = setTimeout(() => child.kill('SIGKILL'), STOP_GRACE_MS);
              await ended;
              clearTimeout(kill);
            },
          });
        } else if (message.kind === 'failed') {
          failure = message.message;
        } else {
          const call = pending.get(message.call);
          pending.delete(message.call);
          call?.resolve(message.value);
        }
      });
    });
}
