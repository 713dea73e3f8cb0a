// The gateway's Prometheus metrics, all `oserve_…`. Labels are bounded: models of this pool, API, outcome, status class.
// Seconds are pool time, but for the overhead, which is what our own process adds, in real time.
import { Counter, Gauge, Registry } from 'prom-client';
import { FastHistogram, type HistogramSeries } from './histogram.ts';
import type { Api } from './inference-request.ts';

const LONG_SECONDS = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640];
const TOKEN_SECONDS = [0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2, 5];
const OVERHEAD_SECONDS = [0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 1];

/** Series of one model and API, looked up once per request. */
export interface RequestSeries {
  readonly ttft: HistogramSeries;
  readonly itl: HistogramSeries;
  readonly e2e: HistogramSeries;
  readonly queue: HistogramSeries;
  readonly overhead: HistogramSeries;
  readonly inputTokens: Counter.Internal;
  readonly outputTokens: Counter.Internal;
  readonly finished: Map<string, Counter.Internal>;
}

/** Current values that are read when the metrics are. */
export interface GaugeSources {
  readonly inFlight: () => number;
  readonly queued: () => number;
  readonly heldBytes: () => number;
  readonly routingVersion: () => number;
  readonly observationsDropped: () => number;
  readonly replicas: () => readonly {
    readonly id: string;
    readonly running: number;
    readonly available: boolean;
  }[];
}

export class GatewayMetrics {
  readonly registry = new Registry();
  readonly #requests: Counter;
  readonly #tokens: Counter;
  readonly #retries: Counter;
  readonly #continued: Counter;
  readonly #interrupted: Counter;
  readonly #ttft: FastHistogram;
  readonly #itl: FastHistogram;
  readonly #e2e: FastHistogram;
  readonly #queue: FastHistogram;
  readonly #overhead: FastHistogram;
  readonly #series = new Map<string, RequestSeries>();

  constructor(sources: GaugeSources) {
    const registers = [this.registry];
    const counter = (name: string, help: string, labelNames: string[]) =>
      new Counter({ name, help, labelNames, registers });
    this.#requests = counter('oserve_requests_total', 'Requests that ended, by outcome.', ['model', 'api', 'outcome']);
    this.#tokens = counter('oserve_tokens_total', 'Tokens of requests that completed.', ['model', 'kind']);
    this.#retries = counter('oserve_retries_total', 'Requests run again elsewhere from the start.', ['reason']);
    this.#continued = counter('oserve_streams_continued_total', 'Streams that went on at another replica.', ['reason']);
    this.#interrupted = counter('oserve_streams_interrupted_total', 'Streams cut before their end.', ['reason']);
    const histogram = (name: string, help: string, bounds: readonly number[]) =>
      new FastHistogram(this.registry, name, help, bounds);
    this.#ttft = histogram('oserve_request_ttft_seconds', 'From arrival to the first token.', LONG_SECONDS);
    this.#itl = histogram('oserve_request_itl_seconds', 'Between events with tokens of one stream.', TOKEN_SECONDS);
    this.#e2e = histogram('oserve_request_e2e_seconds', 'From arrival to the last token.', LONG_SECONDS);
    this.#queue = histogram('oserve_request_queue_seconds', 'Waiting at the gateway for a replica.', LONG_SECONDS);
    this.#overhead = histogram(
      'oserve_gateway_overhead_seconds',
      'Real time from the whole request to its hand-over to an engine, waiting left out.',
      OVERHEAD_SECONDS,
    );
    const gauge = (name: string, help: string, read: () => number) =>
      new Gauge({
        name,
        help,
        registers,
        collect: function collect() {
          this.set(read());
        },
      });
    gauge('oserve_requests_in_flight', 'Requests at replicas.', sources.inFlight);
    gauge('oserve_requests_queued', 'Requests that wait for a replica.', sources.queued);
    gauge('oserve_gateway_held_bytes', 'Bytes of requests and answers held in memory.', sources.heldBytes);
    gauge('oserve_routing_version', 'Version of the routing table in use.', sources.routingVersion);
    gauge(
      'oserve_observations_dropped',
      'Observations that no controller read before they were dropped.',
      sources.observationsDropped,
    );
    new Gauge({
      name: 'oserve_replica_requests',
      help: 'Requests at each replica.',
      labelNames: ['replica'],
      registers,
      collect() {
        this.reset();
        for (const { id, running } of sources.replicas()) this.set({ replica: id }, running);
      },
    });
    new Gauge({
      name: 'oserve_replica_available',
      help: '1: takes requests; 0: down, busy, or being emptied.',
      labelNames: ['replica'],
      registers,
      collect() {
        this.reset();
        for (const { id, available } of sources.replicas()) this.set({ replica: id }, available ? 1 : 0);
      },
    });
  }

  series(model: string, api: Api): RequestSeries {
    const key = `${api} ${model}`;
    let series = this.#series.get(key);
    if (series === undefined) {
      const labels = { model, api };
      series = {
        ttft: this.#ttft.series(labels),
        itl: this.#itl.series(labels),
        e2e: this.#e2e.series(labels),
        queue: this.#queue.series(labels),
        overhead: this.#overhead.series(labels),
        inputTokens: this.#tokens.labels({ model, kind: 'input' }),
        outputTokens: this.#tokens.labels({ model, kind: 'output' }),
        finished: new Map(),
      };
      this.#series.set(key, series);
    }
    return series;
  }

  /** @param outcome - `completed`, `refused`, `disconnected`, `failed`, or a 4xx status. */
  ended(series: RequestSeries | null, model: string, api: Api, outcome: string): void {
    let counter = series?.finished.get(outcome);
    if (counter === undefined) {
      counter = this.#requests.labels({ model, api, outcome });
      series?.finished.set(outcome, counter);
    }
    counter.inc();
  }

  retried(reason: string): void {
    this.#retries.inc({ reason });
  }

  continued(reason: string): void {
    this.#continued.inc({ reason });
  }

  interrupted(reason: string): void {
    this.#interrupted.inc({ reason });
  }
}
