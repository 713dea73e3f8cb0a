// Times and counts of one request, for the metrics and for the controller.
import type { RequestView } from '../core/domain/index.ts';
import type { InferenceRequest } from './inference-request.ts';
import type { LengthEstimate } from './length-estimate.ts';
import type { GatewayMetrics, RequestSeries } from './metrics.ts';
import type { Observations } from './observations.ts';
import type { GatewayClock } from './options.ts';
import type { StreamProgress } from './stream-progress.ts';

/** How a request ended. `rejected`: an engine refused it as wrong; `refused`: nobody could take it. */
export type Outcome = 'completed' | 'refused' | 'rejected' | 'failed' | 'disconnected';

export interface RecordKeepers {
  readonly clock: GatewayClock;
  readonly metrics: GatewayMetrics;
  readonly observations: Observations;
  readonly lengths: LengthEstimate;
}

export class RequestRecord {
  readonly #keepers: RecordKeepers;
  readonly #request: InferenceRequest;
  readonly #series: RequestSeries;
  /** Real ms at which the whole request was here. */
  readonly #receivedMs = performance.now();
  #firstTokenSeconds = -1;
  #lastTokenSeconds = -1;
  #wasHandedOver = false;

  constructor(keepers: RecordKeepers, request: InferenceRequest) {
    this.#keepers = keepers;
    this.#request = request;
    this.#series = keepers.metrics.series(request.model, request.api);
  }

  /** Given to an engine; only the first time counts. @param queuedMs - waiting so far, real ms. */
  handedOver(queuedMs: number): void {
    if (this.#wasHandedOver) return;
    this.#wasHandedOver = true;
    this.#series.queue.observe((queuedMs / 1000) * this.#keepers.clock.speed);
    this.#series.overhead.observe((performance.now() - this.#receivedMs - queuedMs) / 1000);
  }

  tokensCame(view: RequestView): void {
    const nowSeconds = this.#keepers.clock.nowSeconds();
    if (this.#firstTokenSeconds < 0) {
      this.#firstTokenSeconds = nowSeconds;
      this.#series.ttft.observe(nowSeconds - view.arrivalSeconds);
    } else this.#series.itl.observe(nowSeconds - this.#lastTokenSeconds);
    this.#lastTokenSeconds = nowSeconds;
  }

  /** The whole answer was delivered: its true lengths are known now. */
  completed(view: RequestView, { promptTokens, generated }: StreamProgress): void {
    const { clock, observations, lengths } = this.#keepers;
    const { model, prompt } = this.#request;
    const finishedSeconds = clock.nowSeconds();
    const inputTokens = promptTokens ?? view.inputTokens;
    if (promptTokens !== null && prompt.kind === 'text') lengths.learn(model, prompt.bytes, promptTokens);
    // A whole answer shows its first token when it is all there.
    const firstTokenSeconds = this.#firstTokenSeconds < 0 ? finishedSeconds : this.#firstTokenSeconds;
    observations.finished({
      ...view,
      inputTokens,
      outputTokens: generated,
      finishedSeconds,
      ttftSeconds: firstTokenSeconds - view.arrivalSeconds,
    });
    this.#series.e2e.observe(finishedSeconds - view.arrivalSeconds);
    this.#series.inputTokens.inc(inputTokens);
    this.#series.outputTokens.inc(generated);
  }

  ended(outcome: Outcome): void {
    this.#keepers.metrics.ended(this.#series, this.#request.model, this.#request.api, outcome);
  }
}
