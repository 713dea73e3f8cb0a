// As-of counts: how many requests of each type arrived in each window, as far as can be known now. Short answers end first,
// so counting only what has ended would see a minute full of short requests. A request counts as its label once it ended,
// and before that as its posterior given the tokens it has made so far; both are revised at every look.
//
// Memory is bounded, whatever the traffic: time is cut into cells, a cell keeps the exact number of arrivals and a uniform
// sample of at most `recordsPerCell` of them (reservoir sampling, so the mix stays unbiased), and cells older than
// `retentionSeconds` are overwritten. Records take 28 bytes each: with the defaults 720 cells × 512 × 28 B = 10.3 MB.
import {
  type FinishedRequest,
  invariant,
  type Observation,
  type RequestView,
  type WorkloadModel,
} from '../domain/index.ts';
import { hashUnit } from '../math/index.ts';
import { posterior, posteriorOfRunning, typeOfFinished } from './posterior.ts';

export interface ArrivalCounterOptions {
  /** How far back counts can be asked for. */
  readonly retentionSeconds?: number;
  readonly cellSeconds?: number;
  readonly recordsPerCell?: number;
  /** Observation began here: windows before it are unknown, not empty. */
  readonly startSeconds?: number;
}

/** Distinct tenants and models that are told apart; further ones count as requests without a tenant. */
const NAME_LIMIT = 4096;

export class ArrivalCounter {
  readonly #startSeconds: number;
  readonly #cellSeconds: number;
  readonly #cellCount: number;
  readonly #perCell: number;
  /** By slot (cell modulo cell count): which cell it holds, its arrivals, its records. */
  readonly #cell: Float64Array;
  readonly #arrivals: Float64Array;
  readonly #stored: Int32Array;
  /** By record. */
  readonly #arrivalSeconds: Float64Array;
  readonly #inputTokens: Uint32Array;
  readonly #maxTokens: Uint32Array;
  readonly #outputTokens: Uint32Array;
  readonly #tenant: Uint16Array;
  readonly #model: Uint16Array;
  readonly #ended: Uint8Array;
  /** Label under the model of the last look; −1 when not known yet. */
  readonly #label: Int16Array;
  #labelledBy: WorkloadModel | null = null;
  readonly #tenants = new Names();
  readonly #models = new Names();
  /** Arrivals that were reported when their cell was gone already; they are missing from all counts. */
  tooLateCount = 0;

  constructor(options: ArrivalCounterOptions = {}) {
    this.#startSeconds = options.startSeconds ?? 0;
    this.#cellSeconds = options.cellSeconds ?? 10;
    this.#cellCount = Math.ceil((options.retentionSeconds ?? 7200) / this.#cellSeconds) + 1;
    this.#perCell = options.recordsPerCell ?? 512;
    invariant(this.#cellSeconds > 0 && this.#perCell >= 1, 'cells have a length and room for a record');
    const records = this.#cellCount * this.#perCell;
    this.#cell = new Float64Array(this.#cellCount).fill(-1);
    this.#arrivals = new Float64Array(this.#cellCount);
    this.#stored = new Int32Array(this.#cellCount);
    this.#arrivalSeconds = new Float64Array(records);
    this.#inputTokens = new Uint32Array(records);
    this.#maxTokens = new Uint32Array(records);
    this.#outputTokens = new Uint32Array(records);
    this.#tenant = new Uint16Array(records);
    this.#model = new Uint16Array(records);
    this.#ended = new Uint8Array(records);
    this.#label = new Int16Array(records);
  }

  /** Takes in what was observed since the last call. Clients' own retries are no new demand. */
  observe({ arrivals, finished, running }: Pick<Observation, 'arrivals' | 'finished' | 'running'>): void {
    for (const view of arrivals) if (!view.isRetry) this.#arrive(view);
    for (const request of finished) if (!request.isRetry) this.#end(request);
    for (const request of running) {
      const record = request.isRetry ? -1 : this.#find(request);
      if (record >= 0) this.#outputTokens[record] = Math.max(this.#outputTokens[record]!, request.generatedTokens);
    }
  }

  /**
   * Requests of each type that arrived in the windows [now − n·w, now − (n−1)·w), as known now.
   *
   * @param windowLimit - at most so many windows, the latest ones.
   * @returns one vector of J counts per window, oldest first; only windows that lie wholly within observation and
   *   retention. Their sums are the exact numbers of arrivals (of models that have types).
   */
  countsByWindow(
    windowSeconds: number,
    nowSeconds: number,
    model: WorkloadModel,
    windowLimit = Number.POSITIVE_INFINITY,
  ): Float64Array[] {
    invariant(windowSeconds > 0, 'a window has a length');
    if (model !== this.#labelledBy) {
      this.#label.fill(-1);
      this.#labelledBy = model;
    }
    const observed = Math.floor((nowSeconds - this.#startSeconds) / windowSeconds + 1e-9);
    const retained = Math.floor(((this.#cellCount - 1) * this.#cellSeconds) / windowSeconds);
    const windowCount = Math.max(0, Math.min(observed, retained, windowLimit));
    const windows = Array.from({ length: windowCount }, () => new Float64Array(model.types.length));
    const scratch = new Float64Array(model.types.length);
    const firstSeconds = nowSeconds - windowCount * windowSeconds;
    const firstCell = Math.floor(firstSeconds / this.#cellSeconds);
    const lastCell = Math.floor(nowSeconds / this.#cellSeconds);
    for (let cell = Math.max(0, firstCell); cell <= lastCell; cell++) {
      const slot = cell % this.#cellCount;
      if (this.#cell[slot] !== cell) continue;
      const weight = this.#arrivals[slot]! / this.#stored[slot]!;
      const from = slot * this.#perCell;
      for (let record = from; record < from + this.#stored[slot]!; record++) {
        const seconds = this.#arrivalSeconds[record]!;
        if (seconds < firstSeconds || seconds >= nowSeconds) continue;
        const window = Math.min(windowCount - 1, Math.floor((seconds - firstSeconds) / windowSeconds));
        this.#addRecord(record, model, weight, windows[window]!, scratch);
      }
    }
    return windows;
  }

  #addRecord(record: number, model: WorkloadModel, weight: number, sum: Float64Array, scratch: Float64Array): void {
    const view = {
      model: this.#models.name(this.#model[record]!),
      inputTokens: this.#inputTokens[record]!,
      outputTokens: this.#outputTokens[record]!,
      maxTokens: this.#maxTokens[record]!,
      tenant: this.#tenants.name(this.#tenant[record]!),
    };
    if (this.#ended[record] === 1) {
      if (this.#label[record] === -1) this.#label[record] = typeOfFinished(model, view);
      const label = this.#label[record]!;
      if (label >= 0) sum[label]! += weight;
      return;
    }
    if (view.outputTokens > 0) posteriorOfRunning(model, view, view.outputTokens, scratch);
    else posterior(model, view, scratch);
    for (let j = 0; j < scratch.length; j++) sum[j]! += weight * scratch[j]!;
  }

  #arrive(view: RequestView): void {
    const cell = Math.floor(view.arrivalSeconds / this.#cellSeconds);
    const slot = cell % this.#cellCount;
    if (cell < this.#cell[slot]! || cell < 0) {
      this.tooLateCount++;
      return;
    }
    if (cell > this.#cell[slot]!) {
      this.#cell[slot] = cell;
      this.#arrivals[slot] = 0;
      this.#stored[slot] = 0;
    }
    const seen = ++this.#arrivals[slot]!;
    // Algorithm R: the n-th arrival replaces one of the m records with probability m / n.
    let place = this.#stored[slot]!;
    if (place < this.#perCell) this.#stored[slot]!++;
    else {
      place = Math.floor(hashUnit('reservoir', cell, seen) * seen);
      if (place >= this.#perCell) return;
    }
    const record = slot * this.#perCell + place;
    this.#arrivalSeconds[record] = view.arrivalSeconds;
    this.#inputTokens[record] = view.inputTokens;
    this.#maxTokens[record] = view.maxTokens;
    this.#outputTokens[record] = 0;
    this.#tenant[record] = this.#tenants.index(view.tenant ?? '');
    this.#model[record] = this.#models.index(view.model);
    this.#ended[record] = 0;
    this.#label[record] = -1;
  }

  #end(request: FinishedRequest): void {
    const record = this.#find(request);
    if (record < 0) return;
    this.#ended[record] = 1;
    this.#inputTokens[record] = request.inputTokens;
    this.#outputTokens[record] = request.outputTokens;
    this.#label[record] = -1;
  }

  /**
   * A record of this request that has not ended; −1 when it was not sampled or is gone. Equal views are one another's.
   *
   * Lengths may differ from those at arrival: a gateway estimates the tokens of a text prompt and learns them from the
   * engine. Then arrival and model decide, unless records of that instant were sampled away and it could be another's.
   */
  #find(view: RequestView): number {
    const cell = Math.floor(view.arrivalSeconds / this.#cellSeconds);
    const slot = cell % this.#cellCount;
    if (cell < 0 || this.#cell[slot] !== cell) return -1;
    const from = slot * this.#perCell;
    const to = from + this.#stored[slot]!;
    const model = this.#models.index(view.model);
    let similar = -1;
    let similarCount = 0;
    for (let record = from; record < to; record++) {
      if (
        this.#arrivalSeconds[record] !== view.arrivalSeconds ||
        this.#ended[record] === 1 ||
        this.#model[record] !== model
      )
        continue;
      if (this.#inputTokens[record] === view.inputTokens && this.#maxTokens[record] === view.maxTokens) return record;
      if (similarCount++ === 0) similar = record;
    }
    const sampled = this.#arrivals[slot]! > this.#stored[slot]!;
    return similarCount === 1 || !sampled ? similar : -1;
  }
}

/** Small numbers for names, at most {@link NAME_LIMIT} of them; 0 is ''. */
class Names {
  readonly #indices = new Map<string, number>([['', 0]]);
  readonly #names: string[] = [''];

  index(name: string): number {
    const known = this.#indices.get(name);
    if (known !== undefined) return known;
    if (this.#names.length === NAME_LIMIT) return 0;
    this.#indices.set(name, this.#names.length);
    this.#names.push(name);
    return this.#names.length - 1;
  }

  name(index: number): string {
    return this.#names[index]!;
  }
}
