// What it takes to bring half-way components back to where they were: arriving replicas are put away, then leaving ones
// serve again. In each component everything that frees memory comes before everything that takes it.
import {
  DEFAULT_SWITCH_COSTS,
  type PlacedReplica,
  type ReplicaId,
  type SwitchAction,
  type SwitchPlan,
  type SwitchStep,
} from '../domain/index.ts';
import type { ReplicaCondition } from './switch-execution.ts';

/**
 * Steps of the roll-back; `after` counts from the first of them.
 *
 * @param conditionOf - where each replica stands now; nothing runs any more.
 */
export function rollBackSteps(
  plan: SwitchPlan,
  components: readonly { readonly leaving: readonly PlacedReplica[]; readonly arriving: readonly PlacedReplica[] }[],
  conditionOf: (id: ReplicaId) => ReplicaCondition,
): SwitchStep[] {
  const steps: SwitchStep[] = [];
  const add = (replica: ReplicaId, action: SwitchAction, after: readonly number[]): number =>
    steps.push({ ...expected(plan, replica, action), after }) - 1;
  const chain = (replica: ReplicaId, actions: readonly SwitchAction[], after: readonly number[]): readonly number[] =>
    actions.reduce<readonly number[]>((before, action) => [add(replica, action, before)], after);

  for (const { leaving, arriving } of components) {
    const putAway: number[] = [];
    for (const { id } of arriving) putAway.push(...chain(id, actionsToPutAway(conditionOf(id)), []));
    for (const { id } of leaving) {
      // A replica that was not to be drained was dead before the switch (its GPU is lost): it cannot come back.
      if (!plan.steps.some((step) => step.replica === id && step.action === 'drain')) continue;
      if (conditionOf(id) === 'parking') putAway.push(...chain(id, ['park'], []));
    }
    for (const { id } of leaving) {
      if (!plan.steps.some((step) => step.replica === id && step.action === 'drain')) continue;
      chain(id, actionsToServeAgain(conditionOf(id)), putAway);
    }
  }
  return steps;
}

function actionsToPutAway(condition: ReplicaCondition): readonly SwitchAction[] {
  switch (condition) {
    case 'absent':
    case 'parked':
      return [];
    case 'creating':
    case 'releasing':
      return ['release'];
    case 'awake':
    case 'parking':
      return ['park'];
    case 'admitting':
    case 'serving':
    case 'draining':
      return ['drain', 'park'];
  }
}

function actionsToServeAgain(condition: ReplicaCondition): readonly SwitchAction[] {
  switch (condition) {
    case 'serving':
      return [];
    case 'draining':
    case 'admitting':
      return ['admit'];
    case 'parking': // parked once more before, see above
    case 'parked':
    case 'awake':
      return ['wake', 'fill', 'verify', 'admit'];
    case 'absent':
    case 'creating':
    case 'releasing':
      return ['create', 'wake', 'fill', 'verify', 'admit'];
  }
}

/** The step as the planner foresaw it; plans made by hand may not say, then the usual costs hold. */
function expected(plan: SwitchPlan, replica: ReplicaId, action: SwitchAction): SwitchStep {
  const known = [...(plan.restore ?? []), ...plan.steps].find(
    (step) => step.replica === replica && step.action === action,
  );
  if (known) return known;
  const usual: Readonly<Record<SwitchAction, number>> = {
    drain: DEFAULT_SWITCH_COSTS.drainSeconds,
    park: DEFAULT_SWITCH_COSTS.parkSeconds,
    release: 0,
    create: DEFAULT_SWITCH_COSTS.newProcessSeconds,
    wake: DEFAULT_SWITCH_COSTS.wakeSeconds,
    fill: 0,
    verify: DEFAULT_SWITCH_COSTS.verifySeconds,
    admit: 0,
  };
  const step: SwitchStep = { replica, action, seconds: usual[action], after: [], bytes: 0 };
  return action === 'fill' ? { ...step, source: 'host' } : step;
}
