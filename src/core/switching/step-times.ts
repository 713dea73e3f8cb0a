// Steps as a graph: an order in which they can run, and when each is expected to start and end.
import {
  gpuKind,
  invariant,
  type PlacedReplica,
  type SwitchAction,
  type SwitchCosts,
  type SwitchStep,
} from '../domain/index.ts';

/** The same steps, each behind all that it waits for (a park may wait for a fill of a component listed later). */
export function inOrder(steps: readonly SwitchStep[]): SwitchStep[] {
  const newIndex = new Map<number, number>();
  const ordered: SwitchStep[] = [];
  while (ordered.length < steps.length) {
    const before = ordered.length;
    steps.forEach((step, index) => {
      if (newIndex.has(index) || !step.after.every((other) => newIndex.has(other))) return;
      newIndex.set(index, ordered.push({ ...step, after: step.after.map((other) => newIndex.get(other)!) }) - 1);
    });
    invariant(ordered.length > before, 'steps do not wait for each other in a circle');
  }
  return ordered;
}

/** When each step is expected to start and end, seconds from the start of the switch. */
export function schedule(steps: readonly SwitchStep[]): { readonly start: number; readonly end: number }[] {
  const times: { start: number; end: number }[] = [];
  for (const { seconds, after } of steps) {
    const start = after.reduce((latest, index) => Math.max(latest, times[index]!.end), 0);
    times.push({ start, end: start + seconds });
  }
  return times;
}

/** Expected seconds from the first drain (or, without one, from the start) to the end of the last admit. */
export function secondsFromFirstDrain(steps: readonly SwitchStep[]): number {
  const times = schedule(steps);
  const starts = steps.flatMap(({ action }, i) => (action === 'drain' ? [times[i]!.start] : []));
  const admits = steps.flatMap(({ action }, i) => (action === 'admit' ? [times[i]!.end] : []));
  // Where nothing arrives, replicas only go: to the end of the last step.
  const end = Math.max(0, ...(admits.length > 0 ? admits : times.map((time) => time.end)));
  return end - Math.min(end, ...(starts.length > 0 ? starts : [0]));
}

/**
 * Steps that a roll-back may need for one replica: down, or up again from parked or from nothing, filled from host memory.
 *
 * @param shardBytes - weight bytes by rank.
 */
export function restoreSteps(
  { id, gpuKind: kind }: PlacedReplica,
  shardBytes: readonly number[],
  costs: SwitchCosts,
): SwitchStep[] {
  const step = (action: SwitchAction, seconds: number): SwitchStep => ({
    replica: id,
    action,
    seconds,
    after: [],
    bytes: 0,
  });
  const bytes = shardBytes.reduce((sum, each) => sum + each, 0);
  const fillSeconds = Math.max(...shardBytes) / gpuKind(kind).hostBytesPerSecond;
  return [
    step('drain', costs.drainSeconds),
    step('park', costs.parkSeconds),
    step('release', 0),
    step('create', costs.newProcessSeconds),
    step('wake', costs.wakeSeconds),
    { ...step('fill', fillSeconds), bytes, source: 'host' },
    step('verify', costs.verifySeconds),
    step('admit', 0),
  ];
}
