// Where a replica keeps its requests: one typed array per property, one slot per request, slots used again. The engine
// walks these arrays in every step, so there is no object per request.

/** A slot is free, sent but not yet seen by the scheduler, queued, or admitted. */
export const SlotState = { free: 0, sent: 1, waiting: 2, running: 3 } as const;

/** Properties of the requests of one replica, by slot. Fields are read and written by the engine only. */
export class RequestSlots {
  handle = new Float64Array(0);
  state = new Uint8Array(0);
  /** Smaller goes first; then the order in which requests came. */
  priority = new Float64Array(0);
  order = new Float64Array(0);
  /** Tokens whose values are known: prompt + generated. Those beyond `computed` still have to be computed. */
  known = new Int32Array(0);
  /** Tokens whose keys and values are in the cache. */
  computed = new Int32Array(0);
  generated = new Int32Array(0);
  /** Generated tokens at which the request ends. */
  outputTokens = new Int32Array(0);
  blocks = new Int32Array(0);
  /** Tokens that these blocks hold. */
  capacity = new Int32Array(0);
  /** 1 + index of the batch that computes the request now, 0 when there is none. */
  batch = new Uint8Array(0);
  /** 1 once the request was aborted at a time that the engine has not reached yet: nothing is reported any more. */
  muted = new Uint8Array(0);

  readonly #slotOfHandle = new Map<number, number>();
  readonly #freeSlots: number[] = [];
  #nextOrder = 0;

  /** Slot of a request, or -1. */
  find(handle: number): number {
    return this.#slotOfHandle.get(handle) ?? -1;
  }

  take(handle: number, inputTokens: number, outputTokens: number, priority: number): number {
    if (this.#freeSlots.length === 0) this.#grow();
    const slot = this.#freeSlots.pop()!;
    this.#slotOfHandle.set(handle, slot);
    this.handle[slot] = handle;
    this.state[slot] = SlotState.sent;
    this.priority[slot] = priority;
    this.order[slot] = this.#nextOrder++;
    this.known[slot] = inputTokens;
    this.computed[slot] = 0;
    this.generated[slot] = 0;
    this.outputTokens[slot] = outputTokens;
    this.blocks[slot] = 0;
    this.capacity[slot] = 0;
    this.batch[slot] = 0;
    this.muted[slot] = 0;
    return slot;
  }

  /** The handle is forgotten at once; the slot itself is used again after {@link recycle}. */
  forget(slot: number): void {
    this.#slotOfHandle.delete(this.handle[slot]!);
  }

  recycle(slot: number): void {
    this.state[slot] = SlotState.free;
    this.#freeSlots.push(slot);
  }

  #grow(): void {
    const old = this.state.length;
    const capacity = Math.max(64, 2 * old);
    const grown = <T extends Float64Array | Int32Array | Uint8Array>(from: T, to: T): T => {
      to.set(from);
      return to;
    };
    this.handle = grown(this.handle, new Float64Array(capacity));
    this.state = grown(this.state, new Uint8Array(capacity));
    this.priority = grown(this.priority, new Float64Array(capacity));
    this.order = grown(this.order, new Float64Array(capacity));
    this.known = grown(this.known, new Int32Array(capacity));
    this.computed = grown(this.computed, new Int32Array(capacity));
    this.generated = grown(this.generated, new Int32Array(capacity));
    this.outputTokens = grown(this.outputTokens, new Int32Array(capacity));
    this.blocks = grown(this.blocks, new Int32Array(capacity));
    this.capacity = grown(this.capacity, new Int32Array(capacity));
    this.batch = grown(this.batch, new Uint8Array(capacity));
    this.muted = grown(this.muted, new Uint8Array(capacity));
    for (let slot = capacity - 1; slot >= old; slot--) this.#freeSlots.push(slot);
  }
}
