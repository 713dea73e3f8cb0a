// Traffic made from fitted services, with a mix that drifts: what `oserve trace generate` writes and what a pool under
// `--traffic generated` is fed with. Everything follows from the seed; each service has streams of its own, so that more of
// one service changes nothing in another.
import { ConfigError, type Random, type TraceRequest } from '../../core/domain/index.ts';
import { drawFromMixture, normal, poissonCount, random } from '../../core/math/index.ts';
import type { ServiceModel } from './fit-service.ts';
import { SERVICES, type ServiceName } from './services.ts';

/** Weight of each service; a service's rate is `ratePerSecond` × its weight. Weights need not sum to 1. */
export type ServiceMix = Readonly<Partial<Record<ServiceName, number>>>;

export interface GeneratorOptions {
  readonly seed: number | string;
  /** requests/s that a weight of 1 stands for. */
  readonly ratePerSecond: number;
  /** The mix at the start, and that half a period later; chat that gives way to code by default. */
  readonly from?: ServiceMix;
  readonly to?: ServiceMix;
  /** From one mix to the other and back; 20. */
  readonly periodMinutes?: number;
  /** How much of the services' own wandering from minute to minute is kept: 1 all of it (default), 0 a steady Poisson. */
  readonly variation?: number;
}

export interface TraceGeneratorOptions extends GeneratorOptions {
  readonly minutes: number;
}

/**
 * The drift that is used when none is asked for: both ends are about as much work, of quite another kind. By the fitted
 * profile, 16 H100 with LLaMA2-70B carry 36 requests/s of `chat` as 4xTP4 and 24 as 4xTP1PP4, but of `code` 27 and 38.
 */
export const DEFAULT_FROM: ServiceMix = { chat: 1, code: 0.05 };
export const DEFAULT_TO: ServiceMix = { chat: 0.05, code: 1 };

/** All requests of the first `minutes`, sorted by arrival. */
export function generateTrace(options: TraceGeneratorOptions): TraceRequest[] {
  if (!(options.minutes > 0 && Number.isFinite(options.minutes)))
    throw new ConfigError(`A trace of ${options.minutes} minutes cannot be made; give a number above 0.`);
  const requests: TraceRequest[] = [];
  for (const request of generateRequests(options)) {
    if (request.arrivalSeconds >= options.minutes * 60) break;
    requests.push(request);
  }
  return requests;
}

/** The same traffic without an end, as it arrives. */
export function* generateRequests(options: GeneratorOptions): Generator<TraceRequest, never, undefined> {
  const sources = trafficSources(options);
  for (let second = 0; ; second++) {
    const arrivals = sources.flatMap((source) => source.requestsOf(second));
    // Ties in time keep the order of the services' names.
    yield* arrivals.sort((a, b) => a.arrivalSeconds - b.arrivalSeconds);
  }
}

/**
 * How far the mix has gone from `from` (0) to `to` (1): it stays at either end for almost a third of the period and moves
 * in between, so that each end is a workload of its own and not just a turning point.
 */
export function driftShare(seconds: number, periodMinutes: number): number {
  const wave = 0.5 - 0.9 * Math.cos((2 * Math.PI * seconds) / (60 * periodMinutes));
  return Math.min(1, Math.max(0, wave));
}

function trafficSources(options: GeneratorOptions): TrafficSource[] {
  const { ratePerSecond, periodMinutes = 20, variation = 1, from = DEFAULT_FROM, to = DEFAULT_TO } = options;
  const expectPositive = (name: string, value: number): void => {
    if (!(value > 0 && Number.isFinite(value))) throw new ConfigError(`${name} is ${value}; give a number above 0.`);
  };
  expectPositive('The rate of generated traffic', ratePerSecond);
  expectPositive('The period of the drift', periodMinutes);
  if (!(variation >= 0 && variation <= 1)) throw new ConfigError(`The variation is ${variation}; give a number 0..1.`);
  const names = [...new Set([...Object.keys(from), ...Object.keys(to)])].sort().map(serviceName);
  for (const name of names)
    for (const weight of [from[name] ?? 0, to[name] ?? 0])
      if (!(weight >= 0 && Number.isFinite(weight)))
        throw new ConfigError(`The weight of ${name} is ${weight}; give a number of 0 or more.`);
  if (names.every((name) => (from[name] ?? 0) + (to[name] ?? 0) === 0))
    throw new ConfigError('The mix of generated traffic is empty; give a service a weight above 0.');
  const root = random(options.seed).fork('traffic');
  return names.map((name) => {
    const rateAt = (seconds: number): number => {
      const share = driftShare(seconds, periodMinutes);
      return ratePerSecond * ((1 - share) * (from[name] ?? 0) + share * (to[name] ?? 0));
    };
    return new TrafficSource(name, SERVICES[name], rateAt, variation, root.fork(name));
  });
}

/** Checks a name that came from outside. */
export function serviceName(name: string): ServiceName {
  if (!Object.hasOwn(SERVICES, name))
    throw new ConfigError(`There is no service "${name}" to generate traffic of.`, {
      hint: `Services are ${Object.keys(SERVICES).join(', ')}.`,
    });
  return name as ServiceName;
}

/** One service's requests, second by second in order. */
class TrafficSource {
  readonly #name: ServiceName;
  readonly #service: ServiceModel;
  readonly #rateAt: (seconds: number) => number;
  readonly #sigma: number;
  readonly #minutes: Random;
  readonly #counts: Random;
  readonly #times: Random;
  readonly #lengths: Random;
  readonly #point = new Float64Array(2);
  /** Where the rate's slow wandering stands: normal with variance 1, a step a minute. */
  #wander: number;

  constructor(
    name: ServiceName,
    service: ServiceModel,
    rateAt: (seconds: number) => number,
    variation: number,
    stream: Random,
  ) {
    this.#name = name;
    this.#service = service;
    this.#rateAt = rateAt;
    this.#sigma = service.minuteSigma * variation;
    this.#minutes = stream.fork('minutes');
    this.#counts = stream.fork('counts');
    this.#times = stream.fork('times');
    this.#lengths = stream.fork('lengths');
    this.#wander = normal(this.#minutes);
  }

  requestsOf(second: number): TraceRequest[] {
    if (second > 0 && second % 60 === 0) {
      const { minuteCorrelation: kept } = this.#service;
      this.#wander = kept * this.#wander + Math.sqrt(1 - kept * kept) * normal(this.#minutes);
    }
    // A log-normal factor of mean 1.
    const factor = Math.exp(this.#sigma * this.#wander - this.#sigma ** 2 / 2);
    const count = poissonCount(this.#counts, this.#rateAt(second) * factor);
    return Array.from({ length: count }, () => this.#request(second + this.#times.next()));
  }

  #request(arrivalSeconds: number): TraceRequest {
    drawFromMixture(this.#lengths, this.#service.lengths, this.#point);
    const tokens = (log: number, [smallest, largest]: readonly [number, number]): number =>
      Math.min(largest, Math.max(smallest, Math.round(Math.exp(log))));
    return {
      // Microseconds are exact enough, and what is written to a file reads back equal.
      arrivalSeconds: Math.round(arrivalSeconds * 1e6) / 1e6,
      inputTokens: tokens(this.#point[0]!, this.#service.inputTokens),
      outputTokens: tokens(this.#point[1]!, this.#service.outputTokens),
      tenant: this.#name,
    };
  }
}
