// A binary min-heap over small integer ids that knows where each id sits, so that a key can change or an id leave in
// O(log n). Keys compare first, then a tie-breaker that the caller chooses: the order never depends on history.

/** Indexed min-heap: each id is at most once inside. Typed arrays that grow with the largest id; no allocation per call. */
export class BinaryHeap {
  #ids: Int32Array;
  #keys: Float64Array;
  #ties: Float64Array;
  /** Position in `#ids` by id, -1 when absent. */
  #positions: Int32Array;
  #size = 0;

  /** @param capacity - ids expected; larger ones make the heap grow. */
  constructor(capacity = 16) {
    this.#ids = new Int32Array(capacity);
    this.#keys = new Float64Array(capacity);
    this.#ties = new Float64Array(capacity);
    this.#positions = new Int32Array(capacity).fill(-1);
  }

  get size(): number {
    return this.#size;
  }

  has(id: number): boolean {
    return id < this.#positions.length && this.#positions[id]! >= 0;
  }

  /** The id with the smallest (key, tie), or -1 when empty. */
  peek(): number {
    return this.#size === 0 ? -1 : this.#ids[0]!;
  }

  /** The smallest key, +∞ when empty. */
  peekKey(): number {
    return this.#size === 0 ? Number.POSITIVE_INFINITY : this.#keys[this.#ids[0]!]!;
  }

  /** Inserts the id, or gives it a new key. */
  set(id: number, key: number, tie = 0): void {
    if (id >= this.#positions.length) this.#grow(id + 1);
    this.#keys[id] = key;
    this.#ties[id] = tie;
    let position = this.#positions[id]!;
    if (position < 0) {
      position = this.#size++;
      this.#ids[position] = id;
      this.#positions[id] = position;
    }
    this.#siftDown(this.#siftUp(position));
  }

  /** Removes and returns the id with the smallest (key, tie), or -1 when empty. */
  pop(): number {
    const id = this.peek();
    if (id >= 0) this.remove(id);
    return id;
  }

  /** @returns whether the id was inside. */
  remove(id: number): boolean {
    if (!this.has(id)) return false;
    const position = this.#positions[id]!;
    const last = this.#ids[--this.#size]!;
    this.#positions[id] = -1;
    if (last !== id) {
      this.#ids[position] = last;
      this.#positions[last] = position;
      this.#siftDown(this.#siftUp(position));
    }
    return true;
  }

  #before(a: number, b: number): boolean {
    const keyA = this.#keys[a]!;
    const keyB = this.#keys[b]!;
    return keyA < keyB || (keyA === keyB && this.#ties[a]! < this.#ties[b]!);
  }

  #siftUp(start: number): number {
    const ids = this.#ids;
    const positions = this.#positions;
    const id = ids[start]!;
    let position = start;
    while (position > 0) {
      const parent = (position - 1) >> 1;
      const other = ids[parent]!;
      if (!this.#before(id, other)) break;
      ids[position] = other;
      positions[other] = position;
      position = parent;
    }
    ids[position] = id;
    positions[id] = position;
    return position;
  }

  #siftDown(start: number): void {
    const ids = this.#ids;
    const positions = this.#positions;
    const size = this.#size;
    const id = ids[start]!;
    let position = start;
    for (;;) {
      let child = 2 * position + 1;
      if (child >= size) break;
      if (child + 1 < size && this.#before(ids[child + 1]!, ids[child]!)) child++;
      const other = ids[child]!;
      if (!this.#before(other, id)) break;
      ids[position] = other;
      positions[other] = position;
      position = child;
    }
    ids[position] = id;
    positions[id] = position;
  }

  #grow(needed: number): void {
    const capacity = Math.max(needed, 2 * this.#positions.length);
    const copy = <T extends Int32Array | Float64Array>(from: T, to: T): T => {
      to.set(from);
      return to;
    };
    this.#ids = copy(this.#ids, new Int32Array(capacity));
    this.#keys = copy(this.#keys, new Float64Array(capacity));
    this.#ties = copy(this.#ties, new Float64Array(capacity));
    this.#positions = copy(this.#positions, new Int32Array(capacity).fill(-1));
  }
}
