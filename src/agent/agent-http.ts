// The fleet protocol over HTTP (src/wire/fleet-protocol.ts): one bearer token, JSON in and out, errors as ErrorBody.
import { createHash, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { OserveError } from '../core/domain/index.ts';
import { createEngineSchema, type EngineInfo, errorBody, fillSchema, parkSchema } from '../wire/index.ts';
import { type Agent, capabilityMissing } from './agent.ts';
import { HttpError, parseBody, readBody, sendJson } from './http.ts';

/** Errors that are the caller's or the world's, by code. Others are 500. */
const STATUS: Readonly<Record<string, number>> = {
  model_unknown: 400,
  strategy_illegal: 400,
  gpus_wrong: 400,
  gpu_unknown: 400,
  config_invalid: 400,
  engine_unknown: 404,
  engine_exists: 409,
  wrong_state: 409,
  infeasible: 409,
  gpu_lost: 409,
  engine_failed: 502,
  capability_missing: 501,
};

/** Longest wait of one poll for events, emulated seconds; longer ones are cut. */
const MOST_WAIT_SECONDS = 3600;

const badRequest = (message: string, param: string | null): HttpError =>
  new HttpError(400, errorBody(message, 'invalid_request_error', param, 'request_invalid'));
const digest = (text: string): Buffer => createHash('sha256').update(text).digest();

export class AgentApi {
  readonly #agent: Agent;
  readonly #expected: Buffer;

  constructor(agent: Agent, token: string) {
    this.#agent = agent;
    this.#expected = digest(`Bearer ${token}`);
  }

  readonly listener = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    try {
      // Digests have one length, so the comparison takes the same time whatever was sent.
      if (!timingSafeEqual(digest(request.headers.authorization ?? ''), this.#expected)) {
        throw new HttpError(
          401,
          errorBody('A valid bearer token is needed.', 'authentication_error', null, 'unauthorized'),
          { 'www-authenticate': 'Bearer' },
        );
      }
      sendJson(response, 200, await this.#answer(request, response));
    } catch (error) {
      if (request.destroyed && !request.complete) return; // the caller hung up while it sent
      const { status, body, headers } = asHttpError(error);
      sendJson(response, status, body, headers);
    }
  };

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<unknown> {
    const address = `http://agent${request.url}`;
    const url = URL.canParse(address) ? new URL(address) : null;
    const path = url && decoded(url.pathname);
    if (!path) throw badRequest('The path cannot be read.', null);
    const { method } = request;
    const agent = this.#agent;
    if (path[0] === 'fleet' && path[1] === 'v1') {
      if (method === 'GET' && path.length === 3) {
        if (path[2] === 'inventory') return agent.inventory();
        if (path[2] === 'events') return this.#events(url.searchParams, response);
        if (path[2] === 'manifest') return agent.manifest(url.searchParams.get('engine') ?? '');
      }
      if (method === 'POST' && path[2] === 'engines') {
        const text = await readBody(request);
        if (path.length === 3) return agent.create(parseBody(text, createEngineSchema, badRequest));
        if (path.length === 5) return this.#act(path[3]!, path[4]!, text);
      }
    }
    // Not of the protocol: what happens to real hardware by itself must be done to emulated hardware by hand.
    if (path[0] === 'emulated' && path[1] === 'v1' && path[2] === 'gpus' && path.length === 5 && method === 'POST') {
      if (path[4] === 'lose') await agent.loseGpu(Number(path[3]));
      else if (path[4] === 'restore') agent.restoreGpu(Number(path[3]));
      else throw notFound(url.pathname);
      return agent.inventory();
    }
    throw notFound(url.pathname);
  }

  #act(id: string, action: string, text: string): Promise<EngineInfo> {
    const agent = this.#agent;
    switch (action) {
      case 'wake':
        return agent.wake(id);
      case 'fill':
        return agent.fill(id, parseBody(text, fillSchema, badRequest));
      case 'verify':
        return agent.verify(id);
      case 'admit':
        return agent.admit(id);
      case 'drain':
        return agent.drain(id);
      case 'park':
        return agent.park(id, parseBody(text, parkSchema, badRequest).keepWeights);
      case 'release':
        return agent.release(id);
      case 'kv-export':
      case 'kv-import':
        throw capabilityMissing('moving KV caches');
      default:
        throw notFound(action);
    }
  }

  #events(query: URLSearchParams, response: ServerResponse) {
    const after = Number(query.get('after') ?? 0);
    const waitSeconds = Number(query.get('waitSeconds') ?? 0);
    if (!(after >= 0)) throw badRequest('after is the number of an event', 'after');
    if (!(waitSeconds >= 0)) throw badRequest('waitSeconds is a duration', 'waitSeconds');
    const gone = new AbortController();
    response.once('close', () => gone.abort());
    return this.#agent.events.wait(after, Math.min(waitSeconds, MOST_WAIT_SECONDS), gone.signal);
  }
}

/** Segments of a path, or null when its escapes are broken. */
function decoded(pathname: string): string[] | null {
  try {
    return pathname.split('/').slice(1).map(decodeURIComponent);
  } catch {
    return null;
  }
}

const notFound = (what: string): HttpError =>
  new HttpError(404, errorBody(`There is no ${what} here.`, 'not_found_error', null, 'not_found'));

function asHttpError(error: unknown): HttpError {
  if (error instanceof HttpError) return error;
  if (!(error instanceof OserveError)) throw error;
  const status = STATUS[error.code] ?? 500;
  const type = status < 500 ? 'invalid_request_error' : 'server_error';
  const message = error.hint ? `${error.message} ${error.hint}` : error.message;
  return new HttpError(status, errorBody(message, type, null, error.code));
}
