// What a server says about itself: whether it is emulated and how fast its clock runs, its models, what it has deployed.
import { EngineError } from '../../core/domain/index.ts';
import type { ModelList, PublicStatus } from '../../wire/index.ts';
import type { ServerFacts } from './prompts.ts';

/**
 * @throws {@link EngineError} when nobody answers at the URL, or no model is served there.
 */
export async function readServerFacts(url: string): Promise<ServerFacts> {
  const status = await readStatus(url);
  const list = await get<ModelList>(url, '/v1/models');
  const cards = list?.data ?? [];
  const models = status && status.models.length > 0 ? status.models : cards.map(({ id }) => id);
  if (models.length === 0) {
    throw new EngineError(`The server at ${url} serves no model.`, {
      hint: 'Give the base URL of an OpenAI-compatible server, for example http://127.0.0.1:8080.',
    });
  }
  const lengths = cards.flatMap(({ id, max_model_len }) => (max_model_len ? [[id, max_model_len] as const] : []));
  return {
    emulated: status?.emulated ?? false,
    speed: status?.emulated ? status.speed : 1,
    models,
    maxModelLen: new Map(lengths),
  };
}

/** Null where the server is not oserve's. */
export const readStatus = (url: string): Promise<PublicStatus | null> => get<PublicStatus>(url, '/oserve/status');

async function get<T>(url: string, path: string): Promise<T | null> {
  const base = url.replace(/\/(v1\/?)?$/, '');
  let response: Response;
  try {
    response = await fetch(`${base}${path}`, { signal: AbortSignal.timeout(10_000) });
  } catch (cause) {
    throw new EngineError(`Nobody answers at ${base}${path}.`, {
      hint: 'Is the server running, and is the URL right? `oserve up` prints it.',
      cause,
    });
  }
  if (!response.ok) {
    await response.body?.cancel();
    return null;
  }
  return (await response.json()) as T;
}

/** Sees switches from outside: changes of the deployment that follow each other closely are one switch. */
export class SwitchWatch {
  /** Quiet for so long, a switch is over, emulated seconds. */
  readonly #quietSeconds: number;
  #deployment: string | null = null;
  #before = '';
  #firstSeconds = Number.NaN;
  #lastSeconds = Number.NaN;
  switches = 0;
  /** From the first replica that left to the last that came, summed over switches, emulated seconds. */
  switchSeconds = 0;

  constructor(quietSeconds = 30) {
    this.#quietSeconds = quietSeconds;
  }

  saw(deployment: string, atSeconds: number): void {
    if (this.#deployment === null) {
      this.#deployment = deployment;
      return;
    }
    if (atSeconds - this.#lastSeconds > this.#quietSeconds) this.end();
    if (deployment === this.#deployment) return;
    if (Number.isNaN(this.#firstSeconds)) {
      this.#firstSeconds = atSeconds;
      this.#before = this.#deployment;
    }
    this.#lastSeconds = atSeconds;
    this.#deployment = deployment;
  }

  /** Closes what is open. A deployment that came back to what it was (a roll-back, a restart) is no switch. */
  end(): void {
    if (!Number.isNaN(this.#firstSeconds) && this.#deployment !== this.#before) {
      this.switches++;
      this.switchSeconds += this.#lastSeconds - this.#firstSeconds;
    }
    this.#firstSeconds = Number.NaN;
    this.#lastSeconds = Number.NaN;
  }
}
