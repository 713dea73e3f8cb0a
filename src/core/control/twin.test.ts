import { expect, test } from 'vitest';
import { CONTROLLER_DEFAULTS } from '../../../test/support/controller-defaults.ts';
import { DEFAULT_SLO, type Objective, type RequestOutcome } from '../domain/index.ts';
import type { ControllerConfig } from './config.ts';
import { Twin } from './twin.ts';

const lenient = { ...DEFAULT_SLO, ttftSeconds: 100, tpotSeconds: 10 };
const config = (objective: Objective): ControllerConfig =>
  ({
    ...CONTROLLER_DEFAULTS,
    objective,
    models: [{ name: 'strict' }, { name: 'lenient' }],
    slo: { strict: DEFAULT_SLO, lenient },
  }) as unknown as ControllerConfig;
const noTypes = { version: 0, fittedToSeconds: 0, types: [], posteriorCounts: {} };
const slow = (model: string): RequestOutcome => ({
  model,
  inputTokens: 100,
  outputTokens: 11,
  completed: true,
  refused: false,
  ttftSeconds: 20,
  e2eSeconds: 30,
});
const run = (outcomes: readonly RequestOutcome[]) => ({ outcomes, spanSeconds: 10, switches: [] });

test('each request is held to the service level of its own model', () => {
  const twin = new Twin(config('goodput'), noTypes);
  expect(twin.score([run([slow('strict'), slow('strict')])], [])).toBe(-0);
  expect(twin.score([run([slow('strict'), slow('lenient'), slow('lenient')])], [])).toBe(-0.2);
});

test('a refused request is very slow, but finite', () => {
  const refused = { ...slow('strict'), completed: false, refused: true, e2eSeconds: Number.POSITIVE_INFINITY };
  const score = new Twin(config('p99'), noTypes).score([run([slow('strict'), refused])], []);
  expect(score).toBeGreaterThan(1000);
  expect(score).toBeLessThan(Number.POSITIVE_INFINITY);
});
