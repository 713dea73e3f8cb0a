import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { fakePool, tiledLayouts } from '../../../test/support/fake-pool.ts';
import {
  modelByName,
  type PlacedReplica,
  type RoutingTable,
  replicaId,
  type SwitchAction,
  type SwitchPlan,
  type SwitchStep,
} from '../../core/domain/index.ts';
import {
  engineIdOf,
  FleetWatch,
  type Layout,
  LiveFleet,
  Reconciler,
  ReplicaActions,
  RoutingPublisher,
} from '../live/index.ts';
import { type SwitchEvent, SwitchExecutor, type SwitchJournal } from './index.ts';

const model = modelByName('llama2-70b');
const TP8 = { tensorParallel: 8, pipelineParallel: 1 };
const TP4 = { tensorParallel: 4, pipelineParallel: 1 };

const routing: RoutingTable = {
  version: 5,
  workload: { version: 3, fittedToSeconds: 0, types: [], posteriorCounts: {} },
  assignment: { typeIds: [], classKeys: [], share: [], variant: { kind: 'plain' } },
};

/** A journal that keeps text, as a disk does; `afterSaves` lets a test pull the plug at one write. */
class FakeJournal implements SwitchJournal {
  text: string | null = null;
  saves = 0;
  full = false;
  afterSave: (saves: number) => void = () => {};

  switchStep({ state, atSeconds }: Parameters<SwitchJournal['switchStep']>[0]): void {
    if (this.full) throw new Error('no space left on device');
    const openedSeconds = this.lastSwitch()?.openedSeconds ?? atSeconds;
    this.text = JSON.stringify({ openedSeconds, state });
    this.saves++;
    this.afterSave(this.saves);
  }

  lastSwitch(): ReturnType<SwitchJournal['lastSwitch']> {
    return this.text === null ? null : JSON.parse(this.text);
  }
}

/** Node by node: TP8 leaves, two TP4 arrive in its place; the second node waits for the first. */
function planToTp4(layouts: readonly Layout[], id = 's1'): SwitchPlan {
  const named = (layout: Layout, name: string): PlacedReplica => ({ ...layout, id: replicaId(name) });
  const wide = layouts.filter((layout) => layout.strategy.tensorParallel === 8);
  const narrow = layouts.filter((layout) => layout.strategy.tensorParallel === 4);
  const leaving = wide.map((layout, i) => named(layout, `old${i}`));
  const arriving = narrow.map((layout, i) => named(layout, `new${i}`));
  const steps: SwitchStep[] = [];
  const add = (replica: PlacedReplica, action: SwitchAction, after: number[]) =>
    steps.push({ replica: replica.id, action, seconds: 1, after, bytes: action === 'fill' ? 1e9 : 0 }) - 1;
  let before: number[] = [];
  leaving.forEach((old) => {
    const park = add(old, 'park', [add(old, 'drain', before)]);
    before = arriving
      .filter((replica) => old.gpus.includes(replica.gpus[0]!))
      .map((replica) =>
        (['wake', 'fill', 'verify', 'admit'] as const).reduce((last, action) => add(replica, action, [last]), park),
      );
  });
  return {
    id,
    from: leaving,
    to: arriving,
    kept: [],
    leaving,
    arriving: arriving.map((replica) => ({ replica, rung: 'parked-fill' })),
    steps,
    bytes: 4e9,
    links: [],
    seconds: 10,
    lowerBoundSeconds: 1,
  };
}

type Pool = ReturnType<typeof fakePool>;

/** One controller process: everything that dies with it. `killed` makes all it does from then on have no effect. */
function controllerOver(pool: Pool, journal: FakeJournal, layouts: readonly Layout[]) {
  let killed = false;
  const dead = new Promise<never>(() => {});
  // A killed process sends nothing more and hears nothing more.
  const cut = <T extends object>(port: T): T =>
    new Proxy(port, {
      get: (target, key) => {
        const value = Reflect.get(target, key);
        if (typeof value !== 'function') return value;
        return async (...args: unknown[]) => {
          if (killed) return dead;
          const answer = await value.apply(target, args);
          return killed ? dead : answer;
        };
      },
    });
  const gateway = cut(pool.gateway);
  const watch = new FleetWatch({ agents: pool.agents.map(cut), cluster: pool.cluster });
  const publisher = new RoutingPublisher({ gateway, models: [model] });
  const actions = new ReplicaActions({
    watch,
    gateway,
    publisher,
    clock: pool.clock,
    drainLimits: { drainSeconds: 5, drainDeadlineSeconds: 30 },
  });
  const reconciler = new Reconciler({
    actions,
    layouts,
    clock: pool.clock,
    fillCost: () => ({ bytes: 1, seconds: 1 }),
  });
  const events: SwitchEvent[] = [];
  const executor = new SwitchExecutor({
    actions,
    publisher,
    journal,
    nowSeconds: () => pool.clock.nowSeconds(),
    exclusive: (gpus) => reconciler.leaves(gpus),
    onDeployment: (deployment) => reconciler.want(deployment),
    onEvent: (event) => events.push(event),
  });
  const fleet = new LiveFleet({
    cluster: pool.cluster,
    watch,
    gateway,
    publisher,
    reconciler,
    switches: executor,
    nowSeconds: () => pool.clock.nowSeconds(),
  });
  const run = async (seconds: number) => {
    for (let i = 0; i < seconds && !killed; i++) {
      await fleet.observe('fast');
      await pool.clock.delay(1);
    }
  };
  return {
    executor,
    reconciler,
    fleet,
    watch,
    publisher,
    events,
    run,
    kill: () => {
      killed = true;
    },
  };
}

/** Two TP8 serving, TP4 layouts parked beside. */
async function servingPool() {
  const pool = fakePool();
  const journal = new FakeJournal();
  const layouts = tiledLayouts(pool.cluster, model.name, [TP8, TP4]);
  const plan = planToTp4(layouts);
  const controller = controllerOver(pool, journal, layouts);
  controller.reconciler.want(plan.from);
  await controller.run(60);
  await controller.reconciler.settled();
  const servingGpus = () =>
    pool.agents
      .flatMap((agent) => [...agent.engines.values()])
      .filter((engine) => engine.state === 'serving')
      .flatMap((engine) => engine.gpus)
      .sort((a, b) => a - b);
  return { ...pool, pool, journal, layouts, plan, controller, servingGpus };
}

const allGpus = Array.from({ length: 16 }, (_, gpu) => gpu);
const idsOf = (replicas: readonly Layout[]) => replicas.map(engineIdOf);

test('a switch moves the pool from one deployment to the other and the gateway with it', async () => {
  const { controller, plan, gateway, servingGpus } = await servingPool();
  await controller.fleet.apply({ kind: 'switch', plan, routing });
  expect((await controller.fleet.observe('fast')).switchInProgress).toBe('s1');
  await controller.executor.idle();
  expect(servingGpus()).toEqual(allGpus);
  expect(gateway.routedIds).toEqual(idsOf(plan.to));
  expect(gateway.updates.at(-1)!.workload.version).toBe(3);
  const seen = await controller.fleet.observe('fast');
  expect(seen.switchInProgress).toBeNull();
  expect(seen.switchEnded).toMatchObject({ id: 's1', outcome: 'done' });
  expect((await controller.fleet.observe('fast')).switchEnded).toBeNull();
});

test('while it runs the gateway is never without a replica, since the plan goes node by node', async () => {
  const { controller, plan, gateway } = await servingPool();
  const before = gateway.updates.length;
  controller.executor.start(plan, routing);
  await controller.executor.idle();
  for (const update of gateway.updates.slice(before)) expect(update.replicas.length).toBeGreaterThan(0);
});

test('requests that can move are moved when the drain is over, and told', async () => {
  const { controller, plan, gateway } = await servingPool();
  gateway.movable.set(engineIdOf(plan.leaving[0]!), 4);
  controller.executor.start(plan, routing);
  await controller.executor.idle();
  expect(controller.events.filter((event) => event.kind === 'moved')).toMatchObject([{ requests: 4 }]);
});

test('a second switch is refused while one is under way', async () => {
  const { controller, plan } = await servingPool();
  controller.executor.start(plan, routing);
  expect(() => controller.executor.start({ ...plan, id: 's2' }, routing)).toThrow(/s1 is still under way/);
  await controller.executor.idle();
});

test('a switch that cannot be written down is not started', async () => {
  const { controller, plan, journal, agents } = await servingPool();
  journal.full = true;
  const before = agents[0]!.log.length;
  expect(() => controller.executor.start(plan, routing)).toThrow(/journal/);
  await controller.run(3);
  expect(agents[0]!.log.length).toBe(before);
});

test('a journal that fails in the middle is told and does not stop the switch', async () => {
  const { controller, plan, journal, servingGpus } = await servingPool();
  journal.afterSave = (saves) => {
    journal.full = saves >= 3;
  };
  controller.executor.start(plan, routing);
  await controller.executor.idle();
  expect(servingGpus()).toEqual(allGpus);
  expect(controller.events.some((event) => event.kind === 'journal-failed')).toBe(true);
  expect(controller.events.at(-1)).toMatchObject({ kind: 'ended', outcome: 'done' });
});

test('an engine that dies while it is being filled rolls its node back, with every GPU serving again', async () => {
  const { controller, plan, agents, servingGpus } = await servingPool();
  agents[1]!.failOnce.add('fill');
  controller.executor.start(plan, routing);
  await controller.executor.idle();
  const ended = (await controller.fleet.observe('fast')).switchEnded!;
  expect(ended.outcome).toBe('rolled-back');
  expect(ended.why).toMatch(/fill/);
  await controller.run(10);
  expect(servingGpus()).toEqual(allGpus);
  // The first node had finished and keeps its new replicas.
  expect(idsOf(controller.reconciler.wanted).sort()).toEqual(
    [...idsOf(plan.to.slice(0, 2)), engineIdOf(plan.from[1]!)].sort(),
  );
});

test('when not even the roll-back works, the reconciler repairs what it left', async () => {
  const { controller, plan, agents, servingGpus } = await servingPool();
  const old = engineIdOf(plan.from[0]!);
  for (const what of ['fill', `fill ${old}`]) agents[0]!.failOnce.add(what);
  controller.executor.start(plan, routing);
  await controller.executor.idle();
  expect((await controller.fleet.observe('fast')).switchEnded!.outcome).toBe('failed');
  await controller.run(60);
  expect(servingGpus()).toEqual(allGpus);
});

test('a replica that dies while it drains has drained', async () => {
  const { controller, plan, agents, servingGpus } = await servingPool();
  const old = engineIdOf(plan.from[0]!);
  controller.executor.start(plan, routing);
  agents[0]!.engines.get(old)!.state = 'failed';
  agents[0]!.failOnce.add(`drain ${old}`);
  agents[0]!.failOnce.add(`park ${old}`);
  await controller.executor.idle();
  expect(controller.events.at(-1)).toMatchObject({ kind: 'ended', outcome: 'done' });
  expect(servingGpus()).toEqual(allGpus);
});

describe('kill -9 of the controller', () => {
  /** Kills the controller at its nth journal write (before or after what follows has begun), then starts another. */
  async function killedAt(save: number, extraSeconds: number, fault: string | null) {
    const { pool, journal, plan, layouts, controller, servingGpus } = await servingPool();
    if (fault) pool.agents[1]!.failOnce.add(fault);
    journal.afterSave = (saves) => {
      if (saves === save) {
        if (extraSeconds === 0) controller.kill();
        else void pool.clock.delay(extraSeconds).then(() => controller.kill());
      }
    };
    controller.executor.start(plan, routing);
    await Promise.race([controller.executor.idle(), pool.clock.delay(100)]);
    controller.kill();
    journal.afterSave = () => {};

    const next = controllerOver(pool, journal, layouts);
    const standing = next.executor.resume(routing);
    next.reconciler.want(standing ?? plan.from);
    await next.executor.idle();
    await next.run(60);
    await next.reconciler.settled();
    await next.fleet.observe('fast');
    await pool.clock.delay(0);
    return { pool, next, plan, journal, servingGpus };
  }

  test('at any journal write: the next one goes on, and every GPU serves the new deployment', async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 14 }), fc.constantFrom(0, 0.1, 0.4, 1.2, 2.7), async (save, extra) => {
        const { pool, plan, servingGpus, journal } = await killedAt(save, extra, null);
        expect(servingGpus()).toEqual(allGpus);
        expect(pool.gateway.routedIds).toEqual(idsOf(plan.to));
        expect(journal.lastSwitch()!.state.outcome).toBe('done');
        // Idempotent, so that a repeated step is allowed; but what was finished before the kill is not filled again.
        const fills = pool.agents.flatMap((agent) => agent.log.filter((line) => line.startsWith('fill')));
        for (const replica of plan.to) {
          expect(fills.filter((line) => line === `fill ${engineIdOf(replica)}`).length).toBeLessThanOrEqual(2);
        }
      }),
      { numRuns: 40 },
    );
  });

  test('while it rolls back: the next one ends the roll-back, and every GPU serves', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 18 }),
        fc.constantFrom(0, 0.4, 1.2, 2.7),
        fc.constantFrom('wake', 'fill', 'verify', 'admit'),
        async (save, extra, fault) => {
          const { pool, next, servingGpus } = await killedAt(save, extra, fault);
          expect(servingGpus()).toEqual(allGpus);
          expect(pool.gateway.routedIds).toEqual(idsOf(next.reconciler.wanted).sort(byFirstGpu));
        },
      ),
      { numRuns: 40 },
    );
  });
});

const byFirstGpu = (a: string, b: string) => Number(/g(\d+)/.exec(a)![1]) - Number(/g(\d+)/.exec(b)![1]);
