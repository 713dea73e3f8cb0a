import { expect, test } from 'vitest';
import { formatDeployment, gpusUsed } from '../../core/domain/index.ts';
import { type LoadOptions, loadConfig } from '../config/index.ts';
import { loadProfiles } from '../profiles/index.ts';
import { initialDeployment } from './index.ts';

const profiles = loadProfiles();
const start = (settings: Readonly<Record<string, unknown>>, models = ['llama2-70b'], nodes = 2) => {
  const flags: LoadOptions['flags'] = [
    { path: 'models', value: models.map((name) => ({ name })), from: 'test' },
    { path: 'cluster.nodes', value: [{ count: nodes, gpusPerNode: 8 }], from: 'test' },
    ...Object.entries(settings).map(([path, value]) => ({ path, value, from: 'test' })),
  ];
  return initialDeployment({ ...loadConfig({ environment: {}, flags }), profiles });
};

test('without a name it is the plan for traffic of which nothing is known, on parked layouts alone', () => {
  const parked = ['TP8', 'TP4'];
  const deployment = start({ 'switching.parkedLayouts': parked });
  expect(formatDeployment(deployment, { model: 'llama2-70b', gpuKind: 'H100-80GB' })).toBe('4xTP4');
  expect(start({ 'switching.parkedLayouts': ['TP8'] })[0]!.strategy).toEqual({
    tensorParallel: 8,
    pipelineParallel: 1,
  });
});

test('every model has a replica from the start, also when they share a node', () => {
  for (const nodes of [1, 2]) {
    const layouts = ['llama2-70b:TP4', 'llama3-8b:TP1', 'llama3-8b:TP4'];
    const deployment = start({ 'switching.parkedLayouts': layouts }, ['llama2-70b', 'llama3-8b'], nodes);
    expect(new Set(deployment.map((group) => group.model)).size).toBe(2);
    expect(gpusUsed(deployment)).toBeLessThanOrEqual(8 * nodes);
  }
});

test('a deployment that is named is taken as it is', () => {
  const deployment = start({ 'switching.initial': '1xTP8,2xTP4' });
  expect(formatDeployment(deployment, { model: 'llama2-70b', gpuKind: 'H100-80GB' })).toBe('1xTP8,2xTP4');
});

test('replicas that are named and do not fit are refused with numbers before anything starts', () => {
  expect(() => start({ 'switching.initial': '8xTP1' })).toThrow(/GiB/);
  expect(() => start({ 'switching.initial': 'opt-66b:1xTP8' })).toThrow(/opt-66b/);
});
