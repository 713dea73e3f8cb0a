// The admin port, on loopback only and behind a bearer token: routing in, observations out, replicas emptied.
import { createHash, timingSafeEqual } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { errorBody, evacuateSchema, type RoutingUpdate, routingUpdateSchema } from '../wire/index.ts';
import { sendJson } from './data-server.ts';
import type { Gateway } from './gateway.ts';
import { readBody } from './http-body.ts';

/** Types carry a few hundred samples each; even many stay far below this. */
const MAX_ADMIN_BODY_BYTES = 64 * 1024 * 1024;

export function createAdminServer(gateway: Gateway): Server {
  const expected = digest(`Bearer ${gateway.options.token}`);
  return createServer({ noDelay: true, keepAlive: true }, (req, res) => {
    if (!timingSafeEqual(digest(req.headers.authorization ?? ''), expected))
      return refuse(res, 401, 'invalid_token', 'The admin port needs the bearer token of this pool.');
    readBody(req, MAX_ADMIN_BODY_BYTES, (body) => {
      if (body === 'closed') return;
      if (body === 'too-large') return refuse(res, 413, 'body_too_large', 'The body is too large.');
      answer(gateway, req, res, body).catch((error: unknown) => {
        gateway.log.error({ err: error, path: req.url }, 'an admin call failed');
        if (!res.headersSent) refuse(res, 500, 'internal_error', 'The gateway failed on this call.');
      });
    });
  });
}

async function answer(gateway: Gateway, req: IncomingMessage, res: ServerResponse, body: Buffer): Promise<void> {
  const url = new URL(req.url ?? '/', 'http://gateway');
  const evacuate = /^\/admin\/v1\/replicas\/([^/]+)\/evacuate$/.exec(url.pathname);
  switch (`${req.method} ${evacuate ? '/admin/v1/replicas/ID/evacuate' : url.pathname}`) {
    case 'PUT /admin/v1/routing': {
      const parsed = parse(body, routingUpdateSchema);
      if (!parsed.ok) return refuse(res, 400, 'invalid_routing', parsed.why);
      const why = gateway.setRouting(parsed.value as RoutingUpdate);
      if (why !== null) return refuse(res, 400, 'invalid_routing', why);
      return sendJson(res, 200, { version: parsed.value.version });
    }
    case 'POST /admin/v1/replicas/ID/evacuate': {
      const parsed = parse(body, evacuateSchema);
      if (!parsed.ok) return refuse(res, 400, 'invalid_request', parsed.why);
      return sendJson(res, 200, await gateway.evacuate(decodeURIComponent(evacuate?.[1] ?? ''), parsed.value.mode));
    }
    case 'GET /admin/v1/observation': {
      const after = Number(url.searchParams.get('after') ?? 0);
      if (!Number.isSafeInteger(after) || after < 0)
        return refuse(res, 400, 'invalid_request', '"after" must be a cursor: a whole number.');
      return sendJson(res, 200, gateway.observation(after, url.searchParams.get('incarnation')));
    }
    case 'GET /admin/v1/status':
      return sendJson(res, 200, gateway.status());
    default:
      return refuse(res, 404, 'unknown_path', `There is no ${req.method} ${url.pathname} on the admin port.`);
  }
}

type Parsed<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly why: string };

interface Schema<T> {
  safeParse(
    value: unknown,
  ):
    | { success: true; data: T }
    | { success: false; error: { issues: readonly { path: readonly PropertyKey[]; message: string }[] } };
}

function parse<T>(body: Buffer, schema: Schema<T>): Parsed<T> {
  let value: unknown;
  try {
    value = JSON.parse(body.toString('utf8'));
  } catch {
    return { ok: false, why: 'The body is not JSON.' };
  }
  const checked = schema.safeParse(value);
  if (checked.success) return { ok: true, value: checked.data };
  const issue = checked.error.issues[0];
  return { ok: false, why: `${issue?.path.join('.') || 'body'}: ${issue?.message ?? 'invalid'}` };
}

function refuse(res: ServerResponse, status: number, code: string, message: string): void {
  sendJson(
    res,
    status,
    errorBody(message, status === 401 ? 'authentication_error' : 'invalid_request_error', null, code),
  );
}

/** Equal lengths for the comparison in constant time. */
const digest = (text: string): Buffer => createHash('sha256').update(text).digest();
