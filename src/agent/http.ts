// What the two small HTTP servers of this folder (engine and agent) share: bodies in, JSON out, errors, start and stop.
import { once } from 'node:events';
import { createServer, type IncomingMessage, type RequestListener, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { z } from 'zod';
import { ConfigError } from '../core/domain/index.ts';
import { type ErrorBody, errorBody } from '../wire/index.ts';

/** An answer that is an error; thrown by handlers, written by the server. */
export class HttpError extends Error {
  readonly status: number;
  readonly body: ErrorBody;
  readonly headers: Readonly<Record<string, string>>;

  constructor(status: number, body: ErrorBody, headers: Readonly<Record<string, string>> = {}) {
    super(body.error.message);
    this.status = status;
    this.body = body;
    this.headers = headers;
  }
}

/** Bodies above this many bytes are refused with 413. */
const MAX_BODY_BYTES = 64 * 1024 * 1024;

export async function readBody(request: IncomingMessage): Promise<string> {
  const parts: Buffer[] = [];
  let bytes = 0;
  for await (const part of request as AsyncIterable<Buffer>) {
    bytes += part.length;
    if (bytes > MAX_BODY_BYTES) {
      throw new HttpError(
        413,
        errorBody(`The body has more than ${MAX_BODY_BYTES} bytes.`, 'invalid_request_error', null, 'body_too_large'),
        { connection: 'close' },
      );
    }
    parts.push(part);
  }
  return Buffer.concat(parts, bytes).toString('utf8');
}

/** Parses and checks a JSON body; `refuse` words the error as the server's own API does. */
export function parseBody<T extends z.ZodType>(
  text: string,
  schema: T,
  refuse: (message: string, param: string | null) => HttpError,
): z.infer<T> {
  let json: unknown;
  try {
    json = text === '' ? {} : JSON.parse(text);
  } catch (error) {
    throw refuse(`The body is not JSON: ${error instanceof Error ? error.message : String(error)}`, null);
  }
  const parsed = schema.safeParse(json);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  const param = issue && issue.path.length > 0 ? issue.path.join('.') : null;
  throw refuse(param ? `${param}: ${issue?.message}` : (issue?.message ?? 'The body is not valid.'), param);
}

export function sendJson(
  response: ServerResponse,
  status: number,
  body: unknown,
  headers: Readonly<Record<string, string>> = {},
): void {
  if (response.headersSent || response.destroyed) return;
  const text = JSON.stringify(body);
  response.writeHead(status, {
    'content-type': 'application/json',
    'content-length': String(Buffer.byteLength(text)),
    ...headers,
  });
  response.end(text);
}

/** @throws {@link ConfigError} when the address cannot be had. */
export async function listen(listener: RequestListener, host: string, port: number): Promise<Server> {
  const server = createServer({ noDelay: true, keepAlive: true, keepAliveTimeout: 60_000 }, listener);
  try {
    server.listen(port, host);
    await once(server, 'listening');
  } catch (error) {
    throw new ConfigError(`Cannot listen on ${host}:${port}: ${error instanceof Error ? error.message : error}.`, {
      hint: 'Choose another port, or 0 for any free one.',
      cause: error,
    });
  }
  return server;
}

export function urlOf(server: Server): string {
  const { address, port } = server.address() as AddressInfo;
  return `http://${address.includes(':') ? `[${address}]` : address}:${port}`;
}

/** Ends at once, with all connections. */
export async function closeServer(server: Server): Promise<void> {
  if (!server.listening) return;
  const closed = once(server, 'close');
  server.close();
  server.closeAllConnections();
  await closed;
}
