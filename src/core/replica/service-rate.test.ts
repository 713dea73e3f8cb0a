import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { DEFAULT_ENGINE_OPTIONS, gpuKind, modelByName, replicaMemory, type Strategy } from '../domain/index.ts';
import { random } from '../math/index.ts';
import { FittedStepTime } from './fitted-step-time.ts';
import { ReplicaEngine } from './replica-engine.ts';
import { mixServiceRate, serviceRate } from './service-rate.ts';
import { exampleProfile } from './testing/example-profile.ts';

const model = modelByName('llama2-70b');
const engine = DEFAULT_ENGINE_OPTIONS;
const tp = (tensorParallel: number, pipelineParallel = 1): Strategy => ({ tensorParallel, pipelineParallel });
const replica = (strategy: Strategy) => {
  const replicaClass = { model: model.name, gpuKind: 'H100-80GB', strategy };
  return { model, replicaClass, engine, stepTime: new FittedStepTime(exampleProfile, model, replicaClass) };
};

/** Requests/s that the replica engine ends per second when it never runs out of requests, after a warm-up. */
function simulatedRate(strategy: Strategy, lengths: readonly (readonly [number, number])[]): number {
  const { stepTime } = replica(strategy);
  const { kvBlocks } = replicaMemory(model, strategy, gpuKind('H100-80GB'), engine);
  const simulated = new ReplicaEngine({
    stepTime,
    pipelineParallel: strategy.pipelineParallel,
    kvBlocks,
    engine,
  });
  const warmUp = 400;
  const measured = 800;
  let sent = 0;
  let done = 0;
  let start = 0;
  let end = 0;
  const send = (at: number) => {
    const [input, output] = lengths[sent % lengths.length]!;
    simulated.add(sent++, input, output, at);
  };
  const sink = {
    token() {},
    finished(_: number, at: number) {
      done++;
      if (done === warmUp) start = at;
      end = at;
      send(at);
    },
  };
  for (let i = 0; i < 400; i++) send(0);
  while (done < warmUp + measured) simulated.advance(simulated.nextEventSeconds(), sink);
  return measured / (end - start);
}

/** Lengths around a mean, each from half to one and a half of it. */
function around(inputTokens: number, outputTokens: number): [number, number][] {
  const draw = random(`${inputTokens}/${outputTokens}`);
  return Array.from({ length: 499 }, () => [
    Math.round(inputTokens * (0.5 + draw.next())),
    Math.max(1, Math.round(outputTokens * (0.5 + draw.next()))),
  ]);
}

describe('the service rate in closed form', () => {
  const shapes = [
    [128, 128],
    [256, 1024],
    [512, 256],
    [1024, 512],
    [2048, 128],
    [4096, 256],
  ] as const;
  test.each([
    ['TP4', tp(4), 0.1],
    ['TP8', tp(8), 0.1],
    ['TP4PP2', tp(4, 2), 0.15],
  ])('agrees with a saturated %s in the simulator', (_, strategy, tolerance) => {
    for (const [inputTokens, outputTokens] of shapes) {
      const lengths = around(inputTokens, outputTokens);
      const parts = lengths.map(([input, output]) => ({ inputTokens: input, outputTokens: output, weight: 1 }));
      const closed = mixServiceRate({ ...replica(strategy), parts });
      const simulated = simulatedRate(strategy, lengths);
      const error = Math.abs(closed / simulated - 1);
      expect(error, `${inputTokens}/${outputTokens}: ${closed} against ${simulated}`).toBeLessThan(tolerance);
    }
  });

  test('on eight H100: pipelines win at long prompts with short answers, TP8 at short prompts with long answers', () => {
    const rate = (strategy: Strategy, inputTokens: number, outputTokens: number) =>
      serviceRate({ ...replica(strategy), inputTokens, outputTokens });
    expect(rate(tp(4, 2), 2048, 128)).toBeGreaterThan(1.05 * rate(tp(8), 2048, 128));
    expect(rate(tp(4, 2), 4096, 64)).toBeGreaterThan(1.05 * rate(tp(8), 4096, 64));
    expect(rate(tp(2, 4), 4096, 64)).toBeGreaterThan(1.05 * rate(tp(8), 4096, 64));
    expect(rate(tp(8), 256, 1024)).toBeGreaterThan(1.05 * rate(tp(4, 2), 256, 1024));
    expect(rate(tp(8), 256, 1024)).toBeGreaterThan(1.2 * rate(tp(2, 4), 256, 1024));
  });

  test('falls when requests get longer', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(tp(4), tp(8), tp(4, 2), tp(2, 4)),
        fc.integer({ min: 1, max: 6000 }),
        fc.integer({ min: 2, max: 2000 }),
        fc.integer({ min: 100, max: 2000 }),
        (strategy, inputTokens, outputTokens, more) => {
          const base = serviceRate({ ...replica(strategy), inputTokens, outputTokens });
          // Whole chunks and whole sequences leave ripples of a few percent.
          expect(serviceRate({ ...replica(strategy), inputTokens: inputTokens + more, outputTokens })).toBeLessThan(
            1.1 * base,
          );
          expect(serviceRate({ ...replica(strategy), inputTokens, outputTokens: outputTokens + more })).toBeLessThan(
            1.1 * base,
          );
        },
      ),
    );
  });

  test('is 0 for what does not fit, and for what cannot meet its SLO', () => {
    expect(serviceRate({ ...replica(tp(1)), inputTokens: 100, outputTokens: 100 })).toBe(0);
    expect(serviceRate({ ...replica(tp(8)), inputTokens: 16000, outputTokens: 1000 })).toBe(0);
    const slo = { ttftSeconds: 1, ttftSecondsPerInputToken: 0, tpotSeconds: 0.001 };
    expect(serviceRate({ ...replica(tp(8)), inputTokens: 100, outputTokens: 100, slo })).toBe(0);
  });

  test('an SLO lowers the rate, and a looser one less', () => {
    const rate = (tpotSeconds: number) =>
      serviceRate({
        ...replica(tp(4)),
        inputTokens: 1000,
        outputTokens: 200,
        slo: { ttftSeconds: 5, ttftSecondsPerInputToken: 0, tpotSeconds },
      });
    const free = serviceRate({ ...replica(tp(4)), inputTokens: 1000, outputTokens: 200 });
    expect(rate(0.03)).toBeGreaterThan(0);
    expect(rate(0.03)).toBeLessThan(rate(0.06));
    expect(rate(0.06)).toBeLessThanOrEqual(free);
    expect(rate(10)).toBe(free);
  });
});
