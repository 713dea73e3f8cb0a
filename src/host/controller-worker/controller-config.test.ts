import { expect, test } from 'vitest';
import { loadConfig } from '../config/index.ts';
import { loadProfile } from '../profiles/index.ts';
import { controllerConfigOf } from './controller-config.ts';

test('what people set for models and search reaches the controller', () => {
  const environment = {
    OSERVE_MODELS:
      '[{name: llama2-70b, minReplicas: 2, pinned: 1xTP8, priority: 3}, {name: llama3-8b, maxReplicas: 4}]',
    OSERVE_SEARCH_MAX_PIPELINE_PARALLEL: '2',
    OSERVE_CONTROL_FREEZE: 'true',
    OSERVE_SWITCHING_DRAIN_SECONDS: '7',
  };
  const told = controllerConfigOf({ ...loadConfig({ environment }), profiles: [loadProfile('H100-80GB')] });
  expect(told).toMatchObject({
    limits: { 'llama2-70b': { minReplicas: 2, priority: 3 }, 'llama3-8b': { minReplicas: 1, maxReplicas: 4 } },
    pinned: [{ model: 'llama2-70b', count: 1, strategy: { tensorParallel: 8, pipelineParallel: 1 } }],
    maxPipelineParallel: 2,
    mode: 'recommend',
    costs: { drainSeconds: 7 },
  });
  expect(told.limits?.['llama2-70b']).not.toHaveProperty('maxReplicas');
});
