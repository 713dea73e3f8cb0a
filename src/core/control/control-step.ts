// The step of the control loop. It exists once: live a timer calls it, in simulation a tick of the virtual clock does.
import type { Decision, Fleet, Journal, Observation, TickRecord, WorkUnits } from '../domain/index.ts';

/** A {@link Controller}, or a proxy of one that thinks in another thread. */
export interface ControllerPort {
  tick(observation: Observation, budget: WorkUnits): TickRecord | Promise<TickRecord>;
}

export interface LoopPorts {
  readonly controller: ControllerPort;
  readonly fleet: Fleet;
  readonly journal: Journal;
  readonly budget: WorkUnits;
}

/** Observe, think, write down, act. Never two at once: the driver waits for one before it starts the next. */
export async function controlStep(
  { controller, fleet, journal, budget }: LoopPorts,
  kind: 'slow' | 'fast',
): Promise<TickRecord> {
  const record = await controller.tick(await fleet.observe(kind), budget);
  journal.append(record); // before acting, so that a failed switch still has its reason on disk
  const decision: Decision = record.decision;
  if (decision.kind !== 'none') await fleet.apply(decision);
  return record;
}
