// What the supervisor tells the process that makes traffic.
import type { Config, PoolClockOptions } from '../../host/index.ts';

export interface TrafficProcessOptions {
  /** The gateway. */
  readonly url: string;
  readonly clock: PoolClockOptions;
  /** Models that requests may name; traces without a model column use the first. */
  readonly models: readonly string[];
  /** Trace file, absolute; null: generated. */
  readonly file: string | null;
  readonly traffic: Config['traffic'];
}
