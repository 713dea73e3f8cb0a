// Errors come in two kinds. A bug in our code is an `invariant` that throws and is never caught to go on. Anything the
// world can do is an `OserveError`: a stable code, what happened with its numbers, and what to do next (`hint`).

export interface OserveErrorOptions {
  readonly hint?: string;
  readonly cause?: unknown;
}

/** Base of all errors that the world can cause. `code` is stable; scripts may rely on it. */
export class OserveError extends Error {
  readonly code: string;
  readonly hint: string | undefined;

  constructor(code: string, message: string, options: OserveErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = new.target.name;
    this.code = code;
    this.hint = options.hint;
  }
}

/** A configuration file, flag or environment variable is wrong. */
export class ConfigError extends OserveError {
  constructor(message: string, options?: OserveErrorOptions) {
    super('config_invalid', message, options);
  }
}

/** A trace or another input file is wrong; the message names the line and what was expected. */
export class TraceError extends OserveError {
  constructor(message: string, options?: OserveErrorOptions) {
    super('trace_invalid', message, options);
  }
}

/** No deployment, placement or assignment can satisfy what was asked; the message says by how much. */
export class InfeasibleError extends OserveError {
  constructor(message: string, options?: OserveErrorOptions) {
    super('infeasible', message, options);
  }
}

/** An engine or its agent failed or answered outside the protocol. */
export class EngineError extends OserveError {
  constructor(message: string, options?: OserveErrorOptions) {
    super('engine_failed', message, options);
  }
}

/** A switch could not be carried out; the message says at which step. */
export class SwitchError extends OserveError {
  constructor(message: string, options?: OserveErrorOptions) {
    super('switch_failed', message, options);
  }
}

/** A client's request cannot be served as it is. `status` is left to the gateway, which alone knows HTTP. */
export class RequestError extends OserveError {
  /** The request's field that is wrong, or null. */
  readonly param: string | null;

  constructor(code: string, message: string, param: string | null = null, options?: OserveErrorOptions) {
    super(code, message, options);
    this.param = param;
  }
}

/** States what must hold. A failure is a bug in oserve, not in its input. */
export function invariant(condition: unknown, whatMustHold: string): asserts condition {
  if (!condition) throw new Error(`Bug in oserve: ${whatMustHold}`);
}

/** Ends a `switch` over a union: the compiler proves that it cannot be reached. */
export function unreachable(value: never): never {
  throw new Error(`Bug in oserve: unhandled variant ${JSON.stringify(value)}`);
}
