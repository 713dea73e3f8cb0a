// One replica, as vLLM (V1) schedules it, iteration by iteration: continuous batching, chunked prefill, KV cache in
// blocks, preemption by recompute, and a pipeline with several batches in flight. Driven, never driving: the simulator
// steps it in virtual time, the emulated engine on a wall clock. This version computes every iteration on its own and is
// the judge of every faster one.
//
// A step is scheduled like this. Each request has `known` tokens (prompt + generated) of which `computed` are in the
// cache; a step computes the next ones, one for a request that decodes, a chunk for one in prefill.
//   1. Running requests in the order of their admission, within the token budget. One that finds no free block takes
//      those of the running request that comes last (by priority, then arrival): that one loses its cache, goes back to
//      the queue and later computes prompt and generated tokens again.
//   2. If nothing was preempted: waiting requests (by priority, then arrival) while tokens, sequences and blocks last.
//      All known tokens must fit the free blocks, not only the first chunk (vLLM's scheduler_reserve_full_isl).
//   A request whose known tokens are all computed at the end of a step gets its next token then.
//
// With a pipeline a batch is formed whenever fewer than one per stage are in flight and some request is in none of them
// (vLLM's batch queue): normally when the oldest one ends, from its requests and new ones, so that groups stay apart.
//
//     stage 0   |-- b1 --|-- b2 --|-- b3 --|        a stage takes a batch when the stage before is done with it
//     stage 1            |-- b1 --|-- b2 --|-- b3 --|      and it is itself done with the batch before
import { type EngineOptions, invariant, type StepTime, TIME_GRID_SECONDS } from '../domain/index.ts';
import { BinaryHeap } from '../math/index.ts';
import { RequestSlots, SlotState } from './request-slots.ts';

/** Hears of every token. Called in the order of time; must not call `advance` of the same engine. */
export interface TokenSink {
  /** `generatedTokens` counts from 1. Of a request that was preempted it goes on where it stopped. */
  token(handle: number, generatedTokens: number, atSeconds: number): void;
  /** Follows the last token of a request; its handle is forgotten and may be used again. */
  finished(handle: number, atSeconds: number): void;
}

export interface ReplicaEngineOptions {
  readonly stepTime: StepTime;
  readonly pipelineParallel: number;
  /** KV blocks of the whole replica, see `replicaMemory`. */
  readonly kvBlocks: number;
  readonly engine: EngineOptions;
}

/** A batch on its way through the pipeline: who is in it and how many tokens of each it computes. */
interface Batch {
  /** -1 where a request was aborted meanwhile. */
  readonly slots: Int32Array;
  readonly tokens: Int32Array;
  count: number;
  endSeconds: number;
}

/** Commands that were given for a time that the engine has not reached yet. */
interface Command {
  readonly atSeconds: number;
  readonly kind: 'add' | 'remove';
  readonly slot: number;
  /** Tells the request that was meant from a later one in the same slot. */
  readonly order: number;
}

/** vLLM's scheduler and block manager around a {@link StepTime}. Times are on the grid of TIME_GRID_SECONDS. */
export class ReplicaEngine {
  readonly kvBlocks: number;
  readonly #stepTime: StepTime;
  readonly #blockTokens: number;
  readonly #maxBatchedTokens: number;
  readonly #maxSequences: number;

  readonly #slots = new RequestSlots();
  readonly #waiting = new BinaryHeap();
  /** Admitted slots in the order of admission. */
  readonly #running: Int32Array;
  #runningCount = 0;
  #freeBlocks: number;
  #outstandingTokens = 0;

  /** Batches in flight: a ring, oldest first. They end in the order in which they started. */
  readonly #batches: readonly Batch[];
  #oldestBatch = 0;
  #batchCount = 0;
  /** When each stage is done with the batch that it got last. */
  readonly #stageFreeSeconds: Float64Array;
  /** Since when there may be something to schedule; +∞ when a try showed that there is nothing. */
  #workSinceSeconds = Number.POSITIVE_INFINITY;

  /** Entries from `#firstCommand` up to `#commandCount` are still to be obeyed. */
  readonly #commands: Command[] = [];
  #firstCommand = 0;
  #commandCount = 0;
  #sentCount = 0;
  #lastEventSeconds = 0;
  #stepCount = 0;
  #preemptionCount = 0;
  /** Tokens of the forming batch that the last call of `#makeRoom` gave back. */
  #givenBackTokens = 0;

  constructor({ stepTime, pipelineParallel, kvBlocks, engine }: ReplicaEngineOptions) {
    invariant(kvBlocks >= 1, 'a replica has at least one KV block');
    invariant(pipelineParallel >= 1, 'a replica has at least one pipeline stage');
    this.kvBlocks = kvBlocks;
    this.#stepTime = stepTime;
    this.#blockTokens = engine.kvBlockTokens;
    this.#maxBatchedTokens = engine.maxBatchedTokens;
    this.#maxSequences = engine.maxSequences;
    this.#freeBlocks = kvBlocks;
    this.#running = new Int32Array(engine.maxSequences);
    this.#stageFreeSeconds = new Float64Array(pipelineParallel);
    this.#batches = Array.from({ length: pipelineParallel }, () => ({
      slots: new Int32Array(engine.maxSequences),
      tokens: new Int32Array(engine.maxSequences),
      count: 0,
      endSeconds: Number.POSITIVE_INFINITY,
    }));
  }

  /** Requests that are admitted (vLLM's num_requests_running), as of the last `advance`. */
  get runningCount(): number {
    return this.#runningCount;
  }

  /** Requests that are here but not admitted (vLLM's num_requests_waiting). */
  get waitingCount(): number {
    return this.#waiting.size + this.#sentCount;
  }

  get kvUsedBlocks(): number {
    return this.kvBlocks - this.#freeBlocks;
  }

  /** Prompt and generated tokens of all requests here, whether in the cache or not: a measure of load. */
  get outstandingTokens(): number {
    return this.#outstandingTokens;
  }

  /** Batches started so far, and requests preempted so far. */
  get stepCount(): number {
    return this.#stepCount;
  }

  get preemptionCount(): number {
    return this.#preemptionCount;
  }

  /** Whether a request of this length can ever run to its end here. */
  fits(inputTokens: number, outputTokens: number): boolean {
    return inputTokens + outputTokens <= this.kvBlocks * this.#blockTokens;
  }

  has(handle: number): boolean {
    return this.#slots.find(handle) >= 0;
  }

  /** Tokens that a request here has got so far (as of the last `advance`). */
  generatedTokens(handle: number): number {
    const slot = this.#slots.find(handle);
    invariant(slot >= 0, `request ${handle} is on this replica`);
    return this.#slots.generated[slot]!;
  }

  /**
   * Hands a request over. It is seen by steps that start after `nowSeconds`, also when `advance` is called later.
   *
   * @param handle - the caller's name for the request; must not be here already.
   * @param outputTokens - the true output length, known to the engine alone; at least 1.
   * @param priority - smaller goes first (as in vLLM); equal ones in the order of arrival.
   */
  add(handle: number, inputTokens: number, outputTokens: number, nowSeconds: number, priority = 0): void {
    invariant(this.#slots.find(handle) < 0, `request ${handle} is not on this replica yet`);
    invariant(inputTokens >= 1 && outputTokens >= 1, 'a request has at least one input and one output token');
    invariant(
      this.fits(inputTokens, outputTokens),
      `a request of ${inputTokens} + ${outputTokens} tokens fits the KV cache of ${this.kvBlocks} blocks`,
    );
    const slot = this.#slots.take(handle, inputTokens, outputTokens, priority);
    this.#outstandingTokens += inputTokens;
    this.#sentCount++;
    this.#command('add', slot, nowSeconds);
  }

  /**
   * Aborts a request: its blocks are free at once, and nothing more is heard of it. A step that is computing it goes
   * on, as in vLLM, and takes as long as it would have taken.
   *
   * @returns whether the request was here.
   */
  remove(handle: number, nowSeconds: number): boolean {
    const slot = this.#slots.find(handle);
    if (slot < 0) return false;
    this.#slots.forget(slot);
    this.#slots.muted[slot] = 1;
    // Events up to now that `advance` has not been told of come first, so that a late call changes nothing.
    if (this.nextEventSeconds() > nowSeconds) {
      this.#takeOut(slot);
      this.#workSinceSeconds = Math.min(this.#workSinceSeconds, this.#gridAfter(nowSeconds));
    } else {
      this.#command('remove', slot, nowSeconds);
    }
    return true;
  }

  /** When something happens next: a batch ends, or can be started. +∞ when there is nothing to do. */
  nextEventSeconds(): number {
    return Math.min(this.#nextEndSeconds(), this.#nextStartSeconds());
  }

  /**
   * Lives through everything that happens up to and including `nowSeconds`. Calling it late, or seldom, gives the same
   * times and the same order as calling it at each event.
   */
  advance(nowSeconds: number, sink: TokenSink): void {
    for (;;) {
      const endSeconds = this.#nextEndSeconds();
      const startSeconds = this.#nextStartSeconds();
      if (endSeconds <= startSeconds) {
        if (this.#batchCount === 0 || endSeconds > nowSeconds) return;
        this.#lastEventSeconds = endSeconds;
        this.#endOldestBatch(sink);
      } else {
        if (startSeconds > nowSeconds) return;
        this.#lastEventSeconds = startSeconds;
        this.#obeyCommands(startSeconds);
        this.#startBatch(startSeconds);
      }
    }
  }

  /** Index of the batch that would be formed next. */
  get #formingBatch(): number {
    return (this.#oldestBatch + this.#batchCount) % this.#batches.length;
  }

  #nextEndSeconds(): number {
    return this.#batchCount === 0 ? Number.POSITIVE_INFINITY : this.#batches[this.#oldestBatch]!.endSeconds;
  }

  #nextStartSeconds(): number {
    if (this.#batchCount === this.#batches.length) return Number.POSITIVE_INFINITY;
    const since =
      this.#firstCommand === this.#commandCount
        ? this.#workSinceSeconds
        : Math.min(this.#workSinceSeconds, this.#commands[this.#firstCommand]!.atSeconds);
    // What became possible while all batches were in flight is possible now, not then.
    return Math.max(since, this.#lastEventSeconds);
  }

  /** The first point of the time grid after a moment, and not before what has happened already. */
  #gridAfter(seconds: number): number {
    const after = (Math.floor(seconds / TIME_GRID_SECONDS) + 1) * TIME_GRID_SECONDS;
    const last = this.#commandCount > this.#firstCommand ? this.#commands[this.#commandCount - 1]!.atSeconds : 0;
    return Math.max(after, last, this.#lastEventSeconds);
  }

  #command(kind: Command['kind'], slot: number, nowSeconds: number): void {
    const atSeconds = this.#gridAfter(nowSeconds);
    this.#commands[this.#commandCount++] = { atSeconds, kind, slot, order: this.#slots.order[slot]! };
  }

  #obeyCommands(atSeconds: number): void {
    const slots = this.#slots;
    while (this.#firstCommand < this.#commandCount) {
      const { atSeconds: commandSeconds, slot, kind, order } = this.#commands[this.#firstCommand]!;
      if (commandSeconds > atSeconds) return;
      this.#firstCommand++;
      if (slots.state[slot] === SlotState.free || slots.order[slot] !== order) continue;
      if (kind === 'remove') {
        this.#takeOut(slot);
      } else {
        this.#sentCount--;
        slots.state[slot] = SlotState.waiting;
        this.#waiting.set(slot, slots.priority[slot]!, order);
      }
    }
    this.#firstCommand = 0;
    this.#commandCount = 0;
  }

  // ── scheduling ─────────────────────────────────────────────────────────────────────────────────────────────────

  /** Forms a batch and sends it into stage 0. Without anything to compute it notes that there is nothing to do. */
  #startBatch(startSeconds: number): void {
    const batch = this.#batches[this.#formingBatch]!;
    batch.count = 0;
    const preemptions = this.#preemptionCount;
    const budget = this.#scheduleRunning(batch);
    if (preemptions === this.#preemptionCount) this.#scheduleWaiting(batch, budget);
    if (batch.count === 0) {
      this.#workSinceSeconds = Number.POSITIVE_INFINITY;
      return;
    }
    const stageFree = this.#stageFreeSeconds;
    let endSeconds = Math.max(startSeconds, stageFree[0]!);
    const stageSeconds = this.#stageSecondsOf(batch, endSeconds);
    for (let stage = 0; stage < stageFree.length; stage++) {
      endSeconds = Math.max(endSeconds, stageFree[stage]!) + stageSeconds;
      stageFree[stage] = endSeconds;
    }
    batch.endSeconds = endSeconds;
    this.#workSinceSeconds = startSeconds;
    this.#batchCount++;
    this.#stepCount++;
  }

  /** @returns the token budget that is left. */
  #scheduleRunning(batch: Batch): number {
    const { known, computed, capacity, batch: batchOf } = this.#slots;
    const { slots: batchSlots, tokens: batchTokens } = batch;
    const running = this.#running;
    const tag = this.#formingBatch + 1;
    let budget = this.#maxBatchedTokens;
    for (let i = 0; i < this.#runningCount && budget > 0; i++) {
      const slot = running[i]!;
      if (batchOf[slot] !== 0) continue;
      const tokens = Math.min(known[slot]! - computed[slot]!, budget);
      const cached = computed[slot]! + tokens;
      if (cached > capacity[slot]!) {
        i = this.#makeRoom(batch, i, cached);
        budget += this.#givenBackTokens;
        if (cached > capacity[slot]!) continue;
      }
      batchSlots[batch.count] = slot;
      batchTokens[batch.count] = tokens;
      batch.count++;
      batchOf[slot] = tag;
      budget -= tokens;
    }
    return budget;
  }

  /**
   * Takes the blocks that a running request needs to hold this many tokens, from later requests if none is free. It
   * gets none when later requests are inside the pipeline (it waits for them), or when it is the last one itself (it
   * is queued again).
   *
   * @param place - of the request among the running ones.
   * @returns its place now; where it was preempted itself, the place before.
   */
  #makeRoom(batch: Batch, place: number, tokens: number): number {
    const slot = this.#running[place]!;
    const needed = this.#blocksFor(tokens) - this.#slots.blocks[slot]!;
    this.#givenBackTokens = 0;
    while (needed > this.#freeBlocks) {
      const victim = this.#lastPreemptible(slot);
      if (victim < 0) return place;
      if (this.#slots.batch[victim] !== 0) this.#givenBackTokens += this.#takeFromBatch(batch, victim);
      if (this.#preempt(victim) <= place) place--;
      if (victim === slot) return place;
    }
    this.#takeBlocks(slot, needed);
    return place;
  }

  #scheduleWaiting(batch: Batch, budgetLeft: number): void {
    const slots = this.#slots;
    let budget = budgetLeft;
    while (budget > 0 && this.#runningCount < this.#maxSequences && this.#waiting.size > 0) {
      const slot = this.#waiting.peek();
      const tokens = Math.min(slots.known[slot]!, budget);
      if (this.#blocksFor(slots.known[slot]!) > this.#freeBlocks) return;
      this.#waiting.pop();
      slots.state[slot] = SlotState.running;
      this.#running[this.#runningCount++] = slot;
      this.#takeBlocks(slot, this.#blocksFor(tokens));
      batch.slots[batch.count] = slot;
      batch.tokens[batch.count] = tokens;
      batch.count++;
      slots.batch[slot] = this.#formingBatch + 1;
      budget -= tokens;
    }
  }

  #blocksFor(tokens: number): number {
    return Math.ceil(tokens / this.#blockTokens);
  }

  #takeBlocks(slot: number, count: number): void {
    this.#slots.blocks[slot]! += count;
    this.#slots.capacity[slot]! += count * this.#blockTokens;
    this.#freeBlocks -= count;
  }

  /** Only with priorities: the victim was scheduled in this very step. @returns the tokens given back. */
  #takeFromBatch(batch: Batch, slot: number): number {
    const index = batch.slots.indexOf(slot);
    const tokens = batch.tokens[index]!;
    batch.slots.copyWithin(index, index + 1, batch.count);
    batch.tokens.copyWithin(index, index + 1, batch.count);
    batch.count--;
    this.#slots.batch[slot] = 0;
    return tokens;
  }

  /**
   * The running request that comes last and may be preempted for `slot`: possibly itself. -1 when one that comes later
   * is inside the pipeline: `slot` then waits for it instead of losing its place.
   */
  #lastPreemptible(slot: number): number {
    const { priority, order, batch } = this.#slots;
    const forming = this.#formingBatch + 1;
    const after = (a: number, b: number) =>
      priority[a]! > priority[b]! || (priority[a] === priority[b] && order[a]! > order[b]!);
    let last = slot;
    let laterInFlight = false;
    for (let i = this.#runningCount - 1; i >= 0; i--) {
      const candidate = this.#running[i]!;
      if (!after(candidate, last)) continue;
      if (batch[candidate] !== 0 && batch[candidate] !== forming) laterInFlight = true;
      else last = candidate;
    }
    return last === slot && laterInFlight ? -1 : last;
  }

  /** Recompute: the cache is lost, the generated tokens count as prompt. @returns its place among the running ones. */
  #preempt(slot: number): number {
    const slots = this.#slots;
    this.#freeBlocks += slots.blocks[slot]!;
    slots.blocks[slot] = 0;
    slots.capacity[slot] = 0;
    slots.computed[slot] = 0;
    slots.state[slot] = SlotState.waiting;
    // By (priority, order of arrival), so that it stands before everything that was never admitted.
    this.#waiting.set(slot, slots.priority[slot]!, slots.order[slot]!);
    this.#preemptionCount++;
    return this.#leaveRunning(slot);
  }

  #leaveRunning(slot: number): number {
    const index = this.#running.indexOf(slot); // what lies beyond the count comes later
    this.#running.copyWithin(index, index + 1, this.#runningCount);
    this.#runningCount--;
    return index;
  }

  #stageSecondsOf(batch: Batch, startSeconds: number): number {
    const { computed } = this.#slots;
    const { slots, tokens, count } = batch;
    let prefillTokens = 0;
    let prefillPairs = 0;
    let decodeSequences = 0;
    let decodeContextTokens = 0;
    for (let entry = 0; entry < count; entry++) {
      const cached = computed[slots[entry]!]!;
      const chunk = tokens[entry]!;
      // One token over cached ones is a decode, whoever it belongs to: kernels see no difference.
      if (chunk === 1 && cached > 0) {
        decodeSequences++;
        decodeContextTokens += cached;
      } else {
        prefillTokens += chunk;
        prefillPairs += chunk * (cached + chunk / 2);
      }
    }
    return this.#stepTime.stageSeconds(
      prefillTokens,
      prefillPairs,
      decodeSequences,
      decodeContextTokens,
      count,
      startSeconds,
    );
  }

  // ── the end of a step ──────────────────────────────────────────────────────────────────────────────────────────

  #endOldestBatch(sink: TokenSink): void {
    const slots = this.#slots;
    let { known, computed, generated, outputTokens, batch: batchOf, handle: handles, muted } = slots;
    const batch = this.#batches[this.#oldestBatch]!;
    const tag = this.#oldestBatch + 1;
    const endSeconds = batch.endSeconds;
    this.#oldestBatch = (this.#oldestBatch + 1) % this.#batches.length;
    this.#batchCount--;
    this.#workSinceSeconds = endSeconds;
    for (let entry = 0; entry < batch.count; entry++) {
      const slot = batch.slots[entry]!;
      if (slot < 0 || batchOf[slot] !== tag) continue;
      batchOf[slot] = 0;
      const cached = computed[slot]! + batch.tokens[entry]!;
      computed[slot] = cached;
      if (cached < known[slot]!) continue;
      known[slot] = cached + 1;
      this.#outstandingTokens++;
      const generatedTokens = generated[slot]! + 1;
      generated[slot] = generatedTokens;
      const isLast = generatedTokens === outputTokens[slot];
      const handle = handles[slot]!;
      const isHeard = muted[slot] === 0;
      if (isLast) {
        if (isHeard) slots.forget(slot);
        this.#takeOut(slot);
      }
      if (!isHeard) continue;
      sink.token(handle, generatedTokens, endSeconds);
      if (isLast) sink.finished(handle, endSeconds);
      // The sink may have added requests, so that the arrays were replaced by larger ones.
      if (slots.known !== known) {
        ({ known, computed, generated, outputTokens, batch: batchOf, handle: handles, muted } = slots);
      }
    }
  }

  /** Frees everything that a request holds, wherever it is. */
  #takeOut(slot: number): void {
    const slots = this.#slots;
    const state = slots.state[slot];
    if (state === SlotState.running) this.#leaveRunning(slot);
    else if (state === SlotState.waiting) this.#waiting.remove(slot);
    else this.#sentCount--;
    if (slots.batch[slot] !== 0) {
      const batch = this.#batches[slots.batch[slot]! - 1]!;
      batch.slots[batch.slots.indexOf(slot)] = -1;
      slots.batch[slot] = 0;
    }
    this.#freeBlocks += slots.blocks[slot]!;
    this.#outstandingTokens -= slots.known[slot]!;
    slots.recycle(slot);
  }
}
