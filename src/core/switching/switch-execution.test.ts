import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  countsOf,
  DEFAULT_ENGINE_OPTIONS,
  DEFAULT_SWITCH_COSTS,
  formatDeployment,
  MODELS,
  parseDeployment,
  type ReplicaId,
  type SwitchAction,
  type SwitchPlan,
  uniformCluster,
} from '../domain/index.ts';
import { placeDeployment } from './placement.ts';
import { planSwitch } from './plan-switch.ts';
import { SwitchExecution } from './switch-execution.ts';
import type { SwitchRequest } from './switch-request.ts';

const defaults = { model: 'llama2-70b', gpuKind: 'H100-80GB' };
const read = (text: string) => parseDeployment(text, defaults);

function planOf(gpus: number, from: string, to: string, changes: Partial<SwitchRequest> = {}): SwitchPlan {
  const cluster = uniformCluster(gpus);
  const standing = placeDeployment(cluster, [], read(from), MODELS);
  return planSwitch({
    id: 'switch-1',
    cluster,
    models: MODELS,
    from: standing,
    to: placeDeployment(cluster, standing, read(to), MODELS),
    engine: DEFAULT_ENGINE_OPTIONS,
    costs: DEFAULT_SWITCH_COSTS,
    parkedLayouts: [],
    planner: 'greedy',
    ...changes,
  });
}
const shown = (execution: SwitchExecution) => formatDeployment(countsOf(execution.deployment()), defaults);

/** Runs one step after the other; `fails` says which starts of steps end badly (counted over the whole run). */
function run(execution: SwitchExecution, fails: (n: number, action: SwitchAction) => boolean = () => false) {
  const log: string[] = [];
  for (let n = 0; !execution.done; n++) {
    const [index] = execution.ready();
    expect(index, 'something is ready until it is done').toBeDefined();
    const { replica, action } = execution.steps[index!]!;
    execution.started(index!);
    if (fails(n, action)) execution.failed(index!, 'lost');
    else execution.succeeded(index!);
    log.push(`${action} ${replica}`);
  }
  return log;
}

test('steps start only after what they wait for, and the switch ends where the plan says', () => {
  const plan = planOf(16, '2xTP8', '1xTP8,2xTP4');
  const execution = new SwitchExecution(plan);
  const log = run(execution);
  expect(execution.outcome).toBe('done');
  expect(log).toHaveLength(plan.steps.length);
  expect(shown(execution)).toBe('1xTP8,2xTP4');
  expect(() => execution.started(0)).toThrow(/may start/);
});

test('nothing to do is done at once', () => {
  const execution = new SwitchExecution(planOf(16, '2xTP8', '2xTP8'));
  expect([execution.done, execution.outcome]).toEqual([true, 'done']);
});

test('what was drained but not parked is only admitted again', () => {
  const execution = new SwitchExecution(planOf(8, '1xTP8', '2xTP4'));
  const log = run(execution, (_, action) => action === 'park');
  // A park that failed may have had its effect: it is repeated, and a replica that cannot be parked is released.
  expect(log.map((line) => line.split(' ')[0])).toEqual(['drain', 'park', 'park', 'release']);
  expect([execution.outcome, shown(execution)]).toEqual(['failed', 'empty']);
  const afterDrain = new SwitchExecution(planOf(8, '1xTP8', '2xTP4'));
  const [drain] = afterDrain.ready();
  afterDrain.started(drain!);
  afterDrain.succeeded(drain!);
  afterDrain.abort('no longer wanted');
  expect(run(afterDrain)).toEqual(['admit r0']);
  expect([afterDrain.outcome, afterDrain.why, shown(afterDrain)]).toEqual(['rolled-back', 'no longer wanted', '1xTP8']);
});

test('what was parked is woken, filled, verified and admitted again, after newcomers gave the memory back', () => {
  const execution = new SwitchExecution(planOf(8, '1xTP8', '2xTP4'));
  let failed = false;
  const log = run(execution, (_, action) => {
    if (failed || action !== 'fill') return false;
    failed = true;
    return true;
  });
  expect(execution.outcome).toBe('rolled-back');
  expect(execution.why).toMatch(/^fill of r\d failed: lost$/);
  const back = log.slice(log.lastIndexOf('fill r1') < 0 ? 0 : log.findIndex((line) => line.startsWith('fill')) + 1);
  expect(back.slice(-4)).toEqual(['wake r0', 'fill r0', 'verify r0', 'admit r0']);
  expect(back.slice(0, -4).every((line) => line.startsWith('park'))).toBe(true);
  // Expected durations come from the plan: a shard of TP8 from host memory.
  const fill = execution.steps.findLast(({ action }) => action === 'fill')!;
  expect(fill.seconds).toBeCloseTo(137.95 / 8 / 50, 1);
  expect(shown(execution)).toBe('1xTP8');
});

test('components that were finished before a failure stay', () => {
  const execution = new SwitchExecution(planOf(32, '4xTP8', '8xTP4'));
  let admits = 0;
  run(execution, (_, action) => {
    if (action === 'admit') admits++;
    return admits >= 2 && action === 'wake';
  });
  // The wakes of the roll-back fail as well here, so the half-way component is lost; the others stand.
  expect(execution.outcome).toBe('failed');
  expect(shown(execution)).toBe('2xTP8,2xTP4');
  for (const { id } of execution.plan.leaving)
    expect(['serving', 'parked', 'absent']).toContain(execution.conditionOf(id));
});

test('steps that run when another fails may end before the roll-back begins', () => {
  const execution = new SwitchExecution(planOf(8, '1xTP8', '2xTP4'));
  for (let i = 0; i < 2; i++) {
    const [index] = execution.ready();
    execution.started(index!);
    execution.succeeded(index!);
  }
  const [first, second] = execution.ready();
  execution.started(first!);
  execution.started(second!);
  execution.failed(first!, 'no memory');
  expect([execution.ready(), execution.rollingBack, execution.done]).toEqual([[], true, false]);
  execution.succeeded(second!);
  expect(execution.ready().length).toBeGreaterThan(0);
  run(execution);
  expect([execution.outcome, shown(execution)]).toEqual(['rolled-back', '1xTP8']);
});

const plans = [
  planOf(8, '1xTP8', '2xTP4'),
  planOf(8, '1xTP8', '2xTP4', { oldWeightsLeave: 'after-fill' }),
  planOf(16, '2xTP4,1xTP8', '1xTP4PP2,1xTP4,2xTP2'),
  planOf(16, '2xTP8', '4xTP4', { mostParkedLayouts: 0 }),
  planOf(16, '1xTP8PP2', '1xTP8,2xTP4', { mostUnavailableShare: 1 }),
  planOf(16, '1xTP8', '1xTP8,2xTP4'),
  planOf(16, '1xTP8,2xTP4', '1xTP8'),
];

interface Event {
  readonly choice: number;
  readonly fails: boolean;
  readonly crash: boolean;
}
const events = fc.infiniteStream(
  fc.record({
    choice: fc.nat(1000),
    fails: fc.nat(20).map((n) => n === 0),
    crash: fc.nat(10).map((n) => n === 0),
  }),
);

/** Starts and ends steps in any order that is allowed. A crash writes the state as JSON and reads it again. */
function play(plan: SwitchPlan, stream: Iterator<Event>, mostFailures: number): SwitchExecution {
  let execution = new SwitchExecution(plan);
  let failures = 0;
  for (let n = 0; !execution.done; n++) {
    expect(n).toBeLessThan(2000);
    const { choice, fails, crash } = stream.next().value as Event;
    if (crash) execution = SwitchExecution.fromJSON(JSON.parse(JSON.stringify(execution)));
    if (execution.done) break;
    const running = execution.states.flatMap((state, i) => (state === 'running' ? [i] : []));
    const options = [...execution.ready().map((i) => [i, true] as const), ...running.map((i) => [i, false] as const)];
    expect(options.length, 'something can happen').toBeGreaterThan(0);
    const [index, start] = options[choice % options.length]!;
    if (start) execution.started(index);
    else if (fails && failures < mostFailures) {
      failures++;
      execution.failed(index, 'lost');
    } else execution.succeeded(index);
  }
  return execution;
}

/** Every replica serves or is put away; no GPU has two that serve. */
function isSettled(execution: SwitchExecution): void {
  const { plan } = execution;
  const ids: ReplicaId[] = [...plan.leaving.map(({ id }) => id), ...plan.arriving.map(({ replica }) => replica.id)];
  for (const id of ids) expect(['serving', 'parked', 'absent']).toContain(execution.conditionOf(id));
  const gpus = execution.deployment().flatMap((replica) => replica.gpus);
  expect(new Set(gpus).size).toBe(gpus.length);
  for (const id of plan.kept) expect(execution.deployment().some((replica) => replica.id === id)).toBe(true);
}

test('whatever fails and whenever it crashes, no replica is left half-way', () => {
  fc.assert(
    fc.property(fc.constantFrom(...plans), fc.nat(5), events, (plan, mostFailures, stream) => {
      const execution = play(plan, stream, mostFailures);
      isSettled(execution);
      if (mostFailures === 0) expect(execution.outcome).toBe('done');
    }),
    { numRuns: 400 },
  );
});

test('with one failure every component is as before or as planned', () => {
  fc.assert(
    fc.property(fc.constantFrom(...plans), events, (plan, stream) => {
      const execution = play(plan, stream, 1);
      isSettled(execution);
      expect(execution.outcome).not.toBe('failed');
      const serving = new Set(execution.deployment().map(({ id }) => id));
      // A GPU that served before serves after, unless the plan leaves it empty and got that far.
      const now = new Set(execution.deployment().flatMap(({ gpus }) => gpus));
      for (const old of plan.leaving) {
        const successors = plan.arriving.filter(({ replica }) => replica.gpus.some((gpu) => old.gpus.includes(gpu)));
        const replaced = successors.every(({ replica }) => serving.has(replica.id));
        expect(serving.has(old.id) !== replaced || (successors.length === 0 && serving.has(old.id))).toBe(true);
        if (successors.length > 0) expect(old.gpus.some((gpu) => now.has(gpu))).toBe(true);
      }
    }),
    { numRuns: 400 },
  );
});

test('a failure of each step alone, with a crash at each moment, ends the same with and without the crash', () => {
  for (const plan of plans.slice(0, 4)) {
    for (let failing = 0; failing < plan.steps.length; failing++) {
      const straight = new SwitchExecution(plan);
      run(straight, (n) => n === failing);
      isSettled(straight);
      for (let crashAt = 0; crashAt <= plan.steps.length; crashAt++) {
        let execution = new SwitchExecution(plan);
        for (let n = 0; !execution.done; n++) {
          const [index] = execution.ready();
          execution.started(index!);
          // The crash comes while the step runs: it is started again.
          if (n === crashAt) {
            execution = SwitchExecution.fromJSON(JSON.parse(JSON.stringify(execution.toJSON())));
            expect(execution.ready()).toContain(index);
            execution.started(index!);
          }
          if (n === failing) execution.failed(index!, 'lost');
          else execution.succeeded(index!);
        }
        expect(execution.outcome).toBe(straight.outcome);
        expect(shown(execution)).toBe(shown(straight));
      }
    }
  }
});
