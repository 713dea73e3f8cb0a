import { expect, test } from 'vitest';
import {
  classKey,
  DEFAULT_ENGINE_OPTIONS,
  gpuKind,
  InfeasibleError,
  MODELS,
  replicaMemory,
  uniformCluster,
} from '../domain/index.ts';
import { candidateClasses } from './candidate-classes.ts';

const model = (name: string) => MODELS.find((one) => one.name === name)!;

test('a class is legal for its model and holds requests of use on its GPU', () => {
  const cluster = uniformCluster(16);
  for (const spec of MODELS) {
    const classes = candidateClasses([spec], cluster, DEFAULT_ENGINE_OPTIONS);
    for (const { strategy, gpuKind: kind } of classes) {
      expect(spec.headCount % strategy.tensorParallel).toBe(0);
      expect(replicaMemory(spec, strategy, gpuKind(kind), DEFAULT_ENGINE_OPTIONS).maxModelLen).toBeGreaterThanOrEqual(
        2048,
      );
      expect(strategy.tensorParallel * strategy.pipelineParallel).toBeLessThanOrEqual(8);
    }
  }
});

test('70B weights do not fit on one GPU of 80 GB; 52 heads are not split over 8', () => {
  const names = (name: string) =>
    candidateClasses([model(name)], uniformCluster(16), DEFAULT_ENGINE_OPTIONS).map(classKey);
  expect(names('llama2-70b')).toContain('llama2-70b:TP4PP2@H100-80GB');
  expect(names('llama2-70b')).not.toContain('llama2-70b:TP1@H100-80GB');
  expect(names('llama-30b')).toContain('llama-30b:TP4@H100-80GB');
  expect(names('llama-30b')).not.toContain('llama-30b:TP8@H100-80GB');
});

test('larger replicas than a node come in whole nodes, when asked for', () => {
  const classes = candidateClasses([model('llama2-70b')], uniformCluster(32), DEFAULT_ENGINE_OPTIONS, {
    mostGpusPerReplica: 16,
    pipelineParallel: [1, 2, 3],
  });
  const sizes = new Set(classes.map(({ strategy }) => strategy.tensorParallel * strategy.pipelineParallel));
  expect(sizes.has(16)).toBe(true);
  expect(sizes.has(12)).toBe(false);
});

test('several kinds of GPU give classes of each; a model that fits nowhere is refused', () => {
  const cluster = { nodes: [...uniformCluster(8).nodes, ...uniformCluster(8, 'A100-80GB').nodes] };
  const kinds = new Set(candidateClasses([model('llama3-8b')], cluster, DEFAULT_ENGINE_OPTIONS).map((c) => c.gpuKind));
  expect([...kinds].sort()).toEqual(['A100-80GB', 'H100-80GB']);
  expect(() => candidateClasses([model('llama2-70b')], uniformCluster(1), DEFAULT_ENGINE_OPTIONS)).toThrow(
    InfeasibleError,
  );
});
