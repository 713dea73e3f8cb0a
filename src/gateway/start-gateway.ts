// Opens the two ports and closes them again in order.
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { ConfigError } from '../core/domain/index.ts';
import { createAdminServer } from './admin-server.ts';
import { createDataServer } from './data-server.ts';
import { Gateway } from './gateway.ts';
import { GATEWAY_DEFAULTS, type GatewayOptions } from './options.ts';

export type GatewayStart = Omit<GatewayOptions, keyof typeof GATEWAY_DEFAULTS> & Partial<GatewayOptions>;

export interface RunningGateway {
  readonly port: number;
  readonly adminPort: number;
  readonly url: string;
  readonly adminUrl: string;
  /** For tests of structure; processes speak to the ports. */
  readonly dataServer: Server;
  /**
   * Not ready at once; running answers end by themselves until the deadline, then with an error; then everything closes.
   * A second call with a nearer deadline shortens it.
   */
  close(deadlineMs?: number): Promise<void>;
}

/**
 * Starts a gateway.
 *
 * @throws {@link ConfigError} when a port is taken.
 */
export async function startGateway(start: GatewayStart): Promise<RunningGateway> {
  const options: GatewayOptions = { ...GATEWAY_DEFAULTS, ...start };
  const gateway = new Gateway(options);
  await gateway.restore();
  const data = createDataServer(gateway);
  const admin = createAdminServer(gateway);
  try {
    await listen(data, options.port, options.host);
    await listen(admin, options.adminPort, '127.0.0.1');
  } catch (error) {
    data.close();
    await gateway.close();
    throw error;
  }
  const port = (data.address() as AddressInfo).port;
  const adminPort = (admin.address() as AddressInfo).port;
  const shownHost = options.host === '0.0.0.0' || options.host === '::' ? '127.0.0.1' : options.host;

  let closed: Promise<void> | null = null;
  return {
    port,
    adminPort,
    url: `http://${shownHost.includes(':') ? `[${shownHost}]` : shownHost}:${port}`,
    adminUrl: `http://127.0.0.1:${adminPort}`,
    dataServer: data,
    async close(deadlineMs = options.shutdownSeconds * 1000) {
      const drained = gateway.drain(deadlineMs);
      closed ??= (async () => {
        await drained;
        await Promise.all([closeServer(data), closeServer(admin)]);
        await gateway.close();
      })();
      // A nearer deadline ends the requests that the first call still waits for.
      await drained;
      await closed;
    },
  };
}

function listen(server: Server, port: number, host: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const why = error.code === 'EADDRINUSE' ? 'is taken' : `cannot be opened (${error.code})`;
      reject(
        new ConfigError(`Port ${port} on ${host} ${why}.`, {
          hint: 'Choose another with --port or gateway.port; 0 takes a free one.',
          cause: error,
        }),
      );
    });
    server.listen(port, host, () => resolve());
  });
}

/** Stops accepting and ends what is idle or finished; connections with a last answer on its way get a moment. */
async function closeServer(server: Server): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  server.closeIdleConnections();
  const last = setTimeout(() => server.closeAllConnections(), 500);
  await closed;
  clearTimeout(last);
}
