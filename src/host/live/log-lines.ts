// What people read in the log of a pool: one short line for what happened, the numbers as fields.
import { countsOf, formatDeployment, type SwitchPlan, type TickRecord } from '../../core/domain/index.ts';

export interface LogLine {
  readonly message: string;
  readonly fields: Readonly<Record<string, string | number>>;
}

const rounded = (value: number, digits = 3): number => Number(value.toPrecision(digits));

/** Bytes in the unit that people compare models in. */
const gigabytes = (bytes: number): string => `${(bytes / 1e9).toFixed(1)} GB`;

/**
 * A tick worth a line: every slow one, and fast ones that changed something. Null for the others.
 *
 * @param arrivalsSince - arrivals since the last slow tick, and over how many seconds.
 */
export function tickLine(
  record: TickRecord,
  arrivalsSince: { readonly count: number; readonly seconds: number },
): LogLine | null {
  const { kind, seen, decision, chosen, why } = record;
  if (kind === 'fast' && decision.kind === 'none') return null;
  if (kind === 'fast') return { message: `routing changed: ${why}`, fields: { deployment: seen.deployment } };
  const rate = arrivalsSince.seconds > 0 ? arrivalsSince.count / arrivalsSince.seconds : 0;
  const verdict = decision.kind === 'switch' ? `switches to ${chosen}` : `stays at ${seen.deployment}`;
  const predicted = record.predicted?.arrivalRate[0]?.reduce((sum, each) => sum + each, 0);
  return {
    message: `tick: ${rate.toFixed(1)} requests/s, ${verdict}: ${why}`,
    fields: {
      ...(predicted === undefined ? {} : { predictedPerSecond: rounded(predicted) }),
      running: seen.running,
      queued: seen.queued,
      ...(seen.lostGpus > 0 ? { lostGpus: seen.lostGpus } : {}),
    },
  };
}

/** Deployments of a plan without the model's name where there is only one model. */
function deploymentsOf({ from, to }: SwitchPlan): { readonly from: string; readonly to: string } {
  const models = new Set([...from, ...to].map((replica) => replica.model));
  const kinds = new Set([...from, ...to].map((replica) => replica.gpuKind));
  const defaults = {
    ...(models.size === 1 ? { model: [...models][0]! } : {}),
    ...(kinds.size === 1 ? { gpuKind: [...kinds][0]! } : {}),
  };
  return { from: formatDeployment(countsOf(from), defaults), to: formatDeployment(countsOf(to), defaults) };
}

export function switchStartedLine(plan: SwitchPlan): LogLine {
  const { from, to } = deploymentsOf(plan);
  return {
    message: `switch ${plan.id}: ${from} → ${to}, ${gigabytes(plan.bytes)} to move, about ${plan.seconds.toFixed(1)} s`,
    fields: { leaving: plan.leaving.length, arriving: plan.arriving.length, kept: plan.kept.length },
  };
}

export function switchEndedLine(
  plan: SwitchPlan,
  outcome: 'done' | 'rolled-back' | 'failed',
  seconds: number,
  why: string,
): LogLine {
  const { from, to } = deploymentsOf(plan);
  const message =
    outcome === 'done'
      ? `switch ${plan.id} done: ${to} serves after ${seconds.toFixed(1)} s, ${gigabytes(plan.bytes)} moved`
      : outcome === 'rolled-back'
        ? `switch ${plan.id} rolled back to ${from} after ${seconds.toFixed(1)} s: ${why}`
        : `switch ${plan.id} failed after ${seconds.toFixed(1)} s, repairing: ${why}`;
  return { message, fields: {} };
}
