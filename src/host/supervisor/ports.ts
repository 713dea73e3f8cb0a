// Ports of a pool. Ports of children are chosen below the range that systems give to outgoing connections: a child that
// dies must find its port free when it comes back.
import { randomInt } from 'node:crypto';
import { createServer } from 'node:net';
import { ConfigError } from '../../core/domain/index.ts';

const FIRST = 20_000;
const LAST = 31_999;

/** Why nobody can listen there now, or null. */
function troubleWith(port: number, host: string): Promise<NodeJS.ErrnoException | null> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', resolve);
    server.listen({ port, host, exclusive: true }, () => server.close(() => resolve(null)));
  });
}

/**
 * Makes sure that one can listen on the port.
 *
 * @throws {@link ConfigError} naming the port.
 */
export async function assertPortFree(port: number, host: string, flag: string): Promise<void> {
  const trouble = await troubleWith(port, host);
  if (trouble === null) return;
  if (trouble.code === 'EADDRINUSE') {
    throw new ConfigError(`Port ${port} on ${host} is taken by another process.`, {
      hint: `Stop that process, or choose another port with ${flag}.`,
      cause: trouble,
    });
  }
  if (trouble.code === 'EACCES') {
    throw new ConfigError(`Port ${port} on ${host} needs more rights than this user has.`, {
      hint: `Choose a port from 1024 up with ${flag}.`,
      cause: trouble,
    });
  }
  throw new ConfigError(`Nobody can listen on port ${port} of ${host}: ${trouble.message}.`, { cause: trouble });
}

/** A port that is free now and that outgoing connections do not take later. */
export async function findFreePort(host: string, taken: ReadonlySet<number> = new Set()): Promise<number> {
  for (let attempt = 0; attempt < 200; attempt++) {
    const port = randomInt(FIRST, LAST + 1);
    if (!taken.has(port) && (await troubleWith(port, host)) === null) return port;
  }
  throw new ConfigError(`No free port found on ${host} between ${FIRST} and ${LAST}.`);
}
