import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { EngineError } from '../../core/domain/index.ts';
import { FleetClient, GatewayAdminClient, JsonClient, RefusedError, UnreachableError } from './index.ts';

const servers: Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    server.close();
  }
});

async function serve(listener: RequestListener): Promise<string> {
  const server = createServer(listener);
  servers.push(server);
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

const client = (baseUrl: string) => new JsonClient({ baseUrl, token: 'secret', name: 'agent 0', timeoutMs: 2000 });
const get = { method: 'GET', path: '/x', answer: z.object({ n: z.number() }) } as const;

describe('the three ways in which a call fails', () => {
  test('nobody listens: unreachable, and the process is gone', async () => {
    const url = await serve(() => {});
    servers[0]!.close();
    const error = await client(url)
      .call(get)
      .catch((caught) => caught);
    expect(error).toBeInstanceOf(UnreachableError);
    expect(error.processGone).toBe(true);
  });

  test('the connection breaks in the middle of an answer: unreachable, and the process is gone', async () => {
    const url = await serve((_req, res) => {
      res.write('{"n":');
      setImmediate(() => res.destroy());
    });
    const error = await client(url)
      .call(get)
      .catch((caught) => caught);
    expect(error).toBeInstanceOf(UnreachableError);
    expect(error.processGone).toBe(true);
  });

  test('no answer in time: unreachable, but perhaps only slow', async () => {
    const url = await serve(() => {});
    const error = await client(url)
      .call({ ...get, timeoutMs: 30 })
      .catch((caught) => caught);
    expect(error).toBeInstanceOf(UnreachableError);
    expect(error.processGone).toBe(false);
  });

  test('an error body: refused, with its status, code and sentence', async () => {
    const body = { error: { message: 'GPU 3 is lost.', type: 'agent_error', param: null, code: 'gpu_lost' } };
    const url = await serve((_req, res) => res.writeHead(409).end(JSON.stringify(body)));
    const error = await client(url)
      .call(get)
      .catch((caught) => caught);
    expect(error).toBeInstanceOf(RefusedError);
    expect([error.status, error.answerCode]).toEqual([409, 'gpu_lost']);
    expect(error.message).toContain('GPU 3 is lost.');
  });

  test('an answer outside the protocol names the field', async () => {
    const url = await serve((_req, res) => res.end('{"n":"seven"}'));
    const error = await client(url)
      .call(get)
      .catch((caught) => caught);
    expect(error).toBeInstanceOf(EngineError);
    expect(error).not.toBeInstanceOf(UnreachableError);
    expect(error.message).toContain('agent 0: GET /x answered outside the protocol: n:');
  });
});

test('every call carries the token; ids are safe in paths', async () => {
  const seen: string[] = [];
  const url = await serve((req, res) => {
    seen.push(`${req.method} ${req.url} ${req.headers.authorization}`);
    res.writeHead(404).end();
  });
  await new FleetClient({ baseUrl: url, token: 'secret', name: 'agent 0' }).tell('a/b', 'wake').catch(() => {});
  await new GatewayAdminClient({ baseUrl: url, token: 'secret' }).evacuate('a/b', 'cut').catch(() => {});
  await new GatewayAdminClient({ baseUrl: url, token: 'secret' }).observation(7, 'x y').catch(() => {});
  expect(seen).toEqual([
    'POST /fleet/v1/engines/a%2Fb/wake Bearer secret',
    'POST /admin/v1/replicas/a%2Fb/evacuate Bearer secret',
    'GET /admin/v1/observation?after=7&incarnation=x%20y Bearer secret',
  ]);
});
