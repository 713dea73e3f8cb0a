// What a decision may rest on, and what limits it.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test, vi } from 'vitest';
import { main } from '../src/cli/main.ts';
import { type ControllerConfig, makeController, runPolicy } from '../src/core/control/index.ts';
import {
  type Controller,
  type Deployment,
  type FinishedRequest,
  gpusOf,
  MODELS,
  type Observation,
  type PlacedDeployment,
  type RequestView,
  type SwitchPlan,
  type TickRecord,
  type TraceRequest,
  uniformCluster,
} from '../src/core/domain/index.ts';
import { random } from '../src/core/math/index.ts';
import { placeDeployment } from '../src/core/switching/index.ts';
import { generateTrace, writeTrace } from '../src/host/index.ts';
import { constantLoad, contestOf, controllerConfig, LLAMA2, layout, runLoop } from './support/contest.ts';

const small = { maxPipelineParallel: 1, candidateCount: 3 };
const budget = { searchNodes: 500, simulatedRequests: 3000 };
const drifting = (seed: number, minutes: number): TraceRequest[] =>
  generateTrace({ seed, minutes, ratePerSecond: 12, periodMinutes: 10, from: { chat: 0.4 }, to: { chat: 1, code: 1 } });

describe('what a decision rests on', () => {
  test('output lengths that nobody can know yet change no decision already made', async () => {
    const nowSeconds = 360;
    // At most the smallest limit that clients send, so that the limit tells nothing of the length.
    const trace = drifting(3, 8).map((request) => ({
      ...request,
      outputTokens: Math.min(1024, request.outputTokens),
    }));
    const running = new Map<number, number>();
    const config = controllerConfig(small);
    const inner = makeController(config);
    const spy: Controller = {
      tick(observation, work) {
        if (observation.atSeconds === nowSeconds)
          for (const { arrivalSeconds, generatedTokens } of observation.running)
            running.set(arrivalSeconds, generatedTokens);
        return inner.tick(observation, work);
      },
    };
    const contest = (requests: readonly TraceRequest[]) => contestOf(requests, { config, contest: { budget } });
    const before = await runLoop(contest(trace), { controller: spy });
    expect(running.size).toBeGreaterThan(10);

    // Those who have not come yet swap their lengths; those who run get any length beyond what they have.
    const dice = random('permutation');
    const lengths = trace.filter((request) => request.arrivalSeconds > nowSeconds).map((r) => r.outputTokens);
    const changed = trace.map((request) => {
      const generated = running.get(request.arrivalSeconds);
      if (generated !== undefined)
        return { ...request, outputTokens: Math.min(1024, generated + 1 + Math.floor(dice.next() * 500)) };
      if (request.arrivalSeconds <= nowSeconds) return request;
      const [outputTokens] = lengths.splice(Math.floor(dice.next() * lengths.length), 1);
      return { ...request, outputTokens: outputTokens! };
    });
    const after = await runLoop(contest(changed));
    const upToNow = (records: readonly TickRecord[]) => records.filter(({ atSeconds }) => atSeconds <= nowSeconds);
    expect(upToNow(after.records)).toEqual(upToNow(before.records));
    expect(upToNow(before.records).some(({ decision }) => decision.kind !== 'none')).toBe(true);
    // The lengths did matter later.
    expect(after.records).not.toEqual(before.records);
  });

  test('equal seeds give equal records and results, another seed others', async () => {
    const trace = drifting(4, 5);
    const run = (seed: number) => runPolicy('oserve', contestOf(trace, { seed, config: small, contest: { budget } }));
    const first = await run(5);
    expect(await run(5)).toEqual(first);
    expect((await run(6)).e2eSeconds).not.toEqual(first.e2eSeconds);
  });

  test('simulate --json prints the same twice, apart from the time that it took', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'oserve-simulate-'));
    try {
      const file = join(folder, 'trace.csv');
      await writeTrace(file, drifting(7, 3));
      const print = async (): Promise<object> => {
        let stdout = '';
        const out = vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
          stdout += text;
          return true;
        });
        const err = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
        try {
          const policies = 'oserve,vllm-static-usual';
          expect(await main(['simulate', '--trace', file, '--policies', policies, '--world', 'fitted', '--json'])).toBe(
            0,
          );
        } finally {
          out.mockRestore();
          err.mockRestore();
        }
        return JSON.parse(stdout, (key, value: unknown) => (key === 'wallSeconds' ? 0 : value)) as object;
      };
      const first = await print();
      expect(Object.keys((first as { policies: object }).policies)).toEqual(['oserve', 'vllm-static-usual']);
      expect(await print()).toEqual(first);
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});

const cluster = uniformCluster(16);
const place = (deployment: Deployment): PlacedDeployment => placeDeployment(cluster, [], deployment, MODELS);

/** A pool that stands still, whatever is decided, under a constant load: one observation after another. */
class StillPool {
  readonly #views: RequestView[];
  #seconds = 0;
  readonly #placed: PlacedDeployment;

  constructor(deployment: Deployment, ratePerSecond: number) {
    this.#placed = place(deployment);
    this.#views = constantLoad(1, 90, ratePerSecond, { chat: 1 }).map(({ outputTokens: _, ...request }) => ({
      ...request,
      model: LLAMA2.name,
      maxTokens: 1024,
    }));
  }

  observe(seconds: number, changes: Partial<Observation> = {}): Observation {
    const from = this.#seconds;
    this.#seconds += seconds;
    const within = ({ arrivalSeconds }: RequestView) => arrivalSeconds >= from && arrivalSeconds < this.#seconds;
    const finished = this.#views.filter(within).map(
      (view, i): FinishedRequest => ({
        ...view,
        outputTokens: 50 + ((37 * i) % 300),
        finishedSeconds: this.#seconds,
        ttftSeconds: 0.5,
      }),
    );
    return {
      kind: 'slow',
      atSeconds: this.#seconds,
      cluster,
      lostGpus: [],
      replicas: this.#placed.map((replica) => ({
        ...replica,
        state: 'serving',
        runningCount: 0,
        waitingCount: 0,
        kvUsedShare: 0,
      })),
      arrivals: this.#views.filter(within),
      finished,
      running: [],
      queuedCount: 0,
      switchInProgress: null,
      switchEnded: null,
      ...changes,
    };
  }
}

/** Two replicas carry 24 requests/s of chat: too few for these. */
const OVERLOAD = 28;
const overloaded = () => new StillPool(layout('2xTP8'), OVERLOAD);
const controllerOf = (changes: Partial<ControllerConfig> = {}) =>
  makeController(controllerConfig({ ...small, ...changes }));
const planOf = ({ decision }: TickRecord): SwitchPlan => {
  expect(decision.kind).toBe('switch');
  return (decision as Extract<TickRecord['decision'], { kind: 'switch' }>).plan;
};

describe('what limits a decision', () => {
  test('GPUs that are lost are planned for at once, with those that are left', () => {
    const pool = new StillPool(layout('2xTP8'), 18);
    const controller = controllerOf();
    for (let i = 0; i < 4; i++) controller.tick(pool.observe(60), budget);
    // Half the pool is gone with one GPU; its agent still reports the replica as serving.
    const record = controller.tick(pool.observe(1, { kind: 'fast', lostGpus: [3] }), budget);
    expect(record.seen).toMatchObject({ lostGpus: 1, deployment: '1xTP8' });
    const { to } = planOf(record);
    expect(to.some(({ gpus }) => gpus.includes(3))).toBe(false);
    expect(to.reduce((sum, { strategy }) => sum + gpusOf(strategy), 0)).toBeGreaterThan(8);
    // The same loss is no news a second later.
    expect(controller.tick(pool.observe(1, { kind: 'fast', lostGpus: [3] }), budget).search).toBeNull();
  });

  test('when nothing serves the best deployment is set up, with or without traffic', () => {
    const pool = overloaded();
    const controller = controllerOf();
    const record = controller.tick(pool.observe(60, { replicas: [], arrivals: [], finished: [] }), budget);
    expect(planOf(record).from).toEqual([]);
    expect(planOf(record).to.length).toBeGreaterThan(0);
    expect(record.why).toContain('nothing serves');
  });

  test('an overloaded pool is switched in mode auto; recommend says so, observe decides nothing', () => {
    const decisions = (mode: 'auto' | 'recommend' | 'observe') => {
      const pool = overloaded();
      const controller = controllerOf({ mode });
      return Array.from({ length: 4 }, () => controller.tick(pool.observe(60), budget));
    };
    expect(decisions('auto').some(({ decision }) => decision.kind === 'switch')).toBe(true);
    const recommended = decisions('recommend');
    expect(recommended.every(({ decision }) => decision.kind !== 'switch')).toBe(true);
    expect(recommended.some(({ why }) => why.includes('mode is recommend'))).toBe(true);
    expect(decisions('observe').every(({ decision }) => decision.kind === 'none')).toBe(true);
  });

  test.each([1, 2])('no more than %i switches an hour', (maxSwitchesPerHour) => {
    const pool = overloaded();
    const controller = controllerOf({ maxSwitchesPerHour });
    // Nothing that is decided helps this pool.
    const records = Array.from({ length: 8 }, () => controller.tick(pool.observe(60), budget));
    expect(records.filter(({ decision }) => decision.kind === 'switch')).toHaveLength(maxSwitchesPerHour);
    expect(records.at(-1)!.why).toContain('the limit');
  });

  test('during a switch there is no second one', () => {
    const pool = overloaded();
    const controller = controllerOf();
    const records = Array.from({ length: 5 }, () =>
      controller.tick(pool.observe(60, { switchInProgress: 's1' }), budget),
    );
    expect(records.every(({ decision }) => decision.kind !== 'switch')).toBe(true);
    expect(controller.tick(pool.observe(60), budget).decision.kind).toBe('switch');
  });
});
