// What a request uses of the gateway around it.
import type { Logger } from '../host/index.ts';
import type { AdmissionQueue, Waiting } from './admission-queue.ts';
import type { LengthEstimate } from './length-estimate.ts';
import type { GatewayMetrics } from './metrics.ts';
import type { Observations } from './observations.ts';
import type { GatewayClock, GatewayOptions } from './options.ts';
import type { ReplicaGuest } from './replica.ts';
import type { ReplicaSet } from './replica-set.ts';

/** `E` is the request itself, which stands in queues and at replicas. */
export interface ExchangeHost<E extends ReplicaGuest & Waiting> {
  readonly options: GatewayOptions;
  readonly clock: GatewayClock;
  readonly log: Logger;
  readonly replicas: ReplicaSet<E>;
  readonly queue: AdmissionQueue<E>;
  readonly observations: Observations;
  readonly lengths: LengthEstimate;
  readonly metrics: GatewayMetrics;
  /** Counts bytes that are held in memory; negative gives them back. */
  hold(bytes: number): void;
  ended(exchange: E): void;
}
