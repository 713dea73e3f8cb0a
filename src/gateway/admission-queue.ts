// Requests that no replica can take now. First come, first served, but streams that were cut go before all others: their
// clients are waiting in the middle of an answer.

export interface Waiting {
  /** Starts if a replica can take it. `blocked`: no replica of its model takes anything now. */
  tryStart(): 'started' | 'blocked' | 'does-not-fit';
  readonly model: string;
}

export class AdmissionQueue<T extends Waiting> {
  readonly #limit: number;
  readonly #cut = new Set<T>();
  readonly #fresh = new Set<T>();

  /** @param limit - most requests that wait; streams that were cut are let in beyond it, each held a place before. */
  constructor(limit: number) {
    this.#limit = limit;
  }

  get length(): number {
    return this.#cut.size + this.#fresh.size;
  }

  get isFull(): boolean {
    return this.length >= this.#limit;
  }

  add(item: T, wasCut: boolean): void {
    (wasCut ? this.#cut : this.#fresh).add(item);
  }

  remove(item: T): void {
    this.#cut.delete(item);
    this.#fresh.delete(item);
  }

  /** Starts what can start now, in order. A model whose replicas take nothing is not asked again in this round. */
  pump(): void {
    const blocked = new Set<string>();
    for (const line of [this.#cut, this.#fresh]) {
      for (const item of [...line]) {
        if (blocked.has(item.model) || !line.has(item)) continue;
        const outcome = item.tryStart();
        if (outcome === 'started') line.delete(item);
        else if (outcome === 'blocked') blocked.add(item.model);
      }
    }
  }
}
