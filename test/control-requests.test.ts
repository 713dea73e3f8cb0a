// Whatever is decided and whatever fails, every request ends once and whole.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { POLICIES, runPolicy } from '../src/core/control/index.ts';
import {
  type Controller,
  type Random,
  type SwitchStep,
  type TickRecord,
  type TraceRequest,
  uniformCluster,
} from '../src/core/domain/index.ts';
import { exponential, random } from '../src/core/math/index.ts';
import { placeDeployment, planSwitch } from '../src/core/switching/index.ts';
import { contestOf, controllerConfig, LLAMA2, layout, runLoop } from './support/contest.ts';

const cluster = uniformCluster(8);
const small = { maxPipelineParallel: 2, candidateCount: 3, windowSeconds: 20 };
const budget = { searchNodes: 200, simulatedRequests: 500 };

function trafficOf(seed: number, ratePerSecond: number, seconds: number): TraceRequest[] {
  const dice = random(seed).fork('traffic');
  const trace: TraceRequest[] = [];
  for (let at = 0; at < seconds; at += exponential(dice, 1 / ratePerSecond)) {
    trace.push({
      arrivalSeconds: at,
      inputTokens: 1 + Math.floor(6000 * dice.next() ** 3),
      outputTokens: 1 + Math.floor(400 * dice.next() ** 2),
    });
  }
  return trace;
}

/** Half of the checks find a replica wrong, so that many switches are rolled back. */
const failing = (step: SwitchStep, dice: Random) => ({
  seconds: step.seconds * (0.5 + dice.fork('seconds').next()),
  failure: step.action === 'verify' && dice.fork('failure').next() < 0.3 ? 'the weights differ' : null,
});

/** Switches between random layouts whenever it may. */
function restless(seed: number): Controller {
  const config = controllerConfig(small);
  const dice = random(seed).fork('restless');
  let count = 0;
  return {
    tick({ kind, replicas, switchInProgress }): TickRecord {
      if (kind === 'fast' || switchInProgress !== null) return { decision: { kind: 'none' } } as TickRecord;
      const layouts = ['2xTP4', '1xTP8', '2xTP2PP2', '1xTP4,2xTP2', '1xTP4'];
      const from = replicas.map(({ id, model, gpuKind, strategy, gpus }) => ({ id, model, gpuKind, strategy, gpus }));
      const to = placeDeployment(cluster, from, layout(layouts[Math.floor(dice.next() * layouts.length)]!), [LLAMA2]);
      const plan = planSwitch({
        id: `s${++count}`,
        cluster,
        models: [LLAMA2],
        from,
        to,
        engine: config.engine,
        costs: config.costs,
        parkedLayouts: [],
        planner: 'greedy',
      });
      const assignment = { typeIds: [], classKeys: [], share: [], variant: { kind: 'plain' } } as const;
      const workload = { version: 1, fittedToSeconds: 0, types: [], posteriorCounts: {} };
      return {
        decision: { kind: 'switch', plan, routing: { version: count, workload, assignment } },
      } as unknown as TickRecord;
    },
  } as Controller;
}

test('through switches that succeed and fail, each request gets its tokens once and keeps its first', async () => {
  let moved = 0;
  const outcomesOfSwitches = new Set<string>();
  await fc.assert(
    fc.asyncProperty(fc.nat(1e6), fc.integer({ min: 1, max: 10 }), async (seed, rate) => {
      const trace = trafficOf(seed, rate, 90);
      const tokens = new Int32Array(trace.length);
      const first = new Float64Array(trace.length);
      const ends = new Int32Array(trace.length);
      const contest = contestOf(trace, {
        seed,
        cluster,
        config: small,
        contest: { budget, initial: layout('2xTP4'), slowTickSeconds: 15 },
      });
      const { fleet, outcomes } = await runLoop(
        { ...contest, world: { ...contest.world, stepOutcome: failing } },
        {
          controller: restless(seed),
          watch(watched) {
            const [token, finished] = [watched.token.bind(watched), watched.finished.bind(watched)];
            watched.token = (request, generated, at) => {
              if (tokens[request]! === 0) first[request] = at;
              tokens[request]! += 1;
              token(request, generated, at);
            };
            watched.finished = (request, at) => {
              ends[request]! += 1;
              finished(request, at);
            };
          },
        },
      );
      for (const { outcome } of fleet.finish().switches) outcomesOfSwitches.add(outcome);
      outcomes.forEach((outcome, i) => {
        expect(outcome.completed).toBe(!outcome.refused);
        expect(ends[i]).toBe(outcome.completed ? 1 : 0);
        expect(tokens[i]).toBe(outcome.completed ? trace[i]!.outputTokens : 0);
        if (outcome.completed) expect(fleet.log.firstTokenSeconds[i]).toBe(first[i]);
        if (fleet.log.carriedTokens[i]! > 0) moved += 1;
      });
    }),
    { numRuns: 12 },
  );
  // The property was put to the test.
  expect(moved).toBeGreaterThan(10);
  expect(outcomesOfSwitches).toContain('done');
  expect(outcomesOfSwitches).toContain('rolled-back');
});

test.each(POLICIES)('under %s every request is done or refused', async (name) => {
  await fc.assert(
    fc.asyncProperty(fc.nat(1e6), fc.integer({ min: 1, max: 12 }), async (seed, rate) => {
      const trace = trafficOf(seed, rate, 60);
      // A margin below zero: switches for the slightest reason.
      const contest = contestOf(trace, { seed, cluster, config: { ...small, minGainShare: -5 }, contest: { budget } });
      const result = await runPolicy(name, { ...contest, world: { ...contest.world, stepOutcome: failing } });
      expect(result.requests).toBe(trace.length);
      expect(result.completed + result.refused).toBe(trace.length);
    }),
    { numRuns: 3 },
  );
});
