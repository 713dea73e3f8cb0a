// Sends the requests of a trace when they are due, whether or not earlier ones have been answered (open loop), and
// reports what a client saw: latencies in emulated seconds, and every answer that was not whole.
import {
  DEFAULT_SLO,
  type RequestOutcome,
  type RunMetrics,
  type Slo,
  summarise,
  type TraceRequest,
} from '../../core/domain/index.ts';
import { random } from '../../core/math/index.ts';
import { foldAll, startState } from '../../wire/index.ts';
import { prepare } from './prompts.ts';
import { readServerFacts, readStatus, SwitchWatch } from './server-facts.ts';
import { type Answer, TrafficClient } from './traffic-client.ts';

/** So many requests are made at once before the event loop gets its turn. */
const MOST_SENT_AT_ONCE = 32;
const STATUS_EVERY_MS = 250;

export interface TrafficProgress {
  readonly sent: number;
  readonly completed: number;
  readonly refused: number;
  readonly failed: number;
  readonly open: number;
  readonly outputTokens: number;
}

export interface TrafficOptions {
  /** Base URL of an OpenAI-compatible server. */
  readonly url: string;
  /** Sorted by arrival; may be endless, then `signal` ends it. Times count from the first request. */
  readonly requests: Iterable<TraceRequest>;
  readonly seed: number | string;
  readonly limit?: number;
  readonly slo?: Slo;
  /** Stops sending and ends what is open. */
  readonly signal?: AbortSignal;
  /** False: nothing is kept per request (for endless traffic); metrics are then null. Default true. */
  readonly keepOutcomes?: boolean;
  /** Told after each answer. */
  readonly onProgress?: (progress: TrafficProgress) => void;
  /** Told of each answer that was not whole, with the number of its request (from 0). */
  readonly onFault?: (number: number, fault: string, message: string) => void;
}

export interface TrafficReport extends TrafficProgress {
  /** Null when outcomes were not kept. */
  readonly metrics: RunMetrics | null;
  /** Answers that were not whole, by kind. Refusals are not among them. */
  readonly errors: Readonly<Record<string, number>>;
  readonly retries: number;
  readonly switches: number;
  readonly switchSeconds: number;
  readonly wallSeconds: number;
  /** Seconds by which the latest request was sent after it was due, real time. */
  readonly latestSeconds: number;
  readonly emulated: boolean;
  readonly speed: number;
}

/** @throws {@link EngineError} when nobody answers at the URL. */
export async function runTraffic(options: TrafficOptions): Promise<TrafficReport> {
  const facts = await readServerFacts(options.url);
  return new TrafficRun(options, facts).run();
}

class TrafficRun {
  readonly #options: TrafficOptions;
  readonly #facts: Awaited<ReturnType<typeof readServerFacts>>;
  readonly #client: TrafficClient;
  readonly #limits;
  readonly #seedHash: number;
  readonly #outcomes: (RequestOutcome | undefined)[] = [];
  readonly #errors: Record<string, number> = {};
  readonly #watch = new SwitchWatch();
  readonly #startMs = performance.now();
  readonly #open = new Set<Promise<void>>();
  #sent = 0;
  #completed = 0;
  #refused = 0;
  #failed = 0;
  #outputTokens = 0;
  #latestMs = 0;
  #lastEndMs = 0;

  constructor(options: TrafficOptions, facts: Awaited<ReturnType<typeof readServerFacts>>) {
    this.#options = options;
    this.#facts = facts;
    const dice = random(options.seed);
    this.#limits = dice.fork('client limits');
    const jitter = dice.fork('retry pauses');
    this.#client = new TrafficClient(options.url, () => jitter.next());
    this.#seedHash =
      foldAll(
        startState(),
        Int32Array.from(`${options.seed}`, (c) => c.codePointAt(0)!),
      ) | 0;
  }

  async run(): Promise<TrafficReport> {
    const { signal } = this.#options;
    const polling = setInterval(() => void this.#lookAtDeployment(), STATUS_EVERY_MS);
    try {
      await this.#lookAtDeployment();
      await this.#sendAll();
      // Endless traffic ends by the signal; then nobody waits for answers any more.
      if (!signal?.aborted) await Promise.race([Promise.all(this.#open), aborted(signal)]);
      await this.#lookAtDeployment();
    } finally {
      clearInterval(polling);
      await this.#client.close();
      await Promise.all(this.#open);
    }
    return this.#report();
  }

  async #sendAll(): Promise<void> {
    const { requests, limit = Number.POSITIVE_INFINITY, signal } = this.#options;
    let origin = Number.NaN;
    let atOnce = 0;
    for (const request of requests) {
      if (this.#sent >= limit || signal?.aborted) return;
      if (Number.isNaN(origin)) origin = request.arrivalSeconds;
      const dueMs = this.#startMs + ((request.arrivalSeconds - origin) * 1000) / this.#facts.speed;
      if (dueMs > performance.now()) {
        atOnce = 0;
        await pauseUntil(dueMs, signal);
        if (signal?.aborted) return;
      } else if (++atOnce % MOST_SENT_AT_ONCE === 0) await new Promise((resolve) => setImmediate(resolve));
      this.#latestMs = Math.max(this.#latestMs, performance.now() - dueMs);
      this.#send(request, this.#sent++, dueMs);
    }
  }

  #send(request: TraceRequest, number: number, dueMs: number): void {
    const prepared = prepare(request, number, this.#seedHash, this.#facts, this.#limits);
    const exchange = this.#client
      .send(prepared, {
        promptState: this.#facts.emulated ? prepared.promptState : null,
        promptTokens: request.inputTokens,
        outputTokens: request.outputTokens,
      })
      .then((answer) => {
        this.#open.delete(exchange);
        this.#took(request, number, dueMs, answer);
      });
    this.#open.add(exchange);
  }

  #took(request: TraceRequest, number: number, dueMs: number, answer: Answer): void {
    const { signal, onFault, onProgress, keepOutcomes = true } = this.#options;
    if (answer.kind === 'whole') {
      this.#completed++;
      this.#outputTokens += answer.tokens;
      this.#lastEndMs = Math.max(this.#lastEndMs, answer.endMs);
    } else if (answer.kind === 'refused') this.#refused++;
    else if (signal?.aborted)
      return; // cut by ourselves
    else {
      this.#failed++;
      this.#errors[answer.fault] = (this.#errors[answer.fault] ?? 0) + 1;
      onFault?.(number, answer.fault, answer.message);
    }
    if (keepOutcomes) this.#outcomes[number] = this.#outcomeOf(request, dueMs, answer);
    onProgress?.(this.#progress());
  }

  #outcomeOf({ inputTokens }: TraceRequest, dueMs: number, answer: Answer): RequestOutcome {
    const seconds = (ms: number) => ((ms - dueMs) / 1000) * this.#facts.speed;
    const whole = answer.kind === 'whole';
    return {
      inputTokens,
      outputTokens: whole ? answer.tokens : 0,
      completed: whole,
      refused: answer.kind === 'refused',
      ttftSeconds: whole ? seconds(answer.firstTokenMs) : Number.POSITIVE_INFINITY,
      e2eSeconds: whole ? seconds(answer.endMs) : Number.POSITIVE_INFINITY,
    };
  }

  async #lookAtDeployment(): Promise<void> {
    // A gateway that restarts is looked at again a moment later.
    const status = await readStatus(this.#options.url).catch(() => null);
    if (status) this.#watch.saw(status.deployment, ((performance.now() - this.#startMs) / 1000) * this.#facts.speed);
  }

  #progress(): TrafficProgress {
    return {
      sent: this.#sent,
      completed: this.#completed,
      refused: this.#refused,
      failed: this.#failed,
      open: this.#open.size,
      outputTokens: this.#outputTokens,
    };
  }

  #report(): TrafficReport {
    const { keepOutcomes = true, slo = DEFAULT_SLO } = this.#options;
    const { emulated, speed } = this.#facts;
    this.#watch.end();
    const outcomes = this.#outcomes.filter((outcome) => outcome !== undefined);
    const spanSeconds = Math.max(0, (this.#lastEndMs - this.#startMs) / 1000) * speed;
    return {
      ...this.#progress(),
      metrics: keepOutcomes ? summarise(outcomes, spanSeconds, slo) : null,
      errors: this.#errors,
      retries: this.#client.retries,
      switches: this.#watch.switches,
      switchSeconds: this.#watch.switchSeconds,
      wallSeconds: (performance.now() - this.#startMs) / 1000,
      latestSeconds: this.#latestMs / 1000,
      emulated,
      speed,
    };
  }
}

function aborted(signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve) => signal?.addEventListener('abort', () => resolve(), { once: true }));
}

function pauseUntil(atMs: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', end);
      resolve();
    };
    const timer = setTimeout(end, Math.max(0, atMs - performance.now()));
    signal?.addEventListener('abort', end);
  });
}

/** The same requests again and again, each round behind the one before; for traffic that does not end. */
export function* repeatTrace(requests: readonly TraceRequest[]): Generator<TraceRequest, void, undefined> {
  if (requests.length === 0) return;
  const first = requests[0]!.arrivalSeconds;
  const last = requests.at(-1)!.arrivalSeconds;
  // The gap between rounds is the mean gap inside one.
  const round = last - first + Math.max((last - first) / requests.length, 1e-3);
  for (let offset = 0; ; offset += round) {
    for (const request of requests) yield { ...request, arrivalSeconds: request.arrivalSeconds + offset };
  }
}
