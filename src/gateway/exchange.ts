// One client's request from arrival to end: waiting for a replica, trying engines, passing the answer on, and going on at
// another engine when one dies or is emptied. All of a request's state is here, and every transition is synchronous.
//
//   place ──► waiting ──► running ──► ended
//     ▲ └───────────────────▲ │
//     └──── goOn (cut, engine failed, engine busy): from the start while nothing was delivered, else where it stopped
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { RequestView } from '../core/domain/index.ts';
import { errorBody, HEADER_CONTINUED_TOKENS, HEADER_EMULATED, SSE_DONE, SSE_HEADERS } from '../wire/index.ts';
import { Attempt, type AttemptListener, headerOf } from './attempt.ts';
import { ContinuationScanner, continuationBody, Reframer } from './continuation.ts';
import { EventStreamWriter } from './event-stream-writer.ts';
import type { ExchangeHost } from './exchange-host.ts';
import { failureEvent, failures, type HttpFailure, sendFailure } from './http-errors.ts';
import { API_PATHS, type InferenceRequest } from './inference-request.ts';
import type { RequestSeries } from './metrics.ts';
import type { Replica, ReplicaGuest } from './replica.ts';
import { StreamProgress } from './stream-progress.ts';
import { type SegmentScanner, StreamScanner, type StreamStop, usageCounts, utf8ToLatin1 } from './stream-scanner.ts';

/** Output tokens that a request without a limit must find room for; it may get more, up to what its replica has. */
const ROOM_WITHOUT_LIMIT = 1024;

/** Output tokens that routing assumes of a request without a limit, where the longest replica takes `longest` tokens. */
export const roomWithoutLimit = (inputTokens: number, longest: number): number =>
  Math.max(1, Math.min(ROOM_WITHOUT_LIMIT, longest - inputTokens));

/** How long a replica that answered 503 is left alone when it does not say, real ms. */
const BUSY_MS = 250;
const LONGEST_BUSY_MS = 5000;
/** Engines' words for a prompt that is longer than they take. */
const TOO_LONG = /maximum context length|context_length_exceeded|max_model_len/i;

type Phase = 'waiting' | 'running' | 'ended';
/** How a request ended, for the metrics. */
type Outcome = 'completed' | 'refused' | 'rejected' | 'failed' | 'disconnected';

export class Exchange implements ReplicaGuest, AttemptListener {
  readonly request: InferenceRequest;
  readonly requestId: string;
  readonly #host: ExchangeHost<Exchange>;
  readonly #req: IncomingMessage;
  readonly #res: ServerResponse;
  readonly #engineHeaders: readonly string[];
  readonly #writer: EventStreamWriter;
  readonly #series: RequestSeries;
  /** Real ms at which the whole request was here. */
  readonly #receivedMs: number;
  #view: RequestView;
  #progress = new StreamProgress();
  #phase: Phase = 'waiting';
  #attempt: Attempt | null = null;
  #attemptCount = 0;
  #replica: Replica<Exchange> | null = null;
  /** Tokens counted at the replica for this request. */
  #countedTokens = 0;
  /** Model length of the replica where the stream began: what bounds an output without a limit. */
  #firstMaxModelLen = 0;
  /** Failed tries since the last progress. */
  #failures = 0;
  readonly #avoid = new Set<Replica<Exchange>>();
  #scanner: SegmentScanner | null = null;
  #status = 0;
  #contentType = '';
  #retryAfterMs = BUSY_MS;
  #answer: Buffer[] = [];
  #paused = false;
  #queuedMs = 0;
  #waitDeadlineMs: number | null = null;
  #waitTimer: NodeJS.Timeout | null = null;
  #pingTimer: NodeJS.Timeout | null = null;
  #waitingSinceMs = 0;
  #firstTokenSeconds = -1;
  #lastTokenSeconds = -1;
  /** Real ms of the engine's last sign of life, for the idle check. */
  lastDataMs = 0;

  constructor(
    host: ExchangeHost<Exchange>,
    req: IncomingMessage,
    res: ServerResponse,
    request: InferenceRequest,
    view: RequestView,
    requestId: string,
    engineHeaders: readonly string[],
  ) {
    this.#host = host;
    this.#req = req;
    this.#res = res;
    this.#writer = new EventStreamWriter(res);
    this.request = request;
    this.requestId = requestId;
    this.#view = view;
    this.#engineHeaders = engineHeaders;
    this.#series = host.metrics.series(request.model, request.api);
    this.#receivedMs = performance.now();
  }

  get model(): string {
    return this.request.model;
  }

  get isRunning(): boolean {
    return this.#phase === 'running';
  }

  /** In the middle of a stream: a long silence now means that the engine hangs. */
  get isStreaming(): boolean {
    return this.#phase === 'running' && this.#progress.generated > 0 && !this.#paused;
  }

  /** What the controller may know of a request that runs. */
  get running(): RequestView & { readonly generatedTokens: number } {
    return { ...this.#view, generatedTokens: this.#progress.generated };
  }

  start(): void {
    this.#res.on('close', () => this.#clientClosed());
    this.#res.on('error', () => this.#clientClosed());
    this.#place();
  }

  // ── choosing and waiting ────────────────────────────────────────────────────────────────────────────────────────

  tryStart(): 'started' | 'blocked' | 'does-not-fit' {
    const choice = this.#host.replicas.choose(this.#placementView(), this.#avoid);
    if (choice.kind !== 'replica') return choice.kind;
    this.#run(choice.replica);
    return 'started';
  }

  #placementView(): RequestView {
    const progress = this.#progress;
    if (!progress.delivered) return this.#view;
    const inputTokens = (progress.promptTokens ?? this.#view.inputTokens) + progress.generated;
    const remaining = this.#remaining();
    const maxTokens =
      this.request.maxTokens === null
        ? Math.min(remaining, roomWithoutLimit(inputTokens, this.#host.replicas.longestAdmitted(this.model)))
        : remaining;
    return { ...this.#view, inputTokens, maxTokens };
  }

  /** Output tokens that may still come. */
  #remaining(): number {
    const { promptTokens, generated } = this.#progress;
    return (this.request.maxTokens ?? this.#firstMaxModelLen - (promptTokens ?? 0)) - generated;
  }

  #place(): void {
    if (this.tryStart() === 'started') return;
    const { queue, options, clock } = this.#host;
    const wasCut = this.#progress.delivered;
    if (!wasCut && queue.isFull) {
      this.#fail(failures.queueFull(queue.length), 'refused');
      return;
    }
    this.#phase = 'waiting';
    queue.add(this, wasCut);
    const nowMs = performance.now();
    this.#waitingSinceMs = nowMs;
    this.#waitDeadlineMs ??= nowMs + Math.max(options.shortestWaitMs, clock.realMs(options.queueTimeoutSeconds));
    this.#waitTimer = setTimeout(() => this.#waitedTooLong(), Math.max(0, this.#waitDeadlineMs - nowMs));
    if (this.request.stream) {
      this.#pingTimer = setInterval(() => this.#write(': keep-alive\n\n'), options.pingSeconds * 1000);
    }
  }

  #waitedTooLong(): void {
    this.#leaveQueue();
    const seconds = Math.round((performance.now() - this.#waitingSinceMs) / 1000);
    this.#fail(failures.waitedTooLong(seconds), this.#progress.delivered ? 'failed' : 'refused');
  }

  #leaveQueue(): void {
    this.#host.queue.remove(this);
    if (this.#waitTimer !== null) {
      this.#queuedMs += performance.now() - this.#waitingSinceMs;
      clearTimeout(this.#waitTimer);
    }
    if (this.#pingTimer !== null) clearInterval(this.#pingTimer);
    this.#waitTimer = null;
    this.#pingTimer = null;
  }

  // ── trying an engine ────────────────────────────────────────────────────────────────────────────────────────────

  #run(replica: Replica<Exchange>): void {
    this.#leaveQueue();
    const { clock, replicas } = this.#host;
    const continues = this.#progress.delivered;
    this.#phase = 'running';
    this.#replica = replica;
    this.#scanner = null;
    this.#status = 0;
    this.#answer = [];
    this.#countedTokens = this.#view.inputTokens + this.#progress.generated;
    this.lastDataMs = performance.now();
    replicas.enter(replica, this, this.#countedTokens);
    if (!continues) this.#firstMaxModelLen = replica.info.maxModelLen;
    if (this.#attemptCount++ === 0) {
      this.#series.queue.observe((this.#queuedMs / 1000) * clock.speed);
      this.#series.overhead.observe((performance.now() - this.#receivedMs - this.#queuedMs) / 1000);
    }
    const room = replica.info.maxModelLen - (this.#progress.promptTokens ?? 0) - this.#progress.generated;
    // Engines name requests by this id: a second try at the same engine must not meet the first one's remains.
    const id = this.#attemptCount === 1 ? this.requestId : `${this.requestId}-${this.#attemptCount}`;
    const headers = [...this.#engineHeaders, 'x-request-id', id];
    if (continues) headers.push(HEADER_CONTINUED_TOKENS, String(this.#progress.generated));
    this.#attempt = new Attempt(this);
    this.#attempt.send(replica.pool, {
      path: continues ? API_PATHS.completions : API_PATHS[this.request.api],
      method: 'POST',
      headers,
      body: continues
        ? continuationBody(this.request, this.#progress, Math.min(this.#remaining(), room))
        : this.request.forwardBody,
    });
  }

  onHead(status: number, rawHeaders: readonly Buffer[]): void {
    this.#status = status;
    this.#contentType = headerOf(rawHeaders, 'content-type') ?? 'application/json';
    if (status === 200 && this.request.stream && this.#contentType.startsWith('text/event-stream')) {
      const Scanner = this.#progress.delivered ? ContinuationScanner : StreamScanner;
      this.#scanner = new Scanner(this.request, this.#progress);
    } else if (status === 429 || status === 503) {
      const seconds = Number(headerOf(rawHeaders, 'retry-after'));
      this.#retryAfterMs = seconds > 0 ? Math.min(LONGEST_BUSY_MS, seconds * 1000) : BUSY_MS;
    }
  }

  onData(chunk: Buffer): boolean {
    if (this.#scanner === null) {
      this.#answer.push(chunk);
      this.#host.hold(chunk.length);
      return true;
    }
    this.lastDataMs = performance.now();
    const before = this.#progress.generated;
    const out = this.#scanner.feed(chunk);
    const fresh = this.#progress.generated - before;
    if (fresh > 0) this.#tokensCame(fresh);
    if (out.length > 0) this.#write(out);
    if (this.#scanner.stopped !== null) this.#engineStopped(this.#scanner.stopped);
    return !this.#paused;
  }

  #tokensCame(count: number): void {
    const nowSeconds = this.#host.clock.nowSeconds();
    if (this.#firstTokenSeconds < 0) {
      this.#firstTokenSeconds = nowSeconds;
      this.#series.ttft.observe(nowSeconds - this.#view.arrivalSeconds);
    } else this.#series.itl.observe(nowSeconds - this.#lastTokenSeconds);
    this.#lastTokenSeconds = nowSeconds;
    this.#countedTokens += count;
    this.#failures = 0;
    this.#waitDeadlineMs = null;
    if (this.#replica !== null) this.#host.replicas.grow(this.#replica, count);
  }

  onEnd(): void {
    if (this.#scanner === null) {
      this.#answered();
      return;
    }
    if (this.#progress.done) {
      this.#complete();
      return;
    }
    this.onFailure(new Error('the engine ended the stream before [DONE]'));
  }

  onFailure(error: Error): void {
    this.#host.log.warn(
      { replica: this.#replica?.info.id, request: this.requestId, why: error.message },
      'an engine broke off',
    );
    this.#engineFailed('connection');
  }

  // ── what an engine's end means ──────────────────────────────────────────────────────────────────────────────────

  #engineStopped(stop: StreamStop): void {
    this.#attempt?.cancel();
    if (stop.kind === 'aborted') {
      this.#goOn('engine-aborted');
      return;
    }
    if (stop.kind === 'error' && isClientError(stop.json)) {
      this.#write(utf8ToLatin1(`data: ${stop.json}\n\n`));
      this.#end('rejected');
      return;
    }
    this.#host.log.warn(
      { replica: this.#replica?.info.id, request: this.requestId, why: stop.kind === 'error' ? stop.json : stop.why },
      'an engine failed in the middle of a stream',
    );
    this.#engineFailed('status');
  }

  /** A whole answer that is no stream, of any status. */
  #answered(): void {
    const body = Buffer.concat(this.#answer);
    const replica = this.#replica;
    if (this.#status === 503 || this.#status === 429) {
      if (replica !== null) this.#host.replicas.busyFor(replica, this.#retryAfterMs);
      this.#goOn('engine-busy');
      return;
    }
    if (this.#status >= 500) {
      this.#engineFailed('status');
      return;
    }
    if (this.#progress.delivered) {
      // A continuation that was not streamed or was refused: no fault of the engine's, but no use either.
      this.#failures++;
      if (replica !== null) this.#avoid.add(replica);
      this.#goOn('continuation-refused');
      return;
    }
    if (this.#status === 400 && this.#isTooLongHere(body)) {
      this.#goOn('prompt-too-long-there');
      return;
    }
    replica?.succeeded();
    this.#passAnswer(body);
  }

  /** The estimate of a text prompt was too small for this replica, and a larger one may take it. */
  #isTooLongHere(body: Buffer): boolean {
    const { prompt, maxTokens, model } = this.request;
    const here = this.#replica?.info.maxModelLen ?? 0;
    if (prompt.kind === 'tokens' || !TOO_LONG.test(body.toString('utf8'))) return false;
    const larger = this.#host.replicas.admitted.some((r) => r.info.model === model && r.info.maxModelLen > here);
    if (larger) this.#view = { ...this.#view, inputTokens: here - (maxTokens ?? 1) + 1, maxTokens: maxTokens ?? 1 };
    return larger;
  }

  #passAnswer(body: Buffer): void {
    const ok = this.#status < 400;
    const text = body.toString('latin1');
    if (ok) {
      const counts = usageCounts(text);
      if (counts !== null) {
        this.#progress.promptTokens = counts.promptTokens;
        this.#progress.generated = counts.completionTokens;
      }
    }
    if (this.#res.headersSent) this.#write(`data: ${text}\n\n`);
    else {
      const isShaped = ok || text.includes('"error"');
      const shown = isShaped ? text : refusalInOurShape(body, this.#status);
      this.#res.writeHead(this.#status, {
        ...this.#ownHeaders(),
        'content-type': isShaped ? this.#contentType : 'application/json',
        'content-length': shown.length,
      });
      // As text: Node then puts head and body into one write.
      this.#res.end(shown, 'latin1');
    }
    if (ok) this.#complete();
    else this.#end('rejected');
  }

  #engineFailed(kind: 'connection' | 'status'): void {
    this.#failures++;
    if (this.#replica !== null) {
      this.#host.replicas.failed(this.#replica, kind);
      this.#avoid.add(this.#replica);
    }
    this.#goOn('engine-failed');
  }

  /** For emptying a replica: leaves it if the request can be finished elsewhere. */
  cut(): boolean {
    if (this.#phase !== 'running') return false;
    const { delivered, finished, done } = this.#progress;
    if (finished || done) return false;
    if (delivered && this.#whyStuck() !== null) return false;
    // Part of a whole answer is here: the rest is on its way.
    if (!delivered && this.#scanner === null && this.#attempt?.hasHead === true) return false;
    this.#goOn('evacuated');
    return true;
  }

  #whyStuck(): string | null {
    if (this.request.notContinuable !== null) return this.request.notContinuable;
    if (this.#progress.promptItems === null) return 'its engine tells no token ids';
    return this.#progress.otherOutput ? 'reasoning or tool calls' : null;
  }

  /** Leaves the replica and finishes the request elsewhere, or ends it. What was delivered stays delivered. */
  #goOn(reason: string): void {
    const { metrics, options } = this.#host;
    const progress = this.#progress;
    this.#attempt?.cancel();
    this.#leaveReplica();
    // A busy engine took nothing: the wait goes on. Else it begins anew.
    if (reason !== 'engine-busy') this.#waitDeadlineMs = null;
    if (progress.done) {
      this.#complete();
      return;
    }
    if (progress.finished) {
      this.#completeByOurselves();
      return;
    }
    if (this.#failures >= options.maxTries) {
      this.#fail(failures.engineFailed(this.#failures), 'failed');
      return;
    }
    if (!progress.delivered) {
      this.#progress = new StreamProgress();
      metrics.retried(reason);
      this.#place();
      return;
    }
    const why = this.#whyStuck();
    if (why !== null) {
      metrics.interrupted(reason);
      this.#fail(failures.interrupted(why), 'failed');
      return;
    }
    // The client has seen the ids of these tokens itself: they cannot be made again.
    if (!this.request.wantsIds) progress.dropUntexted();
    if (this.#remaining() <= 0) {
      this.#completeByOurselves();
      return;
    }
    metrics.continued(reason);
    this.#place();
  }

  // ── the client ──────────────────────────────────────────────────────────────────────────────────────────────────

  #ownHeaders(): Record<string, string> {
    const headers: Record<string, string> = { 'x-request-id': this.requestId };
    if (this.#host.options.emulated) headers[HEADER_EMULATED] = 'true';
    if (this.#req.headers['x-oserve-debug'] !== undefined) {
      headers['x-oserve-replica'] = this.#replica?.info.id ?? '';
      headers['x-oserve-layout'] = this.#replica?.info.classKey ?? '';
      headers['x-oserve-routing-version'] = String(this.#host.replicas.update?.version ?? 0);
      headers['x-oserve-queue-duration-ms'] = this.#queuedMs.toFixed(3);
      if (this.request.maxTokens === null && this.#replica !== null)
        headers['x-oserve-max-tokens'] =
          `model length of the replica (${this.#replica.info.maxModelLen}) less the prompt`;
    }
    return headers;
  }

  /** @param data - text is latin1. */
  #write(data: Buffer | string): void {
    const res = this.#res;
    if (!res.headersSent) res.writeHead(200, { ...SSE_HEADERS, ...this.#ownHeaders() });
    if (this.#writer.write(data) || this.#paused) return;
    this.#paused = true;
    this.#writer.onDrain(() => {
      this.#paused = false;
      this.lastDataMs = performance.now();
      this.#attempt?.resume();
    });
  }

  /** All output was delivered, but the engine died before it said the rest. */
  #completeByOurselves(): void {
    const progress = this.#progress;
    const reframer = new Reframer(this.request, progress);
    let rest = progress.finished ? '' : reframer.choice('', 'length', undefined, [], null);
    if (this.request.wantsUsage && !progress.usageDelivered) rest += reframer.ownUsage();
    this.#write(utf8ToLatin1(rest + SSE_DONE));
    this.#complete();
  }

  #complete(): void {
    const { clock, lengths, observations } = this.#host;
    const { promptTokens, generated } = this.#progress;
    this.#replica?.succeeded();
    const finishedSeconds = clock.nowSeconds();
    const view = this.#view;
    const inputTokens = promptTokens ?? view.inputTokens;
    if (promptTokens !== null && this.request.prompt.kind === 'text')
      lengths.learn(this.model, this.request.prompt.bytes, promptTokens);
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
    this.#end('completed');
  }

  #fail(problem: HttpFailure, outcome: Outcome): void {
    if (this.#res.headersSent) this.#write(utf8ToLatin1(failureEvent(problem)));
    else sendFailure(this.#res, problem, this.requestId);
    this.#end(outcome);
  }

  /** The engine was silent for too long in the middle of the stream. */
  engineHangs(): void {
    this.onFailure(new Error('the engine is silent'));
  }

  /** The gateway closes: nothing more can be done for this request. */
  terminate(): void {
    if (this.#phase !== 'ended') this.#fail(failures.shuttingDown(), 'failed');
  }

  #clientClosed(): void {
    if (this.#phase !== 'ended') this.#end('disconnected');
  }

  #leaveReplica(): void {
    for (const chunk of this.#answer) this.#host.hold(-chunk.length);
    this.#answer = [];
    if (this.#replica !== null) this.#host.replicas.leave(this.#replica, this, this.#countedTokens);
    this.#replica = null;
  }

  #end(outcome: Outcome): void {
    if (this.#phase === 'ended') return;
    this.#phase = 'ended';
    this.#attempt?.cancel();
    this.#leaveQueue();
    this.#leaveReplica();
    if (!this.#res.writableEnded) this.#res.end();
    this.#host.metrics.ended(this.#series, this.model, this.request.api, outcome);
    this.#host.ended(this);
  }
}

/** An engine's error event that is the request's fault: another engine would say the same. */
function isClientError(json: string): boolean {
  try {
    const code = (JSON.parse(json) as { error?: { code?: unknown } }).error?.code;
    return typeof code === 'number' && code >= 400 && code < 500 && code !== 429;
  } catch {
    // Not JSON: an engine in trouble.
    return false;
  }
}

/** An answer that is no OpenAI error, as one; latin1. */
const refusalInOurShape = (body: Buffer, status: number): string =>
  utf8ToLatin1(
    JSON.stringify(
      errorBody(
        body.toString('utf8').slice(0, 2000) || `The engine answered ${status}.`,
        'invalid_request_error',
        null,
        status,
      ),
    ),
  );
