import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  DEFAULT_ENGINE_OPTIONS,
  DEFAULT_SWITCH_COSTS,
  gpuKind,
  MODELS,
  modelByName,
  onTimeGrid,
  type PlacedDeployment,
  parseDeployment,
  type RequestView,
  type RoutingTable,
  replicaMemory,
  type StepTimeOf,
  type SwitchPlan,
  type TraceRequest,
  uniformCluster,
} from '../domain/index.ts';
import { exponential, random } from '../math/index.ts';
import { ReplicaEngine } from '../replica/index.ts';
import { placeDeployment, planSwitch } from '../switching/index.ts';
import { type RoutableReplica, SimulatedFleet, type SimulatedRouter, type SimulationOptions } from './index.ts';

const cluster = uniformCluster(16);
const model = modelByName('llama2-70b');
const defaults = { model: model.name, gpuKind: 'H100-80GB' };
const place = (text: string, from: PlacedDeployment = []) =>
  placeDeployment(cluster, from, parseDeployment(text, defaults), MODELS);

/** Steps of 20 to 40 ms; more GPUs are faster. */
const stepTimeOf: StepTimeOf = ({ strategy: { tensorParallel } }) => ({
  stageSeconds: (prefillTokens, _pairs, decodeSequences, contextTokens) =>
    onTimeGrid((0.02 + 4e-5 * prefillTokens + 1e-5 * decodeSequences + 1e-8 * contextTokens) * (4 / tensorParallel)),
});

/** Fewest requests per GPU, and only where input + maxTokens fits. Keeps what it was asked. */
class LeastLoaded implements SimulatedRouter {
  readonly asked: { view: RequestView; loads: number[] }[] = [];
  #replicas: readonly RoutableReplica[];
  constructor(replicas: readonly RoutableReplica[]) {
    this.#replicas = replicas;
  }
  setReplicas(replicas: readonly RoutableReplica[]): void {
    this.#replicas = replicas;
  }
  route(view: RequestView, loads: { readonly requests: ArrayLike<number> }): number {
    this.asked.push({ view, loads: Array.from(loads.requests) });
    let best = -1;
    this.#replicas.forEach(({ maxModelLen, gpuCount }, i) => {
      if (view.inputTokens + view.maxTokens > maxModelLen) return;
      const load = loads.requests[i]! / gpuCount;
      if (best < 0 || load < loads.requests[best]! / this.#replicas[best]!.gpuCount) best = i;
    });
    return best;
  }
}

const routing = { version: 1 } as RoutingTable;
const fleetOf = (trace: readonly TraceRequest[], changes: Partial<SimulationOptions<LeastLoaded>> = {}) =>
  new SimulatedFleet<LeastLoaded>({
    trace,
    cluster,
    models: MODELS.filter(({ name }) => name === model.name),
    engine: DEFAULT_ENGINE_OPTIONS,
    stepTimeOf,
    parkedBytes: 2e9,
    initial: place('4xTP4'),
    makeRouter: (_, replicas) => new LeastLoaded(replicas),
    costs: DEFAULT_SWITCH_COSTS,
    random: random('fleet'),
    ...changes,
  });

const switchPlan = (from: PlacedDeployment, to: string, costs = DEFAULT_SWITCH_COSTS): SwitchPlan =>
  planSwitch({
    id: 'switch-1',
    cluster,
    models: MODELS,
    from,
    to: place(to, from),
    engine: DEFAULT_ENGINE_OPTIONS,
    costs,
    parkedLayouts: [],
    planner: 'greedy',
  });

function poisson(seed: string, ratePerSecond: number, seconds: number, longest = 3000): TraceRequest[] {
  const draw = random(seed);
  const requests: TraceRequest[] = [];
  for (let at = 0; at < seconds; at += exponential(draw, 1 / ratePerSecond)) {
    requests.push({
      arrivalSeconds: at,
      inputTokens: 1 + Math.floor(longest * draw.next() ** 3),
      outputTokens: 1 + Math.floor(400 * draw.next() ** 2),
    });
  }
  return requests;
}

const seeds = fc.integer({ min: 0, max: 1e6 }).map(String);
const layouts = fc.constantFrom('4xTP4', '2xTP8', '1xTP8,2xTP4', '2xTP4PP2', '1xTP8PP2');

describe('a pool without a switch', () => {
  test('requests in = done + refused; a finished one has its times in order', () => {
    fc.assert(
      fc.property(seeds, layouts, fc.integer({ min: 1, max: 20 }), (seed, layout, rate) => {
        const trace = poisson(seed, rate, 20, 15_000);
        const { outcomes } = fleetOf(trace, { initial: place(layout) }).finish();
        expect(outcomes).toHaveLength(trace.length);
        outcomes.forEach((outcome, i) => {
          expect(outcome.completed).toBe(!outcome.refused);
          if (!outcome.completed) return;
          expect(outcome.outputTokens).toBe(trace[i]!.outputTokens);
          expect(outcome.ttftSeconds).toBeGreaterThan(0);
          if (outcome.outputTokens === 1) expect(outcome.e2eSeconds).toBe(outcome.ttftSeconds);
          else expect(outcome.e2eSeconds).toBeGreaterThan(outcome.ttftSeconds);
        });
      }),
      { numRuns: 30 },
    );
  });

  test('equal seeds give equal runs, however often time is stopped on the way', () => {
    fc.assert(
      fc.property(seeds, fc.array(fc.double({ min: 0, max: 40, noNaN: true }), { maxLength: 30 }), (seed, stops) => {
        const trace = poisson(seed, 6, 20);
        const stopped = fleetOf(trace, { stateAgeSeconds: (draw) => draw.next() });
        for (const stop of [...stops].sort((a, b) => a - b)) stopped.advanceTo(stop);
        expect(stopped.finish()).toEqual(fleetOf(trace, { stateAgeSeconds: (draw) => draw.next() }).finish());
      }),
      { numRuns: 20 },
    );
  });

  test('one replica does exactly what its engine does alone', () => {
    const trace = poisson('alone', 3, 60);
    const initial = place('1xTP4');
    const { kvBlocks } = replicaMemory(model, initial[0]!.strategy, gpuKind('H100-80GB'), DEFAULT_ENGINE_OPTIONS, 2e9);
    const engine = new ReplicaEngine({
      stepTime: stepTimeOf(initial[0]!, ''),
      pipelineParallel: 1,
      kvBlocks,
      engine: DEFAULT_ENGINE_OPTIONS,
    });
    const ends: number[] = [];
    trace.forEach(({ inputTokens, outputTokens, arrivalSeconds }, i) => {
      engine.add(i, inputTokens, outputTokens, arrivalSeconds);
    });
    engine.advance(Number.POSITIVE_INFINITY, {
      token() {},
      finished: (request, at) => {
        ends[request] = at;
      },
    });
    const { outcomes } = fleetOf(trace, { initial }).finish();
    expect(outcomes.map(({ e2eSeconds }, i) => e2eSeconds + trace[i]!.arrivalSeconds)).toEqual(
      ends.map((end, i) => end - trace[i]!.arrivalSeconds + trace[i]!.arrivalSeconds),
    );
  });

  test('what is longer than every replica allows is refused, the rest goes on', () => {
    const trace = [
      { arrivalSeconds: 0, inputTokens: 20_000, outputTokens: 10 },
      { arrivalSeconds: 1, inputTokens: 200, outputTokens: 10 },
    ];
    const { outcomes } = fleetOf(trace).finish();
    expect(outcomes.map(({ completed, refused }) => [completed, refused])).toEqual([
      [false, true],
      [true, false],
    ]);
    expect(outcomes[0]!.e2eSeconds).toBe(Number.POSITIVE_INFINITY);
  });

  test('with a bounded queue later requests are refused, and never one while nothing waits', () => {
    const burst = Array.from({ length: 3000 }, () => ({ arrivalSeconds: 0, inputTokens: 1000, outputTokens: 100 }));
    const { outcomes } = fleetOf(burst, { admission: 100 }).finish();
    const refused = outcomes.filter((outcome) => outcome.refused).length;
    expect(refused).toBeGreaterThan(1000);
    expect(outcomes.filter((outcome) => outcome.completed)).toHaveLength(3000 - refused);
    expect(
      fleetOf(poisson('calm', 1, 30), { admission: 1 })
        .finish()
        .outcomes.some(({ refused }) => refused),
    ).toBe(false);
  });
});

describe('what the router knows', () => {
  const trace = [0, 0.5, 1, 8, 9.5].map((arrivalSeconds) => ({ arrivalSeconds, inputTokens: 100, outputTokens: 50 }));
  const seenBy = (stateAgeSeconds?: () => number) => {
    let router: LeastLoaded | undefined;
    fleetOf(trace, {
      initial: place('1xTP4'),
      makeRouter: (_, replicas) => {
        router = new LeastLoaded(replicas);
        return router;
      },
      ...(stateAgeSeconds ? { stateAgeSeconds } : {}),
    }).finish();
    return router!.asked.map(({ loads }) => loads[0]);
  };

  test('is the load of the moment by default', () => {
    expect(seenBy()).toEqual([0, 1, 2, 0, 0]);
  });

  test('is old where the world says so, except for what the router sent itself', () => {
    // Knowledge of second 0 lasts to second 9: three ends are not heard of before.
    expect(seenBy(() => 9)).toEqual([0, 1, 2, 3, 0]);
  });
});

describe('a switch under load', () => {
  const run = (seed: string, from: string, to: string, changes: Partial<SimulationOptions<LeastLoaded>> = {}) => {
    const trace = poisson(seed, 5, 60);
    const initial = place(from);
    const fleet = fleetOf(trace, { initial, ...changes });
    fleet.advanceTo(20);
    fleet.startSwitch(switchPlan(initial, to), routing);
    const during = fleet.switchInProgress;
    return { trace, during, fleet, ...fleet.finish() };
  };
  const targets = fc.constantFrom('4xTP4', '2xTP8', '1xTP8,2xTP4', '2xTP4PP2');

  test('loses no request: what is cut goes on elsewhere and gets exactly its tokens', () => {
    fc.assert(
      fc.property(seeds, targets, targets, (seed, from, to) => {
        fc.pre(from !== to);
        const { trace, during, outcomes, switches } = run(seed, from, to, {
          costs: { ...DEFAULT_SWITCH_COSTS, drainSeconds: 0.5 },
        });
        expect(during).toBe('switch-1');
        expect(switches.map(({ id, outcome }) => [id, outcome])).toEqual([['switch-1', 'done']]);
        outcomes.forEach((outcome, i) => {
          expect(outcome.completed).toBe(true);
          expect(outcome.outputTokens).toBe(trace[i]!.outputTokens);
        });
      }),
      { numRuns: 30 },
    );
  });

  test('ends in the deployment that was asked for', async () => {
    const { fleet } = run('ends', '4xTP4', '2xTP8');
    const { replicas, switchInProgress, switchEnded } = await fleet.observe('slow');
    expect(replicas.filter(({ state }) => state === 'serving').map(({ strategy }) => strategy)).toEqual([
      { tensorParallel: 8, pipelineParallel: 1 },
      { tensorParallel: 8, pipelineParallel: 1 },
    ]);
    expect(switchInProgress).toBeNull();
    expect(switchEnded).toMatchObject({ id: 'switch-1', outcome: 'done' });
  });

  test('that fails is rolled back, and still no request is lost', () => {
    fc.assert(
      fc.property(seeds, fc.constantFrom('fill', 'verify', 'create'), (seed, action) => {
        const { outcomes, switches } = run(seed, '4xTP4', '2xTP8', {
          stepOutcome: (step) => ({
            seconds: step.seconds,
            failure: step.action === action && step.replica !== 'r0' && step.replica !== 'r1' ? 'broken' : null,
          }),
        });
        expect(switches).toHaveLength(1);
        // Layouts come up anew here: every replica is created, filled and verified.
        expect(switches[0]!.outcome).not.toBe('done');
        expect(switches[0]!.why).toMatch(`${action} of`);
        expect(outcomes.every(({ completed }) => completed)).toBe(true);
      }),
      { numRuns: 20 },
    );
  });

  test('takes as long as planned when its replicas are idle', () => {
    const initial = place('4xTP4');
    const fleet = fleetOf([{ arrivalSeconds: 500, inputTokens: 10, outputTokens: 2 }], { initial });
    const plan = switchPlan(initial, '2xTP8', { ...DEFAULT_SWITCH_COSTS, drainSeconds: 0 });
    fleet.startSwitch(plan, routing);
    expect(fleet.finish().switches[0]!.seconds).toBeCloseTo(plan.seconds, 9);
  });
});

test('observations tell each arrival and each end exactly once, and what runs in between', async () => {
  const trace = poisson('observed', 5, 30);
  const fleet = fleetOf(trace);
  let arrivals = 0;
  let finished = 0;
  for (let at = 1; finished < trace.length; at++) {
    fleet.advanceTo(at);
    const seen = await fleet.observe('slow');
    expect(seen.atSeconds).toBe(at);
    arrivals += seen.arrivals.length;
    finished += seen.finished.length;
    expect(arrivals).toBe(trace.filter(({ arrivalSeconds }) => arrivalSeconds <= at).length);
    expect(seen.running.length).toBe(arrivals - finished);
    for (const request of seen.finished) expect(request.finishedSeconds).toBeLessThanOrEqual(at);
    const shown = seen.replicas.reduce((sum, { runningCount, waitingCount }) => sum + runningCount + waitingCount, 0);
    expect(shown + seen.queuedCount).toBe(seen.running.length);
  }
  expect(fleet.idle).toBe(true);
});
