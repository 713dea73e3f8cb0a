import { expect, test } from 'vitest';
import { CONTROLLER_DEFAULTS } from '../../../test/support/controller-defaults.ts';
import {
  DEFAULT_ENGINE_OPTIONS,
  DEFAULT_SLO,
  DEFAULT_SWITCH_COSTS,
  modelByName,
  type Observation,
  type RoutingTable,
  uniformCluster,
} from '../domain/index.ts';
import type { ControllerConfig } from './config.ts';
import { makeController } from './oserve-controller.ts';

const STEP_SECONDS = 0.03;
const model = modelByName('llama2-70b');
const config: ControllerConfig = {
  ...CONTROLLER_DEFAULTS,
  models: [model],
  engine: DEFAULT_ENGINE_OPTIONS,
  objective: 'p99',
  slo: { [model.name]: DEFAULT_SLO },
  costs: DEFAULT_SWITCH_COSTS,
  parkedLayouts: [],
  onlyParkedLayouts: false,
  stepTimeOf: () => ({ stageSeconds: () => STEP_SECONDS }),
  profileVersion: 'test',
  seed: 1,
};
const routing: RoutingTable = {
  version: 41,
  workload: {
    version: 7,
    fittedToSeconds: 500,
    types: [
      {
        id: 'short',
        model: model.name,
        inputTokens: 100,
        outputTokens: 50,
        logInput: 4.6,
        logOutput: 3.9,
        samples: [[100, 50]],
      },
      {
        id: 'long',
        model: model.name,
        inputTokens: 4000,
        outputTokens: 50,
        logInput: 8.3,
        logOutput: 3.9,
        samples: [[4000, 50]],
      },
    ],
    posteriorCounts: {},
  },
  assignment: { typeIds: ['short', 'long'], classKeys: [], share: [[], []], variant: { kind: 'plain' } },
};
const quiet: Observation = {
  kind: 'slow',
  atSeconds: 660,
  cluster: uniformCluster(8),
  lostGpus: [],
  replicas: [],
  arrivals: [],
  finished: [],
  running: [],
  queuedCount: 0,
  switchInProgress: null,
  switchEnded: null,
};

test('a controller that takes over forecasts from what the one before it had counted, and numbers its tables on', () => {
  const history = Array.from({ length: 30 }, () => ({ short: 120, long: 60 }));
  const budget = { searchNodes: 1000, simulatedRequests: 500 };
  const record = makeController({ ...config, resume: { atSeconds: 660, routing, history } }).tick(quiet, budget);
  expect(record.types.map((type) => type.id)).toEqual(['short', 'long']);
  expect(record.predicted!.arrivalRate[0]![0]).toBeCloseTo(2, 1);
  expect(record.predicted!.arrivalRate[0]![1]).toBeCloseTo(1, 1);
  expect(record.versions.routing).toBe(42);
});

test('counts of types that are no longer known are not taken over', () => {
  const history = Array.from({ length: 30 }, () => ({ other: 500 }));
  const budget = { searchNodes: 1000, simulatedRequests: 500 };
  const record = makeController({ ...config, resume: { atSeconds: 660, routing, history } }).tick(quiet, budget);
  expect(record.predicted!.arrivalRate[0]).toEqual([0, 0]);
});
