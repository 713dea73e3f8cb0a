// Process of the gateway. On SIGTERM it is not ready any more, lets running answers end up to a deadline, and exits; a
// second SIGTERM forces. Without its parent it ends at once, since the engines end too.
import { z } from 'zod';
import { makeRequestRouter, RequestRouter } from '../../core/control/index.ts';
import { startGateway } from '../../gateway/index.ts';
import { createLogger, endWithParent, PoolClock, processOptions, tellParent } from '../../host/index.ts';
import type { GatewayProcessOptions } from './gateway-options.ts';

/** Time after the deadline for the last bytes and files, real ms. */
const CLOSING_MS = 2000;
/** Deadline for running answers when the parent has gone, real ms. */
const ORPHAN_DEADLINE_MS = 300;

/** What must be there; the rest has defaults and was checked as configuration. */
const required = z.looseObject({
  token: z.string().min(1),
  epochMs: z.number(),
  speed: z.number().positive(),
});

try {
  const { epochMs, speed, ...options } = required.parse(processOptions()) as GatewayProcessOptions;
  const gateway = await startGateway({
    ...options,
    clock: new PoolClock({ epochMs, speed }),
    makeRouter: (table, replicas, previous) =>
      makeRequestRouter(table, replicas, previous instanceof RequestRouter ? previous : undefined),
    log: createLogger({ name: 'gateway' }),
  });
  let signals = 0;
  process.on('SIGTERM', () => {
    signals += 1;
    if (signals > 1) process.exit(1);
  });
  process.on('disconnect', () => void gateway.close(ORPHAN_DEADLINE_MS));
  endWithParent(() => gateway.close(), (options.shutdownSeconds ?? 30) * 1000 + CLOSING_MS);
  const { port, adminPort, url, adminUrl } = gateway;
  tellParent({ kind: 'ready', port, adminPort, url, adminUrl });
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
  process.disconnect?.();
}
