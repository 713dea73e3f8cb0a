// What people read in the log of a pool: one short line for what happened, the numbers as fields.
import type { TickRecord } from '../../core/domain/index.ts';

export interface LogLine {
  readonly message: string;
  readonly fields: Readonly<Record<string, string | number>>;
}

const rounded = (value: number, digits = 3): number => Number(value.toPrecision(digits));

/**
 * A tick worth a line: every slow one, and fast ones that changed something. Null for the others.
 *
 * @param arrivalsSince - arrivals since the last slow tick, and over how many seconds.
 */
export function tickLine(
  record: TickRecord,
  arrivalsSince: { readonly count: number; readonly seconds: number },
): LogLine | null {
  const { kind, seen, decision, why } = record;
  if (kind === 'fast' && decision.kind === 'none') return null;
  if (kind === 'fast') return { message: `routing changed: ${why}`, fields: { deployment: seen.deployment } };
  const rate = arrivalsSince.seconds > 0 ? arrivalsSince.count / arrivalsSince.seconds : 0;
  const predicted = record.predicted?.arrivalRate[0]?.reduce((sum, each) => sum + each, 0);
  return {
    message: `${rate.toFixed(1)} requests/s: ${why}`,
    fields: {
      ...(predicted === undefined ? {} : { predictedPerSecond: rounded(predicted) }),
      running: seen.running,
      queued: seen.queued,
      ...(seen.lostGpus > 0 ? { lostGpus: seen.lostGpus } : {}),
    },
  };
}
