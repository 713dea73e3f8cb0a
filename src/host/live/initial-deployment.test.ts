import { expect, test } from 'vitest';
import { tiledLayouts } from '../../../test/support/fake-pool.ts';
import {
  DEFAULT_ENGINE_OPTIONS,
  DEFAULT_SLO,
  formatDeployment,
  modelByName,
  uniformCluster,
} from '../../core/domain/index.ts';
import { initialDeployment } from './index.ts';

const llama = modelByName('llama2-70b');
const small = modelByName('llama3-8b');
const model = (spec: typeof llama) => ({
  spec,
  slo: DEFAULT_SLO,
  minReplicas: 1,
  maxReplicas: null,
  pinned: [],
  priority: 1,
});
const config = (initial: string | null) => ({
  engine: DEFAULT_ENGINE_OPTIONS,
  switching: { initial, parkedBytesPerLayout: 2e9 },
});
const TP = (tensorParallel: number) => ({ tensorParallel, pipelineParallel: 1 });

test('the smallest replicas that hold the full length fill every node', () => {
  const cluster = uniformCluster(16);
  const deployment = initialDeployment({
    cluster,
    models: [model(llama)],
    parkedPlaces: tiledLayouts(cluster, llama.name, [TP(8), TP(4)]),
    config: config(null),
  });
  expect(formatDeployment(deployment, { model: llama.name, gpuKind: 'H100-80GB' })).toBe('4xTP4');
});

test('two models get a node each', () => {
  const cluster = uniformCluster(16);
  const deployment = initialDeployment({
    cluster,
    models: [model(llama), model(small)],
    parkedPlaces: [llama, small].flatMap((spec) => tiledLayouts(cluster, spec.name, [TP(8), TP(1)])),
    config: config(null),
  });
  expect(formatDeployment(deployment, { gpuKind: 'H100-80GB' })).toBe('llama2-70b:1xTP8,llama3-8b:8xTP1');
});

test('more models than nodes is a question to the user', () => {
  const cluster = uniformCluster(8);
  const ask = () =>
    initialDeployment({
      cluster,
      models: [model(llama), model(small)],
      parkedPlaces: [],
      config: config(null),
    });
  expect(ask).toThrow(/2 models on 1 node/);
});

test('replicas that are named and do not fit are refused with numbers before anything starts', () => {
  const cluster = uniformCluster(8);
  const named = (initial: string) =>
    initialDeployment({
      cluster,
      models: [model(llama)],
      parkedPlaces: tiledLayouts(cluster, llama.name, [TP(8), TP(4)]),
      config: config(initial),
    });
  expect(formatDeployment(named('2xTP4'), { model: llama.name, gpuKind: 'H100-80GB' })).toBe('2xTP4');
  expect(() => named('8xTP1')).toThrow(
    /8xTP1@H100-80GB, which does not fit: 128\.\d GiB of weights on a H100-80GB of 80\.0 GiB/,
  );
});
