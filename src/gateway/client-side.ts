// The client's end of one request: the head of the answer, events with back-pressure, whole answers, errors in either
// form, and comments that keep a waiting stream alive.
import type { ServerResponse } from 'node:http';
import { errorBody, SSE_HEADERS } from '../wire/index.ts';
import { EventStreamWriter } from './event-stream-writer.ts';
import { failureEvent, type HttpFailure, sendFailure } from './http-errors.ts';
import { utf8ToLatin1 } from './stream-scanner.ts';

export interface ClientListener {
  /** Headers of ours, asked for when the answer begins. */
  ownHeaders(): Record<string, string>;
  /** The client has read what was written: more may come. */
  onDrained(): void;
  /** The connection is gone. */
  onGone(): void;
}

export class ClientSide {
  readonly #res: ServerResponse;
  readonly #writer: EventStreamWriter;
  readonly #listener: ClientListener;
  #pingTimer: NodeJS.Timeout | null = null;
  /** The client has to read before more is written. */
  paused = false;

  constructor(res: ServerResponse, listener: ClientListener) {
    this.#res = res;
    this.#writer = new EventStreamWriter(res);
    this.#listener = listener;
  }

  /** Begins to listen for the client's leaving. */
  watch(): void {
    this.#res.on('close', () => this.#listener.onGone());
    this.#res.on('error', () => this.#listener.onGone());
  }

  /** Writes events, or a part of them. @param data - text is latin1; never empty. */
  write(data: Buffer | string): void {
    this.#begin();
    if (this.#writer.write(data) || this.paused) return;
    this.paused = true;
    this.#writer.onDrain(() => {
      this.paused = false;
      this.#listener.onDrained();
    });
  }

  /** @param text - events as text. */
  writeText(text: string): void {
    this.write(utf8ToLatin1(text));
  }

  /** An engine's whole answer; inside a stream that has begun, as its only event. */
  answer(status: number, contentType: string, body: Buffer): void {
    const text = body.toString('latin1');
    const isShaped = status < 400 || text.includes('"error"');
    const shown = isShaped ? text : refusalInOurShape(body, status);
    if (this.#res.headersSent) {
      // Line ends in JSON are only space, but they would end the event.
      this.write(`data: ${shown.replace(/[\r\n]+/g, ' ')}\n\n`);
      return;
    }
    this.#res.writeHead(status, {
      ...this.#listener.ownHeaders(),
      'content-type': isShaped ? contentType : 'application/json',
      'content-length': shown.length,
    });
    // As text: Node then puts head and body into one write.
    this.#res.end(shown, 'latin1');
  }

  /** A refusal of ours: the answer, or the last event of a stream that has begun. */
  refuse(problem: HttpFailure, requestId: string): void {
    if (this.#res.writableEnded) return;
    if (this.#res.headersSent) this.writeText(failureEvent(problem));
    else sendFailure(this.#res, problem, requestId);
  }

  keepAlive(everyMs: number): void {
    this.#pingTimer ??= setInterval(() => this.write(': keep-alive\n\n'), everyMs);
  }

  stopKeepAlive(): void {
    if (this.#pingTimer !== null) clearInterval(this.#pingTimer);
    this.#pingTimer = null;
  }

  end(): void {
    this.stopKeepAlive();
    if (!this.#res.writableEnded) this.#res.end();
  }

  #begin(): void {
    if (!this.#res.headersSent) this.#res.writeHead(200, { ...SSE_HEADERS, ...this.#listener.ownHeaders() });
  }
}

/** An answer that is no OpenAI error, as one; latin1. */
const refusalInOurShape = (body: Buffer, status: number): string =>
  utf8ToLatin1(
    JSON.stringify(
      errorBody(
        body.toString('utf8').slice(0, 2000) || `The engine answered ${status}.`,
        'invalid_request_error',
        null,
        status,
      ),
    ),
  );
