// The driver of a simulated pool: it decides when the loop takes its step, the step decides what. Live, timers do this.
import type { Controller, Journal, TickRecord, WorkUnits } from '../domain/index.ts';
import type { SimulatedFleet, SimulatedRouter } from '../sim/index.ts';
import { controlStep } from './control-step.ts';

export interface DriveOptions {
  readonly controller: Controller;
  readonly budget: WorkUnits;
  readonly slowTickSeconds: number;
  readonly fastTickSeconds: number;
  /** Called after each step. */
  readonly onStep?: (atSeconds: number) => void;
}

/** Lives through the whole trace of a pool under a controller. Equal arguments give equal records. */
export async function driveFleet<Router extends SimulatedRouter>(
  fleet: SimulatedFleet<Router>,
  { controller, budget, slowTickSeconds, fastTickSeconds, onStep }: DriveOptions,
): Promise<TickRecord[]> {
  const records: TickRecord[] = [];
  const journal: Journal = { append: (record) => void records.push(record) };
  let nextSlow = slowTickSeconds;
  while (!fleet.idle) {
    // Between slow ticks nothing can change in a simulated pool unless a switch goes on.
    const nextFast = fleet.switchInProgress === null ? Number.POSITIVE_INFINITY : fleet.nowSeconds + fastTickSeconds;
    const slow = nextSlow <= nextFast;
    fleet.advanceTo(slow ? nextSlow : nextFast);
    if (slow) nextSlow += slowTickSeconds;
    await controlStep({ controller, fleet, journal, budget }, slow ? 'slow' : 'fast');
    onStep?.(fleet.nowSeconds);
  }
  return records;
}
