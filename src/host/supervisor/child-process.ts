// The other end: what every supervised process does. Options come from the environment, `ready` goes over IPC, and the
// process ends when its parent does, however the parent ended.
import { ConfigError } from '../../core/domain/index.ts';

/**
 * Options given by the parent, as they came; the caller checks them.
 *
 * @throws {@link ConfigError} when the process was not started by a supervisor.
 */
export function processOptions(): unknown {
  const text = process.env.OSERVE_PROCESS_OPTIONS;
  if (text === undefined) {
    throw new ConfigError('This process is started by `oserve up`, not by hand: OSERVE_PROCESS_OPTIONS is missing.');
  }
  return JSON.parse(text);
}

/** Tells the parent something; without a parent nobody hears it. */
export function tellParent(message: { readonly kind: string; readonly [key: string]: unknown }): void {
  if (process.connected) process.send?.(message, undefined, undefined, () => {}); // the parent may be gone: then we end
}

/** Calls back with what the parent tells this process. */
export function onParentMessage(listener: (message: { readonly kind: string }) => void): void {
  process.on('message', (message) => {
    if (typeof message === 'object' && message !== null && 'kind' in message) listener(message as { kind: string });
  });
}

/**
 * Ends the process when it is asked to (SIGTERM), or when its parent has gone.
 *
 * @param close - ends what has to be ended in order; at most `graceMs` are given to it.
 */
export function endWithParent(close: () => Promise<void>, graceMs = 5000): void {
  // The terminal may go before we do: a line that nobody can read any more is no reason to die.
  process.stdout.on('error', () => {});
  process.stderr.on('error', () => {});
  let ending = false;
  const end = (grace: number) => {
    if (ending) return;
    ending = true;
    setTimeout(() => process.exit(1), grace).unref();
    close().then(
      () => process.exit(0),
      (error) => {
        console.error(error);
        process.exit(1);
      },
    );
  };
  process.on('SIGTERM', () => end(graceMs));
  // Without a parent there is nobody left to finish for.
  process.on('disconnect', () => end(Math.min(graceMs, 1000)));
}
