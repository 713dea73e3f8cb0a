// The metrics of an engine under vLLM's names, so that dashboards and control planes read an emulated engine as they read
// a real one. Seconds are emulated seconds.
import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { FinishReason } from '../wire/index.ts';

/** What the gauges show; read when they are scraped. */
export interface EngineGauges {
  readonly runningCount: number;
  readonly waitingCount: number;
  readonly kvUsedShare: number;
  readonly preemptionCount: number;
}

/** One request in the engine; times in emulated seconds. */
export interface RequestTimes {
  readonly inputTokens: number;
  readonly arrivalSeconds: number;
  generatedTokens: number;
  firstTokenSeconds: number;
  lastTokenSeconds: number;
}

export interface EngineMetricsOptions {
  readonly modelName: string;
  readonly kvBlocks: number;
  readonly kvBlockTokens: number;
  readonly gauges: () => EngineGauges;
}

// vLLM's buckets.
const FIRST_TOKEN = [
  0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560,
];
const EACH_TOKEN = [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80];
const REQUEST = [0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680];
const TOKENS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000];

export class EngineMetrics {
  readonly registry = new Registry();
  readonly #prompt: Counter;
  readonly #generated: Counter;
  readonly #success: Counter;
  readonly #firstToken: Histogram;
  readonly #eachToken: Histogram;
  readonly #meanToken: Histogram;
  readonly #request: Histogram;
  readonly #decode: Histogram;
  readonly #promptLength: Histogram;
  readonly #outputLength: Histogram;

  constructor({ modelName, kvBlocks, kvBlockTokens, gauges }: EngineMetricsOptions) {
    const registers = [this.registry];
    this.registry.setDefaultLabels({ model_name: modelName, engine: '0' });
    const histogram = (name: string, help: string, buckets: number[]) =>
      new Histogram({ name: `vllm:${name}`, help, buckets, registers });
    const counter = (name: string, help: string, labelNames: string[] = []) =>
      new Counter({ name: `vllm:${name}`, help, labelNames, registers });
    const gauge = (name: string, help: string, value: (now: EngineGauges) => number) =>
      new Gauge({
        name: `vllm:${name}`,
        help,
        registers,
        collect() {
          this.set(value(gauges()));
        },
      });

    gauge('num_requests_running', 'Requests in the running batches.', (now) => now.runningCount);
    gauge('num_requests_waiting', 'Requests waiting to be scheduled.', (now) => now.waitingCount);
    gauge('kv_cache_usage_perc', 'KV cache usage, 1 means all blocks.', (now) => now.kvUsedShare);
    gauge('engine_sleep_state', 'Sleep state; an emulated engine that answers is awake.', () => 0);
    new Gauge({
      name: 'vllm:cache_config_info',
      help: 'Block size and number of blocks.',
      labelNames: ['block_size', 'num_gpu_blocks'],
      registers,
    }).set({ block_size: String(kvBlockTokens), num_gpu_blocks: String(kvBlocks) }, 1);

    let preemptionsSeen = 0;
    new Counter({
      name: 'vllm:num_preemptions_total',
      help: 'Requests that lost their KV blocks and were computed again.',
      registers,
      collect() {
        const { preemptionCount } = gauges();
        this.inc(preemptionCount - preemptionsSeen);
        preemptionsSeen = preemptionCount;
      },
    });
    this.#prompt = counter('prompt_tokens_total', 'Prompt tokens computed.');
    this.#generated = counter('generation_tokens_total', 'Tokens generated.');
    this.#success = counter('request_success_total', 'Requests that ended, by reason.', ['finished_reason']);
    for (const finished_reason of ['stop', 'length', 'abort']) this.#success.inc({ finished_reason }, 0);
    this.#firstToken = histogram('time_to_first_token_seconds', 'Seconds to the first token.', FIRST_TOKEN);
    this.#eachToken = histogram('inter_token_latency_seconds', 'Seconds between two tokens.', EACH_TOKEN);
    this.#meanToken = histogram('request_time_per_output_token_seconds', 'Mean seconds per later token.', EACH_TOKEN);
    this.#request = histogram('e2e_request_latency_seconds', 'Seconds from arrival to the last token.', REQUEST);
    this.#decode = histogram('request_decode_time_seconds', 'Seconds from first to last token.', REQUEST);
    this.#promptLength = histogram('request_prompt_tokens', 'Prompt tokens of a request.', TOKENS);
    this.#outputLength = histogram('request_generation_tokens', 'Generated tokens of a request.', TOKENS);
  }

  firstToken(promptTokens: number, seconds: number): void {
    this.#prompt.inc(promptTokens);
    this.#generated.inc();
    this.#firstToken.observe(seconds);
  }

  laterToken(seconds: number): void {
    this.#generated.inc();
    this.#eachToken.observe(seconds);
  }

  completed({ inputTokens, arrivalSeconds, firstTokenSeconds, lastTokenSeconds, generatedTokens }: RequestTimes): void {
    this.#request.observe(lastTokenSeconds - arrivalSeconds);
    this.#decode.observe(lastTokenSeconds - firstTokenSeconds);
    this.#promptLength.observe(inputTokens);
    this.#outputLength.observe(generatedTokens);
    if (generatedTokens > 1) {
      this.#meanToken.observe((lastTokenSeconds - firstTokenSeconds) / (generatedTokens - 1));
    }
  }

  ended(reason: FinishReason): void {
    this.#success.inc({ finished_reason: reason });
  }
}
