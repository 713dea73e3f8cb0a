// The HTTP API of an emulated engine: vLLM's paths, bodies and errors, and the header that says it is emulated.
import { randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import {
  detokenizeRequestSchema,
  errorBody,
  HEADER_EMULATED,
  type ModelList,
  tokenize,
  tokenizeRequestSchema,
  tokenText,
} from '../wire/index.ts';
import { Answer } from './answer.ts';
import { renderChat } from './chat-template.ts';
import type { EngineDriver } from './driver.ts';
import type { EngineMetrics } from './engine-metrics.ts';
import { badRequest, planRequest, type RequestKind } from './engine-request.ts';
import { HttpError, parseBody, readBody, sendJson } from './http.ts';

/** The API that is spoken, and who speaks it. */
const VERSION = { version: '0.32.0+oserve.emulated', emulated: true };
const EMULATED = { [HEADER_EMULATED]: 'true' };
/** Seconds after which a refused request may be tried again, here or better elsewhere. */
const RETRY_AFTER_SECONDS = '1';

export interface EngineApiOptions {
  readonly modelName: string;
  readonly maxModelLen: number;
  readonly speed: number;
  readonly driver: EngineDriver;
  readonly metrics: EngineMetrics;
  readonly admitting: boolean;
}

type Route = (request: IncomingMessage, response: ServerResponse) => void | Promise<void>;

export class EngineApi {
  readonly #options: EngineApiOptions;
  readonly #answers = new Set<Answer>();
  readonly #created = Math.floor(Date.now() / 1000);
  readonly #routes: ReadonlyMap<string, Route>;
  #admitting: boolean;

  constructor(options: EngineApiOptions) {
    this.#options = options;
    this.#admitting = options.admitting;
    const { metrics } = options;
    const empty: Route = (_, response) => {
      response.writeHead(200, { ...EMULATED, 'content-length': '0' }).end();
    };
    this.#routes = new Map<string, Route>([
      ['POST /v1/completions', (request, response) => this.#generate('completion', request, response)],
      ['POST /v1/chat/completions', (request, response) => this.#generate('chat', request, response)],
      ['GET /v1/models', (_, response) => sendJson(response, 200, this.#models(), EMULATED)],
      ['GET /health', empty],
      ['GET /ping', empty],
      ['POST /ping', empty],
      ['GET /version', (_, response) => sendJson(response, 200, { ...VERSION, speed: options.speed }, EMULATED)],
      ['GET /load', (_, response) => sendJson(response, 200, { server_load: options.driver.requestCount }, EMULATED)],
      ['POST /tokenize', (request, response) => this.#tokenize(request, response)],
      ['POST /detokenize', (request, response) => this.#detokenize(request, response)],
      [
        'GET /metrics',
        async (_, response) => {
          options.driver.settle();
          const text = await metrics.registry.metrics();
          response.writeHead(200, { ...EMULATED, 'content-type': metrics.registry.contentType }).end(text);
        },
      ],
    ]);
  }

  setAdmitting(admitting: boolean): void {
    this.#admitting = admitting;
  }

  abortAll(): void {
    for (const answer of [...this.#answers]) answer.abort();
  }

  readonly listener = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    try {
      await this.#route(request)(request, response);
    } catch (error) {
      if (request.destroyed && !request.complete) return; // the client hung up while it sent
      if (!(error instanceof HttpError)) throw error;
      sendJson(response, error.status, error.body, { ...EMULATED, ...error.headers });
    }
  };

  #route({ method, url = '/' }: IncomingMessage): Route {
    const path = url.split('?', 1)[0]!;
    const route = this.#routes.get(`${method} ${path}`);
    if (route) return route;
    const known = [...this.#routes.keys()].some((key) => key.endsWith(` ${path}`));
    if (known) throw new HttpError(405, errorBody('Method Not Allowed', 'MethodNotAllowedError', null, 405));
    throw new HttpError(404, errorBody(`There is no ${path} here.`, 'NotFoundError', null, 404));
  }

  async #generate(kind: RequestKind, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const text = await readBody(request);
    // Asked after the body is here: between that and the engine's first step nothing can come in between.
    if (!this.#admitting) {
      throw new HttpError(
        503,
        errorBody('This engine takes no new requests now; try another one.', 'ServiceUnavailableError', null, 503),
        { 'retry-after': RETRY_AFTER_SECONDS, 'x-should-retry': 'true' },
      );
    }
    const { modelName, driver } = this.#options;
    const plan = planRequest(kind, text, request.headers, this.#options);
    const requestId = plan.requestId ?? randomUUID().replaceAll('-', '');
    const id = `${kind === 'chat' ? 'chatcmpl' : 'cmpl'}-${requestId}`;
    const created = Math.floor(Date.now() / 1000);
    const meta = { id, model: modelName, created, headers: headerOf(requestId) };
    const answer = new Answer(plan, meta, response, driver);
    this.#answers.add(answer);
    answer.start(() => this.#answers.delete(answer));
  }

  #models(): ModelList {
    const { modelName, maxModelLen } = this.#options;
    return {
      object: 'list',
      data: [
        {
          id: modelName,
          object: 'model',
          created: this.#created,
          owned_by: 'oserve',
          root: modelName,
          max_model_len: maxModelLen,
        },
      ],
    };
  }

  async #tokenize(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { prompt, messages } = parseBody(await readBody(request), tokenizeRequestSchema, badRequest);
    const tokens = tokenize(prompt ?? renderChat(messages ?? []));
    const answer = { count: tokens.length, max_model_len: this.#options.maxModelLen, tokens, token_strs: null };
    sendJson(response, 200, answer, EMULATED);
  }

  async #detokenize(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { tokens } = parseBody(await readBody(request), detokenizeRequestSchema, badRequest);
    sendJson(response, 200, { prompt: tokens.map(tokenText).join('') }, EMULATED);
  }
}

/** A request id from a body may be any text; a header takes printable ASCII only. */
const headerOf = (requestId: string): Record<string, string> =>
  /^[\x20-\x7e]+$/.test(requestId) ? { 'x-request-id': requestId } : {};
