// One client's request from arrival to end: waiting for a replica, trying engines, passing the answer on, and going on at
// another engine when one dies or is emptied. All of a request's state is here, and every transition is synchronous.
//
//   place ──► waiting ──► running ──► ended
//     ▲ └───────────────────▲ │
//     └──── goOn (cut, engine failed, engine busy): from the start while nothing was delivered, else where it stopped
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { RequestView } from '../core/domain/index.ts';
import { answerHeaders } from './answer-headers.ts';
import { Attempt, type AttemptListener } from './attempt.ts';
import { type ClientListener, ClientSide } from './client-side.ts';
import { ContinuationScanner, closingEvents } from './continuation.ts';
import { continuationCall, type EngineHead, firstCall, isClientError, isGivenUp, readHead } from './engine-call.ts';
import type { ExchangeHost } from './exchange-host.ts';
import { failures, type HttpFailure } from './http-errors.ts';
import type { InferenceRequest } from './inference-request.ts';
import { remainingTokens, viewForLarger, viewOfRest } from './placement.ts';
import type { Replica, ReplicaGuest } from './replica.ts';
import { type Outcome, RequestRecord } from './request-record.ts';
import { StreamProgress } from './stream-progress.ts';
import { type SegmentScanner, StreamScanner, type StreamStop, usageCounts } from './stream-scanner.ts';
import { Wait } from './wait.ts';

type Phase = 'waiting' | 'running' | 'ended';

/** A request as it came. */
export interface Arrival {
  readonly req: IncomingMessage;
  readonly res: ServerResponse;
  readonly request: InferenceRequest;
  readonly requestId: string;
  /** Names and values, by turns, of what engines get besides their own. */
  readonly engineHeaders: readonly string[];
  readonly view: RequestView;
}

export class Exchange implements ReplicaGuest, AttemptListener, ClientListener {
  readonly #host: ExchangeHost<Exchange>;
  readonly #arrival: Arrival;
  readonly #client: ClientSide;
  readonly #record: RequestRecord;
  readonly #wait: Wait;
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
  /** Failed tries since the last progress, and how far the text was then. */
  #failures = 0;
  #progressMark = 0;
  readonly #avoid = new Set<Replica<Exchange>>();
  #scanner: SegmentScanner | null = null;
  #head: EngineHead | null = null;
  #answer: Buffer[] = [];
  /** Real ms of the engine's last sign of life, for the idle check. */
  lastDataMs = 0;

  constructor(host: ExchangeHost<Exchange>, arrival: Arrival) {
    this.#host = host;
    this.#arrival = arrival;
    this.#view = arrival.view;
    this.#client = new ClientSide(arrival.res, this);
    this.#record = new RequestRecord(host, arrival.request);
    const { queueTimeoutSeconds, shortestWaitMs } = host.options;
    const limitMs = Math.max(shortestWaitMs, host.clock.realMs(queueTimeoutSeconds));
    this.#wait = new Wait(limitMs, (waitedMs) => this.#waitedTooLong(waitedMs));
  }

  get request(): InferenceRequest {
    return this.#arrival.request;
  }

  get model(): string {
    return this.request.model;
  }

  get isRunning(): boolean {
    return this.#phase === 'running';
  }

  /** In the middle of a stream: a long silence now means that the engine hangs. */
  get isStreaming(): boolean {
    return this.#phase === 'running' && this.#progress.generated > 0 && !this.#client.paused;
  }

  /** What the controller may know of a request that runs. */
  get running(): RequestView & { readonly generatedTokens: number } {
    return { ...this.#view, generatedTokens: this.#progress.generated };
  }

  start(): void {
    this.#client.watch();
    this.#place();
  }

  // ── choosing and waiting ────────────────────────────────────────────────────────────────────────────────────────

  tryStart(): 'started' | 'blocked' | 'does-not-fit' {
    try {
      const choice = this.#host.replicas.choose(this.#placementView(), this.#avoid);
      if (choice.kind !== 'replica') return choice.kind;
      this.#run(choice.replica);
    } catch (error) {
      this.onBug(error);
    }
    return 'started';
  }

  #placementView(): RequestView {
    if (!this.#progress.delivered) return this.#view;
    const longest = this.#host.replicas.longestAdmitted(this.model);
    return viewOfRest(this.#view, this.request, this.#progress, this.#remaining(), longest);
  }

  #remaining(): number {
    return remainingTokens(this.request, this.#progress, this.#firstMaxModelLen);
  }

  #place(): void {
    if (this.tryStart() === 'started') return;
    const { queue, options } = this.#host;
    const wasCut = this.#progress.delivered;
    if (!wasCut && queue.isFull) {
      this.#fail(failures.queueFull(queue.length), 'refused');
      return;
    }
    this.#phase = 'waiting';
    queue.add(this, wasCut);
    this.#wait.begin();
    if (this.request.stream) this.#client.keepAlive(options.pingSeconds * 1000);
  }

  #waitedTooLong(waitedMs: number): void {
    this.#fail(failures.waitedTooLong(Math.round(waitedMs / 1000)), this.#progress.delivered ? 'failed' : 'refused');
  }

  #leaveQueue(): void {
    this.#host.queue.remove(this);
    this.#wait.end();
    this.#client.stopKeepAlive();
  }

  // ── trying an engine ────────────────────────────────────────────────────────────────────────────────────────────

  #run(replica: Replica<Exchange>): void {
    this.#leaveQueue();
    const { replicas } = this.#host;
    const continues = this.#progress.delivered;
    this.#phase = 'running';
    this.#replica = replica;
    this.#scanner = null;
    this.#head = null;
    this.#answer = [];
    this.#countedTokens = this.#view.inputTokens + this.#progress.generated;
    this.lastDataMs = performance.now();
    replicas.enter(replica, this, this.#countedTokens);
    if (!continues) this.#firstMaxModelLen = replica.info.maxModelLen;
    this.#attemptCount++;
    this.#record.handedOver(this.#wait.totalMs);
    // Engines name requests by this id: a second try at the same engine must not meet the first one's remains.
    const id = this.#attemptCount === 1 ? this.#arrival.requestId : `${this.#arrival.requestId}-${this.#attemptCount}`;
    const headers = [...this.#arrival.engineHeaders, 'x-request-id', id];
    const room = replica.info.maxModelLen - (this.#progress.promptTokens ?? 0) - this.#progress.generated;
    this.#attempt = new Attempt(this);
    this.#attempt.send(
      replica.pool,
      continues
        ? continuationCall(this.request, headers, this.#progress, Math.min(this.#remaining(), room))
        : firstCall(this.request, headers),
    );
  }

  onHead(status: number, rawHeaders: readonly Buffer[]): void {
    this.#head = readHead(status, rawHeaders);
    if (!this.request.stream || !this.#head.isEventStream) return;
    const Scanner = this.#progress.delivered ? ContinuationScanner : StreamScanner;
    this.#scanner = new Scanner(this.request, this.#progress);
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
    if (out.length > 0) this.#client.write(out);
    if (this.#scanner.stopped !== null) this.#engineStopped(this.#scanner.stopped);
    return !this.#client.paused;
  }

  #tokensCame(count: number): void {
    this.#record.tokensCame(this.#view);
    this.#countedTokens += count;
    this.#wait.forget();
    // Only text that stays is progress: an engine that always dies inside the same character is a failing one.
    if (this.#progress.texted > this.#progressMark) {
      this.#progressMark = this.#progress.texted;
      this.#failures = 0;
    }
    if (this.#replica !== null) this.#host.replicas.grow(this.#replica, count);
  }

  onEnd(): void {
    if (this.#scanner === null) this.#answered();
    else if (this.#progress.done) this.#complete();
    else this.onFailure(new Error('the engine ended the stream before [DONE]'));
  }

  onFailure(error: Error): void {
    this.#host.log.warn(
      { replica: this.#replica?.info.id, request: this.#arrival.requestId, why: error.message },
      'an engine broke off',
    );
    this.#engineFailed('connection');
  }

  // ── what an engine's end means ──────────────────────────────────────────────────────────────────────────────────

  #engineStopped(stop: StreamStop): void {
    this.#attempt?.cancel();
    if (stop.kind === 'aborted') this.#engineGaveUp();
    else if (stop.kind === 'error' && isClientError(stop.json)) {
      this.#client.writeText(`data: ${stop.json}\n\n`);
      this.#end('rejected');
    } else {
      const why = stop.kind === 'error' ? stop.json : stop.why;
      this.#host.log.warn(
        { replica: this.#replica?.info.id, request: this.#arrival.requestId, why },
        'an engine failed in a stream',
      );
      this.#engineFailed('status');
    }
  }

  /** A whole answer that is no stream, of any status. */
  #answered(): void {
    const body = Buffer.concat(this.#answer);
    const replica = this.#replica;
    const head = this.#head;
    if (head === null || replica === null) return;
    const longest = this.#host.replicas.longestAdmitted(this.model);
    const larger =
      head.status === 400 ? viewForLarger(this.#view, this.request, body, replica.info.maxModelLen, longest) : null;
    if (head.busyMs !== null) {
      this.#host.replicas.busyFor(replica, head.busyMs);
      this.#goOn('engine-busy');
    } else if (head.status >= 500) this.#engineFailed('status');
    else if (this.#progress.delivered) {
      // A continuation that was not streamed or was refused: no fault of the engine's, but no use either.
      this.#failures++;
      this.#avoid.add(replica);
      this.#goOn('continuation-refused');
    } else if (larger !== null) {
      this.#view = larger;
      this.#goOn('prompt-too-long-there');
    } else if (head.status < 400 && isGivenUp(body)) this.#engineGaveUp();
    else {
      replica.succeeded();
      this.#passAnswer(head, body);
    }
  }

  #passAnswer(head: EngineHead, body: Buffer): void {
    const counts = head.status < 400 ? usageCounts(body.toString('latin1')) : null;
    if (counts !== null) {
      this.#progress.promptTokens = counts.promptTokens;
      this.#progress.generated = counts.completionTokens;
    }
    this.#client.answer(head.status, head.contentType, body);
    if (head.status < 400) this.#complete();
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

  /** An engine that is parked, for example: no fault of its own, but it must not go on like that for ever. */
  #engineGaveUp(): void {
    this.#failures++;
    if (this.#replica !== null) this.#avoid.add(this.#replica);
    this.#goOn('engine-aborted');
  }

  /** For emptying a replica: leaves it if the request can be finished elsewhere. */
  cut(): boolean {
    if (this.#phase !== 'running') return false;
    const { delivered, finished, done } = this.#progress;
    if (finished || done) return false;
    if (delivered && this.#whyStuck() !== null) return false;
    // Part of a whole answer is here: the rest is on its way.
    if (!delivered && this.#scanner === null && this.#head !== null) return false;
    this.#goOn('evacuated');
    return true;
  }

  #whyStuck(): string | null {
    if (this.request.notContinuable !== null) return this.request.notContinuable;
    const { promptItems, ids, generated } = this.#progress;
    if (promptItems === null || ids.length !== generated) return 'its engine tells no token ids';
    return this.#progress.otherOutput ? 'reasoning or tool calls' : null;
  }

  /** Leaves the replica and finishes the request elsewhere, or ends it. What was delivered stays delivered. */
  #goOn(reason: string): void {
    const { metrics, options } = this.#host;
    const progress = this.#progress;
    this.#attempt?.cancel();
    this.#leaveReplica();
    // A busy engine took nothing: the wait goes on. Else it begins anew.
    if (reason !== 'engine-busy') this.#wait.forget();
    // Of several choices, one's end is not the end.
    if (progress.done) this.#complete();
    else if (progress.finished && this.request.hasOneChoice) this.#completeByOurselves();
    else if (this.#failures >= options.maxTries) this.#fail(failures.engineFailed(this.#failures), 'failed');
    else if (progress.delivered) this.#continue(reason);
    else {
      this.#progress = new StreamProgress();
      metrics.retried(reason);
      this.#place();
    }
  }

  #continue(reason: string): void {
    const { metrics } = this.#host;
    const why = this.#whyStuck();
    if (why !== null) {
      metrics.interrupted(reason);
      this.#fail(failures.interrupted(why), 'failed');
      return;
    }
    // The client has seen the ids of these tokens itself: they cannot be made again.
    if (!this.request.wantsIds) this.#progress.dropUntexted();
    if (this.#remaining() <= 0) this.#completeByOurselves();
    else {
      metrics.continued(reason);
      this.#place();
    }
  }

  // ── the client ──────────────────────────────────────────────────────────────────────────────────────────────────

  ownHeaders(): Record<string, string> {
    const { options, replicas } = this.#host;
    const facts = {
      requestId: this.#arrival.requestId,
      emulated: options.emulated,
      request: this.request,
      replica: this.#replica?.info ?? null,
      routingVersion: replicas.update?.version ?? 0,
      queuedMs: this.#wait.totalMs,
    };
    return answerHeaders(facts, this.#arrival.req.headers['x-oserve-debug'] !== undefined);
  }

  onDrained(): void {
    this.lastDataMs = performance.now();
    this.#attempt?.resume();
  }

  onGone(): void {
    if (this.#phase !== 'ended') this.#end('disconnected');
  }

  /** All output was delivered, but the engine died before it said the rest. */
  #completeByOurselves(): void {
    this.#client.writeText(closingEvents(this.request, this.#progress));
    this.#complete();
  }

  #complete(): void {
    this.#replica?.succeeded();
    this.#record.completed(this.#view, this.#progress);
    this.#end('completed');
  }

  #fail(problem: HttpFailure, outcome: Outcome): void {
    this.#client.refuse(problem, this.#arrival.requestId);
    this.#end(outcome);
  }

  /** An exception of our own: this request ends with it, and no other. */
  onBug(error: unknown): void {
    this.#host.log.error({ err: error, request: this.#arrival.requestId }, 'a request failed in the gateway');
    if (this.#phase !== 'ended') this.#fail(failures.internal(), 'failed');
  }

  /** The engine was silent for too long in the middle of the stream. */
  engineHangs(): void {
    this.onFailure(new Error('the engine is silent'));
  }

  /** The gateway closes: nothing more can be done for this request. */
  terminate(): void {
    if (this.#phase !== 'ended') this.#fail(failures.shuttingDown(), 'failed');
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
    this.#client.end();
    this.#record.ended(outcome);
    this.#host.ended(this);
  }
}
