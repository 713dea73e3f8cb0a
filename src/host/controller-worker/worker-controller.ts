// A controller that thinks in a thread of its own, so that a search of a second does not hold up the routing of a
// request or the steps of a switch. Observations go there and records come back as structured clones.
import { Worker } from 'node:worker_threads';
import type { ControllerPort } from '../../core/control/index.ts';
import { invariant, type Observation, OserveError, type TickRecord, type WorkUnits } from '../../core/domain/index.ts';
import type { ControllerInput } from './controller-config.ts';

export interface TickRequest {
  readonly observation: Observation;
  readonly budget: WorkUnits;
}

/** A class does not survive a structured clone: an error travels as its fields. */
export type TickAnswer =
  | { readonly kind: 'record'; readonly record: TickRecord }
  | { readonly kind: 'refused'; readonly code: string; readonly message: string; readonly hint: string | undefined }
  | { readonly kind: 'bug'; readonly message: string; readonly stack: string | undefined };

export interface WorkerControllerOptions {
  readonly input: ControllerInput;
  /** Compiled worker module. */
  readonly workerUrl?: URL;
}

const workerModule = (): URL => new URL('./worker.js', import.meta.url);

export class WorkerController implements ControllerPort {
  readonly #worker: Worker;
  /** The tick under way: there is never more than one. */
  #pending: { resolve(record: TickRecord): void; reject(error: Error): void } | null = null;
  #gone: Error | null = null;

  constructor({ input, workerUrl = workerModule() }: WorkerControllerOptions) {
    this.#worker = new Worker(workerUrl, { workerData: input, name: 'controller' });
    this.#worker.on('message', (answer: TickAnswer) => this.#settle(answer));
    this.#worker.on('error', (error) => this.#end(error));
    this.#worker.on('exit', (code) => this.#end(new Error(`The controller's thread ended with code ${code}.`)));
  }

  /** Never two at once: the loop waits for one tick before it starts the next. */
  tick(observation: Observation, budget: WorkUnits): Promise<TickRecord> {
    invariant(this.#pending === null, 'the controller works on one tick at a time');
    if (this.#gone) return Promise.reject(this.#gone);
    return new Promise((resolve, reject) => {
      this.#pending = { resolve, reject };
      this.#worker.postMessage({ observation, budget } satisfies TickRequest);
    });
  }

  async close(): Promise<void> {
    await this.#worker.terminate();
  }

  #settle(answer: TickAnswer): void {
    const pending = this.#pending;
    this.#pending = null;
    if (answer.kind === 'record') pending?.resolve(answer.record);
    else pending?.reject(errorOf(answer));
  }

  #end(error: Error): void {
    this.#gone ??= error;
    this.#pending?.reject(error);
    this.#pending = null;
  }
}

function errorOf(answer: Exclude<TickAnswer, { kind: 'record' }>): Error {
  switch (answer.kind) {
    case 'refused':
      return new OserveError(answer.code, answer.message, answer.hint === undefined ? {} : { hint: answer.hint });
    case 'bug':
      return Object.assign(new Error(answer.message), answer.stack === undefined ? {} : { stack: answer.stack });
  }
}
