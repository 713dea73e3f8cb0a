// What the supervisor tells the controller's process.
import type { ControllerInput, PoolClockOptions } from '../../host/index.ts';

export interface ControllerProcessOptions {
  readonly token: string;
  readonly clock: PoolClockOptions;
  /** Names this life of the pool; entries of other lives in the journal are not taken up. */
  readonly poolId: string;
  /** Absolute. */
  readonly stateDirectory: string;
  readonly gatewayAdminUrl: string;
  /** One per node, in node order. */
  readonly agents: readonly { readonly name: string; readonly url: string }[];
  readonly input: ControllerInput;
}
