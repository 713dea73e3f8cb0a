// An engine that runs, as its agent sees it, wherever that is; and the messages by which an engine in a process of its own
// is asked.
import type { EmulatedEngineOptions } from './options.ts';

export interface EngineLoad {
  readonly runningCount: number;
  readonly waitingCount: number;
  /** Share of the KV blocks in use, 0..1. */
  readonly kvUsedShare: number;
}

/** What an agent may ask of its engine, wherever that runs. */
export interface EngineControl {
  load(): Promise<EngineLoad>;
  /** Whether new requests are let in; others get 503. Running requests go on. */
  setAdmitting(admitting: boolean): Promise<void>;
  /** Ends all requests; their streams say `abort`. */
  abortAll(): Promise<void>;
}

export interface RunningEngine extends EngineControl {
  readonly url: string;
  /** Null where the engine shares its agent's process. */
  readonly pid: number | null;
  /** Ends the engine; `gone` is then called by nobody. */
  stop(): Promise<void>;
}

/** `gone` is called once when the engine ends without having been asked to. */
export type LaunchEngine = (options: EmulatedEngineOptions, gone: (why: string) => void) => Promise<RunningEngine>;

/** Agent to engine process, and back. */
export interface EngineCall {
  readonly call: number;
  readonly method: keyof EngineControl;
  readonly value?: unknown;
}
export type EngineMessage =
  | { readonly kind: 'ready'; readonly url: string }
  | { readonly kind: 'failed'; readonly message: string }
  | { readonly kind: 'answer'; readonly call: number; readonly value?: unknown };

/** In an engine process: answers the agent's calls. */
export function serveEngineCalls(control: EngineControl, channel: NodeJS.Process): void {
  channel.on('message', async ({ call, method, value }: EngineCall) => {
    const answer = await (method === 'setAdmitting' ? control.setAdmitting(value === true) : control[method]());
    channel.send?.({ kind: 'answer', call, value: answer } satisfies EngineMessage);
  });
}
