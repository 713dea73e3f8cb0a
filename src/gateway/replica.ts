// One engine as the gateway sees it: its connections, what is outstanding there, and whether it can take requests now.
import { Pool } from 'undici';
import type { RoutableReplica } from '../wire/index.ts';

/** Time to open a connection, real milliseconds; engines are near. */
const CONNECT_TIMEOUT_MS = 3000;
const LONGEST_PENALTY_MS = 10_000;
/** Answers with 5xx in a row before a replica is left alone for a while. */
const TOLERATED_ERRORS = 3;

/** What keeps a list of its requests at a replica. */
export interface ReplicaGuest {
  /** Goes on elsewhere if it can; false: it stays. */
  cut(): boolean;
}

export class Replica<Guest extends ReplicaGuest = ReplicaGuest> {
  readonly info: RoutableReplica;
  readonly pool: Pool;
  readonly guests = new Set<Guest>();
  /** Position in the routing list; -1: takes no new requests. */
  index = -1;
  /** Tokens held there for our requests: prompts and what was generated. */
  tokens = 0;
  /** Being emptied: takes nothing until a routing update lists it again. */
  evacuating = false;
  /** Out of the routing list for good; goes when its last guest has gone. */
  retired = false;
  /** Failures in a row, connections and 5xx. */
  #failures = 0;
  #penaltyUntilMs = 0;
  #probing = false;

  constructor(info: RoutableReplica) {
    this.info = info;
    this.pool = new Pool(info.url, {
      connections: null,
      pipelining: 1,
      // Streams are silent for as long as their engine computes: silence is judged by the gateway, not per socket.
      headersTimeout: 0,
      bodyTimeout: 0,
      // `noDelay` is an option of net.connect: without it a small request would wait for an acknowledgement (40 ms).
      connect: { noDelay: true, timeout: CONNECT_TIMEOUT_MS } as Pool.Options['connect'] & object,
    });
  }

  /** Could take a request at this moment. */
  available(nowMs: number, cap: number): boolean {
    return (
      this.index >= 0 &&
      !this.evacuating &&
      !this.#probing &&
      this.#penaltyUntilMs <= nowMs &&
      (cap === 0 || this.guests.size < cap)
    );
  }

  get isDown(): boolean {
    return this.#probing;
  }

  succeeded(): void {
    this.#failures = 0;
  }

  /** The engine says that it is busy: no fault, but no use asking again at once. */
  busyFor(ms: number, nowMs: number): void {
    this.#penaltyUntilMs = Math.max(this.#penaltyUntilMs, nowMs + ms);
  }

  /**
   * Counts a failure of the engine (never a client's own mistake).
   *
   * @returns how long to leave the replica alone before it is probed, ms; null: not at all yet.
   */
  failed(kind: 'connection' | 'status'): number | null {
    this.#failures++;
    if (this.#probing) return null;
    if (kind === 'status' && this.#failures < TOLERATED_ERRORS) return null;
    this.#probing = true;
    // A single broken connection may be one request's bad luck: ask at once. Repeated ones are worth less and less.
    if (kind === 'connection') return this.#failures === 1 ? 0 : Math.min(LONGEST_PENALTY_MS, 25 * 2 ** this.#failures);
    return Math.min(LONGEST_PENALTY_MS, 250 * 2 ** (this.#failures - TOLERATED_ERRORS));
  }

  recovered(): void {
    this.#probing = false;
  }

  /** Asks the engine's own health check. */
  async isHealthy(timeoutMs: number): Promise<boolean> {
    try {
      const { statusCode, body } = await this.pool.request({
        path: '/health',
        method: 'GET',
        headersTimeout: timeoutMs,
        bodyTimeout: timeoutMs,
        signal: AbortSignal.timeout(timeoutMs),
      });
      await body.dump();
      return statusCode === 200;
    } catch {
      // Not reachable: exactly what was asked.
      return false;
    }
  }

  async close(): Promise<void> {
    await this.pool.destroy();
  }
}
