// The port that clients reach: the OpenAI API, health, metrics and the pool's public status.
import { randomUUID } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Gateway } from './gateway.ts';
import { readBody } from './http-body.ts';
import { failureOf, failures, type HttpFailure, sendFailure } from './http-errors.ts';
import type { Api } from './inference-request.ts';

type Handler = (req: IncomingMessage, res: ServerResponse, path: string) => void | Promise<void>;

interface Route {
  readonly method: 'GET' | 'POST';
  readonly handle: Handler;
}

/** An id that may be echoed and handed to engines. */
const REQUEST_ID = /^[\w.:-]{1,128}$/;

/** Headers of the client that engines get too; of ours, all but what only the gateway may say. */
const PASSED_HEADERS = ['authorization', 'traceparent', 'tracestate', 'x-session-id', 'x-correlation-id'] as const;
const OWN_PREFIX = 'x-oserve-';
const NOT_PASSED = new Set(['x-oserve-continued-tokens', 'x-oserve-debug', 'x-oserve-tenant']);

export function createDataServer(gateway: Gateway): Server {
  const routes = dataRoutes(gateway);
  const server = createServer({ noDelay: true, keepAlive: true }, (req, res) => {
    const path = pathOf(req);
    const route = routes.get(path) ?? (path.startsWith('/v1/models/') ? routes.get('/v1/models/') : undefined);
    const problem =
      route === undefined
        ? failures.notFound(path)
        : route.method !== req.method && !(route.method === 'GET' && req.method === 'HEAD')
          ? failures.wrongMethod(req.method ?? '', path, route.method)
          : null;
    if (problem !== null) return refuseUnread(req, res, problem);
    void run(() => route?.handle(req, res, path)).catch((error: unknown) => {
      gateway.log.error({ err: error, path }, 'a handler failed');
      if (!res.headersSent) sendFailure(res, failures.internal());
      else res.destroy();
    });
  });
  server.keepAliveTimeout = gateway.options.keepAliveSeconds * 1000;
  // A large body over a slow line may take long; the answer may take longer.
  server.requestTimeout = 300_000;
  server.timeout = 0;
  return server;
}

/** A handler that throws at once is no different from one that rejects. */
const run = async (action: () => void | Promise<void>): Promise<void> => action();

function dataRoutes(gateway: Gateway): Map<string, Route> {
  const get = (handle: Handler): Route => ({ method: 'GET', handle });
  const inference = (api: Api): Route => ({
    method: 'POST',
    handle: (req, res) => takeInference(gateway, api, req, res),
  });
  const live = get((_req, res) => sendJson(res, 200, { status: 'ok' }));
  const ready = get((_req, res) =>
    sendJson(res, gateway.ready ? 200 : 503, { status: gateway.ready ? 'ready' : 'not ready' }),
  );
  return new Map<string, Route>([
    ['/v1/chat/completions', inference('chat')],
    ['/v1/completions', inference('completions')],
    ['/v1/models', get((_req, res) => sendJson(res, 200, { object: 'list', data: gateway.modelCards() }))],
    ['/v1/models/', get((_req, res, path) => sendModel(gateway, res, path.slice('/v1/models/'.length)))],
    ['/livez', live],
    ['/readyz', ready],
    ['/health', ready],
    ['/oserve/status', get((_req, res) => sendJson(res, 200, gateway.publicStatus()))],
    ['/metrics', get((_req, res) => sendMetrics(gateway, res))],
  ]);
}

function takeInference(gateway: Gateway, api: Api, req: IncomingMessage, res: ServerResponse): void {
  const requestId = requestIdOf(req);
  const encoding = req.headers['content-encoding'];
  if (encoding !== undefined && encoding !== 'identity') {
    refuseUnread(req, res, failures.encoded(encoding), requestId);
    return;
  }
  if (gateway.isClosing) {
    res.setHeader('connection', 'close');
    refuseUnread(req, res, failures.shuttingDown(), requestId);
    return;
  }
  readBody(req, gateway.options.maxBodyBytes, (body) => {
    if (body === 'closed') return;
    if (body === 'too-large') return refuseUnread(req, res, failures.tooLarge(gateway.options.maxBodyBytes), requestId);
    try {
      const problem = gateway.accept(api, req, res, body, requestId, engineHeaders(req));
      if (problem !== null) sendFailure(res, problem, requestId);
    } catch (error) {
      const problem = failureOf(error);
      if (problem === null) gateway.log.error({ err: error, request: requestId }, 'a request failed in the gateway');
      if (res.headersSent) res.destroy();
      else sendFailure(res, problem ?? failures.internal(), requestId);
    }
  });
}

/** Answers without reading what is still on its way; a connection with an unread body is of no further use. */
function refuseUnread(
  req: IncomingMessage,
  res: ServerResponse,
  problem: HttpFailure,
  requestId: string | null = null,
): void {
  if (!req.complete && req.method !== 'GET' && req.method !== 'HEAD') {
    res.setHeader('connection', 'close');
    // Reading on, into nothing, lets the client see the answer instead of a reset; not for ever.
    req.resume();
    res.on('finish', () => setTimeout(() => req.destroy(), 1000).unref());
  }
  sendFailure(res, problem, requestId);
}

function pathOf(req: IncomingMessage): string {
  const url = req.url ?? '/';
  const query = url.indexOf('?');
  return query < 0 ? url : url.slice(0, query);
}

function requestIdOf(req: IncomingMessage): string {
  const given = req.headers['x-request-id'];
  return typeof given === 'string' && REQUEST_ID.test(given) ? given : `req-${randomUUID()}`;
}

function engineHeaders(req: IncomingMessage): string[] {
  const headers = ['content-type', 'application/json'];
  for (const name of PASSED_HEADERS) {
    const value = req.headers[name];
    if (typeof value === 'string') headers.push(name, value);
  }
  for (const name in req.headers) {
    const value = req.headers[name];
    if (name.startsWith(OWN_PREFIX) && typeof value === 'string' && !NOT_PASSED.has(name)) headers.push(name, value);
  }
  return headers;
}

export function sendJson(res: ServerResponse, status: number, value: unknown): void {
  const body = JSON.stringify(value);
  res.writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) });
  res.end(body);
}

function sendModel(gateway: Gateway, res: ServerResponse, name: string): void {
  // Compared in the form it came in: a broken escape is simply no model's name.
  const card = gateway.modelCards().find(({ id }) => id === name || encodeURIComponent(id) === name);
  if (card === undefined) sendFailure(res, failures.unknownModel(name, gateway.replicas.models));
  else sendJson(res, 200, card);
}

async function sendMetrics(gateway: Gateway, res: ServerResponse): Promise<void> {
  const { registry } = gateway.metrics;
  const text = await registry.metrics();
  res.writeHead(200, { 'content-type': registry.contentType, 'content-length': Buffer.byteLength(text) });
  res.end(text);
}
