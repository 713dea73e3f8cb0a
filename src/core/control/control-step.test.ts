import { expect, test } from 'vitest';
import type { Decision, Observation, TickRecord } from '../domain/index.ts';
import { controlStep } from './control-step.ts';

test('the record is in the journal before the fleet acts', async () => {
  const order: string[] = [];
  const record = { decision: { kind: 'route', routing: {} } } as unknown as TickRecord;
  await controlStep(
    {
      controller: { tick: () => record },
      fleet: {
        observe: async () => ({}) as Observation,
        apply: async (decision: Decision) => void order.push(`apply ${decision.kind}`),
      },
      journal: { append: () => void order.push('journal') },
      budget: { searchNodes: 1, simulatedRequests: 1 },
    },
    'slow',
  );
  expect(order).toEqual(['journal', 'apply route']);
});

test('a journal that fails stops the step before anything is done', async () => {
  let applied = 0;
  const step = controlStep(
    {
      controller: { tick: async () => ({ decision: { kind: 'route' } }) as unknown as TickRecord },
      fleet: { observe: async () => ({}) as Observation, apply: async () => void applied++ },
      journal: {
        append: () => {
          throw new Error('disk full');
        },
      },
      budget: { searchNodes: 1, simulatedRequests: 1 },
    },
    'slow',
  );
  await expect(step).rejects.toThrow('disk full');
  expect(applied).toBe(0);
});
