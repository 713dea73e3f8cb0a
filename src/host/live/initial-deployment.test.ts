import { expect, test } from 'vitest';
import { tiledLayouts } from '../../../test/support/fake-pool.ts';
import { DEFAULT_ENGINE_OPTIONS, formatDeployment, modelByName, uniformCluster } from '../../core/domain/index.ts';
import { initialDeployment } from './index.ts';

const llama = modelByName('llama2-70b');
const small = modelByName('llama3-8b');
const TP = (tensorParallel: number) => ({ tensorParallel, pipelineParallel: 1 });

test('the smallest replicas that hold the full length fill every node', () => {
  const cluster = uniformCluster(16);
  const deployment = initialDeployment({
    cluster,
    models: [{ spec: llama }],
    parkedPlaces: tiledLayouts(cluster, llama.name, [TP(8), TP(4)]),
    config: { engine: DEFAULT_ENGINE_OPTIONS },
  });
  expect(formatDeployment(deployment, { model: llama.name, gpuKind: 'H100-80GB' })).toBe('4xTP4');
});

test('two models get a node each', () => {
  const cluster = uniformCluster(16);
  const deployment = initialDeployment({
    cluster,
    models: [{ spec: llama }, { spec: small }],
    parkedPlaces: [llama, small].flatMap((spec) => tiledLayouts(cluster, spec.name, [TP(8), TP(1)])),
    config: { engine: DEFAULT_ENGINE_OPTIONS },
  });
  expect(formatDeployment(deployment, { gpuKind: 'H100-80GB' })).toBe('llama2-70b:1xTP8,llama3-8b:8xTP1');
});

test('more models than nodes is a question to the user', () => {
  const cluster = uniformCluster(8);
  const ask = () =>
    initialDeployment({
      cluster,
      models: [{ spec: llama }, { spec: small }],
      parkedPlaces: [],
      config: { engine: DEFAULT_ENGINE_OPTIONS },
    });
  expect(ask).toThrow(/2 models on 1 node/);
});
