// What the supervisor tells the gateway's process.
import type { GatewayOptions } from '../../gateway/index.ts';
import type { PoolClockOptions } from '../../host/index.ts';

/** The gateway's own options, those that have defaults may be left out; the clock's instead of the clock. */
export interface GatewayProcessOptions
  extends PoolClockOptions,
    Partial<Omit<GatewayOptions, 'clock' | 'makeRouter' | 'log' | 'token'>>,
    Pick<GatewayOptions, 'token'> {}
