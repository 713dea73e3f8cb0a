// What people read in the log about a switch.
import { countsOf, formatDeployment, type SwitchPlan } from '../../core/domain/index.ts';
import type { LogLine } from '../live/index.ts';
import type { SwitchEvent } from './switch-executor.ts';

export interface SwitchLine extends LogLine {
  readonly level: 'debug' | 'info' | 'warn' | 'error';
}

export function switchLine(event: SwitchEvent): SwitchLine {
  const { id, bytes, seconds, leaving, arriving, kept } = event.plan;
  const { from, to } = deploymentsOf(event.plan);
  switch (event.kind) {
    case 'started':
      return {
        level: 'info',
        message: `switch ${id}: ${from} → ${to}, ${gigabytes(bytes)} to move, about ${seconds.toFixed(1)} s`,
        fields: { leaving: leaving.length, arriving: arriving.length, kept: kept.length },
      };
    case 'resumed':
      return { level: 'info', message: `switch ${id} is taken up where the last controller left it`, fields: {} };
    case 'step':
      return {
        level: 'debug',
        message: `switch ${id}: ${event.step.action}`,
        fields: { replica: event.step.replica, seconds: event.seconds },
      };
    case 'moved':
      return {
        level: 'info',
        message: `switch ${id}: requests go on elsewhere`,
        fields: { replica: event.step.replica, requests: event.requests },
      };
    case 'step-failed':
      return {
        level: 'warn',
        message: `switch ${id}: ${event.step.action} failed`,
        fields: { replica: event.step.replica, why: event.why },
      };
    case 'journal-failed':
      return {
        level: 'error',
        message: `switch ${id} goes on although the journal cannot be written`,
        fields: { why: event.why },
      };
    case 'ended': {
      const took = `after ${event.seconds.toFixed(1)} s`;
      if (event.outcome === 'done') {
        const message = `switch ${id} done: ${to} serves ${took}, ${gigabytes(bytes)} moved`;
        return { level: 'info', message, fields: {} };
      }
      const what = event.outcome === 'rolled-back' ? `rolled back ${took}` : `failed ${took}, repairing`;
      return { level: 'warn', message: `switch ${id} ${what}`, fields: { why: event.why } };
    }
  }
}

/** Bytes in the unit that people compare models in. */
const gigabytes = (bytes: number): string => `${(bytes / 1e9).toFixed(1)} GB`;

/** Both deployments of a plan, without model and GPU kind where there is only one. */
function deploymentsOf({ from, to }: SwitchPlan): { readonly from: string; readonly to: string } {
  const models = new Set([...from, ...to].map((replica) => replica.model));
  const kinds = new Set([...from, ...to].map((replica) => replica.gpuKind));
  const defaults = {
    ...(models.size === 1 ? { model: [...models][0]! } : {}),
    ...(kinds.size === 1 ? { gpuKind: [...kinds][0]! } : {}),
  };
  return { from: formatDeployment(countsOf(from), defaults), to: formatDeployment(countsOf(to), defaults) };
}
