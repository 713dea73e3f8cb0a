// What the control loop decides on a fixed trace, record by record, and what the policies make of it. A difference is
// reviewed like code: `npm run golden` writes the files anew, and the commit says why the numbers moved.
import { expect, test } from 'vitest';
import { type PolicyName, type PolicyResult, runPolicy } from '../../src/core/control/index.ts';
import { formatDeployment, type TickRecord } from '../../src/core/domain/index.ts';
import { generateTrace } from '../../src/host/index.ts';
import { contestOf, layout } from '../support/contest.ts';

/** 13 minutes that go from chat to code and back, heavy enough on 16 GPUs that the deployment matters. */
const trace = generateTrace({ seed: 11, minutes: 13, ratePerSecond: 5, periodMinutes: 13 });

/** Rounded to 9 digits, so that the last bits of a platform's logarithm do not count. */
const rounded = (_key: string, value: unknown): unknown =>
  typeof value === 'number' && Number.isFinite(value) ? Number(value.toPrecision(9)) : value;

/** JSON with one line for each field of each object, so that a difference shows what moved. */
const asText = (objects: readonly object[]): string => {
  const blocks = objects.map((object) => {
    const lines = Object.entries(object).map(
      ([key, value]) => `  ${JSON.stringify(key)}: ${JSON.stringify(value, rounded)}`,
    );
    return `{\n${lines.join(',\n')}\n}`;
  });
  return `[\n${blocks.join(',\n')}\n]\n`;
};

/** A record without what is long and follows from the rest: samples of types, transfers of a plan. */
function outlineOf(record: TickRecord): object {
  const { decision, types, ...rest } = record;
  const outline =
    decision.kind === 'switch'
      ? { plan: outlineOfPlan(decision.plan), routing: decision.routing.assignment }
      : decision.kind === 'route'
        ? { routing: decision.routing.assignment }
        : {};
  return { ...rest, types, decision: { kind: decision.kind, ...outline } };
}

const outlineOfPlan = ({ id, kept, leaving, arriving, steps, bytes, seconds }: SwitchPlanOf): object => ({
  id,
  kept,
  leaving: leaving.map((replica) => `${replica.id} on ${replica.gpus.join(',')}`),
  arriving: arriving.map(({ replica, rung }) => `${replica.id} on ${replica.gpus.join(',')} by ${rung}`),
  steps: steps.map(({ replica, action }) => `${action} ${replica}`),
  bytes,
  seconds,
});

type SwitchPlanOf = Extract<TickRecord['decision'], { kind: 'switch' }>['plan'];

async function run(policy: PolicyName): Promise<PolicyResult> {
  // Pipelines suit neither end of this trace: the loop has a reason to leave them.
  const initial = layout('4xTP2PP2');
  return runPolicy(policy, contestOf(trace, { seed: 3, contest: { initial } }));
}

test('the records of the slow ticks are those of the golden file', async () => {
  const { records } = await run('oserve');
  const slow = records.filter(({ kind }) => kind === 'slow');
  expect(slow.length).toBeGreaterThanOrEqual(14);
  expect(slow.some(({ decision }) => decision.kind === 'switch')).toBe(true);
  await expect(asText(slow.map(outlineOf))).toMatchFileSnapshot('./simulate.records.json');
});

test('the metrics of the policies are those of the golden file', async () => {
  const table: object[] = [];
  for (const policy of ['oserve', 'vllm-static-usual', 'round-robin'] as const) {
    const { records: _records, deployment, ...metrics } = await run(policy);
    table.push({ policy, ...metrics, deployment: formatDeployment(deployment) });
  }
  await expect(asText(table)).toMatchFileSnapshot('./simulate.metrics.json');
});
