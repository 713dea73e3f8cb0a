import { describe, expect, test } from 'vitest';
import { fakePool, tiledLayouts } from '../../../test/support/fake-pool.ts';
import { modelByName, type PlacedDeployment, type RoutingTable, replicaId } from '../../core/domain/index.ts';
import {
  engineIdOf,
  FleetWatch,
  type Layout,
  LiveFleet,
  Reconciler,
  ReplicaActions,
  RoutingPublisher,
} from './index.ts';

const model = modelByName('llama2-70b');
const TP8 = { tensorParallel: 8, pipelineParallel: 1 };
const TP4 = { tensorParallel: 4, pipelineParallel: 1 };

function livePool() {
  const pool = fakePool();
  const { cluster, clock, agents, gateway } = pool;
  let realMs = 0;
  const watch = new FleetWatch({ agents, cluster, lostAfterMs: 3000, nowMs: () => realMs });
  const publisher = new RoutingPublisher({ gateway, models: [model] });
  const actions = new ReplicaActions({
    watch,
    gateway,
    publisher,
    clock,
    drainLimits: { drainSeconds: 5, drainDeadlineSeconds: 30 },
  });
  const layouts: Layout[] = tiledLayouts(cluster, model.name, [TP8, TP4]);
  const events: string[] = [];
  const reconciler = new Reconciler({
    actions,
    layouts,
    clock,
    fillCost: () => ({ bytes: 1, seconds: 1 }),
    onEvent: (event) => events.push(`${event.kind} ${event.engine}`),
  });
  const switches = { current: null, gpus: new Set<number>(), start: () => {}, takeEnded: () => null };
  const fleet = new LiveFleet({
    cluster,
    watch,
    gateway,
    publisher,
    reconciler,
    switches,
    nowSeconds: () => clock.nowSeconds(),
  });
  const initial: PlacedDeployment = layouts
    .filter((layout) => layout.strategy.tensorParallel === 4)
    .map((layout) => ({ ...layout, id: replicaId(engineIdOf(layout)) }));
  /** Ticks once an emulated second until nothing is left to repair. */
  const run = async (seconds: number) => {
    for (let i = 0; i < seconds; i++) {
      await fleet.observe('fast');
      await clock.delay(1);
    }
    await reconciler.settled();
    return fleet.observe('fast');
  };
  return {
    ...pool,
    watch,
    publisher,
    actions,
    layouts,
    events,
    reconciler,
    switches,
    fleet,
    initial,
    run,
    passMs: (ms: number) => {
      realMs += ms;
    },
  };
}

const table = (version: number): RoutingTable => ({
  version,
  workload: { version: 1, fittedToSeconds: 0, types: [], posteriorCounts: {} },
  assignment: { typeIds: [], classKeys: [], share: [], variant: { kind: 'plain' } },
});

describe('start-up', () => {
  test('brings up the initial deployment, parks the other layouts and routes to what serves', async () => {
    const pool = livePool();
    pool.reconciler.want(pool.initial);
    const seen = await pool.run(60);
    expect(seen.replicas.map((r) => [r.id, r.state])).toEqual(pool.initial.map((r) => [r.id, 'serving']));
    expect(pool.watch.view.engines.size).toBe(6); // 2 × TP8 parked beside 4 × TP4
    expect(pool.gateway.routedIds).toEqual(pool.initial.map((r) => r.id));
  });

  test('the first routing has one prior type per model with all of its share given out', async () => {
    const pool = livePool();
    pool.reconciler.want(pool.initial);
    await pool.run(60);
    const last = pool.gateway.updates.at(-1)!;
    expect(last.workload.types.map((type) => type.model)).toEqual([model.name]);
    expect(last.assignment.share[0]!.reduce((sum, share) => sum + share, 0)).toBeCloseTo(1);
  });

  test('a controller that starts over a serving pool changes nothing and goes on above its routing version', async () => {
    const pool = livePool();
    pool.reconciler.want(pool.initial);
    await pool.run(60);
    const before = pool.agents.map((agent) => agent.log.length);
    const version = pool.gateway.version;

    const publisher = new RoutingPublisher({ gateway: pool.gateway, models: [model] });
    const watch = new FleetWatch({ agents: pool.agents, cluster: pool.cluster });
    const reconciler = new Reconciler({
      actions: pool.actions,
      layouts: pool.layouts,
      clock: pool.clock,
      fillCost: () => ({ bytes: 1, seconds: 1 }),
    });
    const fleet = new LiveFleet({
      cluster: pool.cluster,
      watch,
      gateway: pool.gateway,
      publisher,
      reconciler,
      switches: pool.switches,
      nowSeconds: () => 0,
    });
    const { engines } = await watch.refresh();
    reconciler.want(
      [...engines.values()]
        .filter(({ state }) => state === 'serving')
        .map((engine) => ({ ...engine, id: replicaId(engine.id) })),
    );
    expect(reconciler.wanted.map((r) => r.id)).toEqual(pool.initial.map((r) => r.id));
    await fleet.observe('slow');
    await fleet.apply({ kind: 'route', routing: table(1) });
    expect(pool.gateway.version).toBeGreaterThan(version);
    expect(pool.agents.map((agent) => agent.log.length)).toEqual(before);
  });
});

describe('repair', () => {
  test('an engine that died is dropped from the routing, made again, filled and routed to again', async () => {
    const pool = livePool();
    pool.reconciler.want(pool.initial);
    await pool.run(60);
    const victim = pool.initial[1]!.id;
    const engine = pool.agents[0]!.engines.get(victim)!;
    engine.state = 'failed';
    engine.failure = 'exit code 137';
    await pool.fleet.observe('fast');
    await pool.clock.delay(0);
    expect(pool.gateway.routedIds).not.toContain(victim);
    const broken = (await pool.fleet.observe('fast')).replicas;
    expect(broken.map((replica) => replica.id)).toEqual(pool.initial.map((replica) => replica.id));
    expect(broken[1]!.state).not.toBe('serving');
    const seen = await pool.run(30);
    expect(seen.lostGpus).toEqual([]);
    expect(seen.replicas.every((replica) => replica.state === 'serving')).toBe(true);
    expect(pool.gateway.routedIds).toContain(victim);
  });

  test('a parked engine that died is made again and never looks like a replica', async () => {
    const pool = livePool();
    pool.reconciler.want(pool.initial);
    await pool.run(60);
    const parked = pool.layouts.find((layout) => layout.strategy.tensorParallel === 8)!;
    pool.agents[0]!.engines.get(engineIdOf(parked))!.state = 'failed';
    const seen = await pool.fleet.observe('fast');
    expect(seen.replicas.map((replica) => replica.id)).toEqual(pool.initial.map((replica) => replica.id));
    await pool.run(30);
    expect(pool.agents[0]!.engines.get(engineIdOf(parked))!.state).toBe('parked');
  });

  test('a dead agent takes its replicas out of the routing at once, its GPUs are lost after a while', async () => {
    const pool = livePool();
    pool.reconciler.want(pool.initial);
    await pool.run(60);
    pool.agents[1]!.die();
    let seen = await pool.fleet.observe('fast');
    await pool.clock.delay(0);
    expect(seen.lostGpus).toEqual([]);
    expect(seen.replicas.filter((replica) => replica.state === 'failed').map((r) => r.id)).toContain(
      pool.initial[2]!.id,
    );
    expect(pool.gateway.routedIds).toEqual(pool.initial.slice(0, 2).map((r) => r.id));
    pool.passMs(3000);
    seen = await pool.fleet.observe('fast');
    expect(seen.lostGpus).toEqual([8, 9, 10, 11, 12, 13, 14, 15]);

    pool.agents[1]!.reach = 'ok'; // the supervisor restarted it on the same port, without engines
    seen = await pool.run(80);
    expect(seen.lostGpus).toEqual([]);
    expect(pool.gateway.routedIds).toEqual(pool.initial.map((r) => r.id));
  });

  test('an agent that is only slow keeps its replicas in the routing until it counts as lost', async () => {
    const pool = livePool();
    pool.reconciler.want(pool.initial);
    await pool.run(60);
    pool.agents[1]!.reach = 'mute';
    await pool.fleet.observe('fast');
    await pool.clock.delay(0);
    expect(pool.gateway.routedIds).toHaveLength(4);
    pool.passMs(3000);
    await pool.fleet.observe('fast');
    await pool.clock.delay(0);
    expect(pool.gateway.routedIds).toHaveLength(2);
  });

  test('a bring-up that fails is tried again until it works', async () => {
    const pool = livePool();
    pool.reconciler.want(pool.initial);
    for (const verb of ['wake', 'fill', 'verify', 'create']) pool.agents[0]!.failOnce.add(verb);
    const seen = await pool.run(80);
    expect(pool.events.filter((event) => event.startsWith('failed')).length).toBeGreaterThanOrEqual(4);
    expect(seen.replicas.map((replica) => replica.state)).toEqual(Array(4).fill('serving'));
  });

  test('what is not wanted is drained and parked before the wanted layout takes its GPUs', async () => {
    const pool = livePool();
    pool.reconciler.want(pool.initial);
    await pool.run(60);
    const tp8 = pool.layouts.find((layout) => layout.strategy.tensorParallel === 8)!;
    pool.reconciler.want([{ ...tp8, id: replicaId('r9') }, ...pool.initial.slice(2)]);
    const seen = await pool.run(60);
    expect(seen.replicas.map((r) => r.id).sort()).toEqual(
      [engineIdOf(tp8), ...pool.initial.slice(2).map((r) => r.id)].sort(),
    );
    const log = pool.agents[0]!.log;
    expect(log.indexOf(`wake ${engineIdOf(tp8)}`)).toBeGreaterThan(log.lastIndexOf(`park ${pool.initial[1]!.id}`));
  });

  test('replicas on the GPUs of a switch are left alone', async () => {
    const pool = livePool();
    pool.reconciler.want(pool.initial);
    await pool.run(60);
    pool.switches.gpus = new Set([0, 1, 2, 3]);
    pool.agents[0]!.engines.get(pool.initial[0]!.id)!.state = 'draining';
    const before = pool.agents[0]!.log.length;
    await pool.run(20);
    expect(pool.agents[0]!.log.length).toBe(before);
  });
});

describe('gateway', () => {
  test('a restarted gateway gets the routing again and is asked from the beginning', async () => {
    const pool = livePool();
    pool.reconciler.want(pool.initial);
    await pool.run(60);
    await pool.fleet.apply({ kind: 'route', routing: table(7) });
    pool.gateway.arrivals = [{ arrivalSeconds: 1, model: model.name, inputTokens: 5, maxTokens: 10 }];
    await pool.fleet.observe('fast');
    pool.gateway.restart();
    const seen = await pool.fleet.observe('fast');
    await pool.clock.delay(0);
    expect(pool.gateway.cursorsAsked.at(-1)).toBe(0);
    expect(seen.arrivals).toHaveLength(1);
    expect(pool.gateway.routedIds).toEqual(pool.initial.map((r) => r.id));
    expect(pool.gateway.updates.at(-1)!.workload.version).toBe(1); // the table, not the prior
  });

  test('without a gateway the loop goes on, and the routing arrives when it is back', async () => {
    const pool = livePool();
    pool.reconciler.want(pool.initial);
    await pool.run(60);
    pool.gateway.reachable = false;
    await pool.fleet.apply({ kind: 'route', routing: table(8) });
    const seen = await pool.fleet.observe('slow');
    expect(seen.arrivals).toEqual([]);
    expect(seen.replicas).toHaveLength(4);
    pool.gateway.reachable = true;
    const before = pool.gateway.updates.length;
    await pool.run(2);
    expect(pool.gateway.updates.length).toBe(before + 1);
  });

  test('equal routing is not sent twice', async () => {
    const pool = livePool();
    pool.reconciler.want(pool.initial);
    await pool.run(60);
    const before = pool.gateway.updates.length;
    await pool.run(5);
    expect(pool.gateway.updates.length).toBe(before);
  });
});

describe('drain', () => {
  test('nothing new is routed there before the engine is told; what can move is cut only after drainSeconds', async () => {
    const pool = livePool();
    pool.reconciler.want(pool.initial);
    await pool.run(60);
    const leaving = pool.initial[0]!;
    pool.gateway.movable.set(leaving.id, 3);
    const startSeconds = pool.clock.nowSeconds();
    const moved = await pool.actions.drain(leaving);
    expect(moved).toBe(3);
    expect(pool.gateway.routedIds).not.toContain(leaving.id);
    const firstCut = pool.gateway.evacuations.indexOf(`cut ${leaving.id}`);
    expect(firstCut).toBeGreaterThan(10);
    expect(pool.clock.nowSeconds() - startSeconds).toBeGreaterThanOrEqual(5);
    expect(pool.clock.nowSeconds() - startSeconds).toBeLessThan(6);
  });

  test('an idle replica is drained without waiting', async () => {
    const pool = livePool();
    pool.reconciler.want(pool.initial);
    await pool.run(60);
    const startSeconds = pool.clock.nowSeconds();
    await pool.actions.drain(pool.initial[0]!);
    expect(pool.clock.nowSeconds()).toBe(startSeconds);
  });

  test('requests that cannot move get the longer deadline, not more', async () => {
    const pool = livePool();
    pool.reconciler.want(pool.initial);
    await pool.run(60);
    pool.gateway.fixed.set(pool.initial[0]!.id, 1);
    const startSeconds = pool.clock.nowSeconds();
    await pool.actions.drain(pool.initial[0]!);
    expect(pool.clock.nowSeconds() - startSeconds).toBeGreaterThanOrEqual(30);
    expect(pool.clock.nowSeconds() - startSeconds).toBeLessThan(31);
  });

  test('a call that nobody answers is repeated', async () => {
    const pool = livePool();
    pool.reconciler.want(pool.initial);
    await pool.run(60);
    pool.agents[0]!.reach = 'mute';
    const done = pool.actions.verify(pool.initial[0]!);
    await pool.clock.delay(2);
    pool.agents[0]!.reach = 'ok';
    await expect(done).resolves.toBeUndefined();
  });
});

describe('layouts', () => {
  test('engines are named by place and shape', () => {
    const strategy = { tensorParallel: 2, pipelineParallel: 2 };
    expect(engineIdOf({ model: 'm', gpuKind: 'H200', strategy, gpus: [4, 5, 6, 7] })).toBe('m.TP2PP2.g4-7');
    expect(engineIdOf({ model: 'm', gpuKind: 'H200', strategy, gpus: [0, 1, 4, 6] })).toBe('m.TP2PP2.g0-1.4.6');
  });
});
