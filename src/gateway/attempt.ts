// One try of one request at one engine: undici's callbacks with a switch to turn them off. After `cancel` nothing more is
// heard of the engine, and the engine sees its client hang up.
import type { Dispatcher } from 'undici';

/** Who is told. Called synchronously from undici; `onData` answers false to be paused. */
export interface AttemptListener {
  onHead(status: number, rawHeaders: readonly Buffer[]): void;
  onData(chunk: Buffer): boolean;
  onEnd(): void;
  onFailure(error: Error): void;
  /** One of the above threw: our bug, not the engine's failure. */
  onBug(error: unknown): void;
}

export class Attempt implements Dispatcher.DispatchHandler {
  readonly #listener: AttemptListener;
  #abort: ((error?: Error) => void) | null = null;
  #resume: (() => void) | null = null;
  #over = false;

  constructor(listener: AttemptListener) {
    this.#listener = listener;
  }

  /** Hands the request to the engine's connections; failures are told later, never from inside this call. */
  send(dispatcher: Dispatcher, options: Dispatcher.DispatchOptions): void {
    try {
      dispatcher.dispatch(options, this);
    } catch (error) {
      queueMicrotask(() => this.onError(error as Error));
    }
  }

  cancel(): void {
    this.#over = true;
    this.#abort?.();
  }

  /** Goes on reading after `onData` answered false. */
  resume(): void {
    if (!this.#over) this.#resume?.();
  }

  onConnect(abort: (error?: Error) => void): void {
    this.#abort = abort;
    // Cancelled while it waited for a connection.
    if (this.#over) abort();
  }

  onHeaders(status: number, rawHeaders: Buffer[], resume: () => void): boolean {
    // 1xx answers are only announcements.
    if (status < 200 || this.#over) return true;
    this.#resume = resume;
    this.#tell(() => this.#listener.onHead(status, rawHeaders));
    return true;
  }

  onData(chunk: Buffer): boolean {
    if (this.#over) return true;
    try {
      return this.#listener.onData(chunk);
    } catch (error) {
      this.cancel();
      this.#listener.onBug(error);
      return true;
    }
  }

  onComplete(): void {
    if (this.#over) return;
    this.#over = true;
    this.#tell(() => this.#listener.onEnd());
  }

  onError(error: Error): void {
    if (this.#over) return;
    this.#over = true;
    this.#tell(() => this.#listener.onFailure(error));
  }

  #tell(event: () => void): void {
    try {
      event();
    } catch (error) {
      this.cancel();
      this.#listener.onBug(error);
    }
  }
}

/** The value of a response header, or null. */
export function headerOf(rawHeaders: readonly Buffer[], name: string): string | null {
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    const key = rawHeaders[i]!;
    if (key.length === name.length && key.toString('latin1').toLowerCase() === name)
      return rawHeaders[i + 1]!.toString('latin1');
  }
  return null;
}
