import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  type Cluster,
  countsOf,
  DEFAULT_ENGINE_OPTIONS,
  DEFAULT_SWITCH_COSTS,
  type Deployment,
  gpuKind,
  gpusOf,
  kvBytesPerTokenOnRank,
  layersByStage,
  MODELS,
  modelByName,
  type PlacedReplica,
  parseDeployment,
  type ReplicaId,
  replicaId,
  replicaMemory,
  type SwitchPlan,
  uniformCluster,
  weightBytesByStage,
} from '../domain/index.ts';
import { type Holding, holdingOf } from './holdings.ts';
import { placeDeployment } from './placement.ts';
import { type DetailedPlan, planSwitch, planSwitchInDetail } from './plan-switch.ts';
import type { Box } from './shards.ts';
import { shardBoxes } from './shards.ts';
import { SwitchExecution } from './switch-execution.ts';
import type { SwitchRequest } from './switch-request.ts';
import { boxTransfers } from './transfers.ts';

const defaults = { model: 'llama2-70b', gpuKind: 'H100-80GB' };
const read = (text: string): Deployment => parseDeployment(text, defaults);

function request(cluster: Cluster, from: string, to: string, changes: Partial<SwitchRequest> = {}): SwitchRequest {
  const standing = placeDeployment(cluster, [], read(from), MODELS);
  const { lostGpus = [], parkedLayouts = [] } = changes;
  return {
    id: 'switch-1',
    cluster,
    models: MODELS,
    from: standing,
    to: placeDeployment(cluster, standing, read(to), MODELS, { lostGpus, parkedLayouts }),
    engine: DEFAULT_ENGINE_OPTIONS,
    costs: DEFAULT_SWITCH_COSTS,
    parkedLayouts: [],
    planner: 'greedy',
    ...changes,
  };
}
const actionsOf = (plan: SwitchPlan, id: ReplicaId) => plan.steps.flatMap((s) => (s.replica === id ? [s.action] : []));

test('re-layouts of the whole cluster move what performance.md says', () => {
  const gb = (from: string, to: string) =>
    planSwitch(request(uniformCluster(32), from, to, { oldWeightsLeave: 'after-fill' })).bytes / 1e9;
  expect(gb('4xTP8', '8xTP4')).toBeCloseTo(552, -1);
  expect(gb('8xTP4', '4xTP8')).toBe(0);
  expect(gb('4xTP4PP2', '4xTP8')).toBeCloseTo(276, -1);
});

test('without room for both, the old replica parks first and its bytes come from elsewhere', () => {
  const plan = planSwitch(request(uniformCluster(8), '1xTP8', '2xTP4'));
  const [old] = plan.leaving;
  expect(actionsOf(plan, old!.id)).toEqual(['drain', 'park']);
  for (const { replica, rung } of plan.arriving) {
    expect(rung).toBe('new-process');
    expect(actionsOf(plan, replica.id)).toEqual(['create', 'wake', 'fill', 'verify', 'admit']);
  }
  // Nobody else holds the model: all of it comes from host memory, both copies.
  expect(plan.links.every(({ from }) => from === 'host:0')).toBe(true);
  expect(plan.bytes).toBeCloseTo(2 * 137.95e9, -9);
  expect(plan.steps.filter(({ action }) => action === 'fill').every(({ source }) => source === 'host')).toBe(true);
  // 5 s of drain, 0.5 s park, 10 s create, 2.6 s wake, a quarter of the weights over PCIe, 0.5 s verify.
  expect(plan.seconds).toBeCloseTo(5 + 0.5 + 10 + 2.6 + 137.95 / 4 / 50 + 0.5, 1);
});

test('a layout that is parked there is woken and filled', () => {
  const cluster = uniformCluster(8);
  const parkedLayouts = [
    [0, 1, 2, 3],
    [4, 5, 6, 7],
  ].map((gpus) => ({
    ...defaults,
    strategy: { tensorParallel: 4, pipelineParallel: 1 },
    gpus,
  }));
  const plan = planSwitch(request(cluster, '1xTP8', '2xTP4', { parkedLayouts }));
  expect(plan.arriving.map(({ rung }) => rung)).toEqual(['parked-fill', 'parked-fill']);
  expect(plan.steps.some(({ action }) => action === 'create')).toBe(false);
  // Another order of the same GPUs is the parked layout's business, not the placement's.
  const scrambled = request(cluster, '1xTP8', '2xTP4', { parkedLayouts });
  const to = scrambled.to.map((replica) => ({ ...replica, gpus: [...replica.gpus].reverse() }));
  expect(planSwitch({ ...scrambled, to }).arriving.map(({ replica, rung }) => [replica.gpus, rung])).toEqual([
    [[0, 1, 2, 3], 'parked-fill'],
    [[4, 5, 6, 7], 'parked-fill'],
  ]);
});

test('the rungs that are allowed decide, and without any source the start is cold', () => {
  const rungOf = (changes: Partial<SwitchRequest>) =>
    planSwitch(request(uniformCluster(8), '1xTP8', '1xTP4', changes)).arriving[0]!.rung;
  expect(rungOf({})).toBe('new-process');
  expect(rungOf({ rungs: ['keep', 'cold'] })).toBe('cold');
  expect(rungOf({ hostCache: false })).toBe('cold');
  expect(rungOf({ hostCache: false, oldWeightsLeave: 'after-fill' })).toBe('new-process');
  expect(() => rungOf({ hostCache: false, rungs: ['new-process'] })).toThrow(/cannot come up/);
});

test('components change one after the other, so that most of the pool keeps serving', () => {
  const plan = planSwitch(request(uniformCluster(32), '4xTP8', '8xTP4'));
  const execution = new SwitchExecution(plan);
  let least = Number.POSITIVE_INFINITY;
  while (!execution.done) {
    const [index] = execution.ready();
    execution.started(index!);
    execution.succeeded(index!);
    least = Math.min(
      least,
      execution.deployment().reduce((sum, { strategy }) => sum + gpusOf(strategy), 0),
    );
  }
  expect(least).toBe(24);
  expect(execution.outcome).toBe('done');
});

test('a model keeps a serving replica where the order of components can see to it', () => {
  // Node 0: the only llama3-8b; it moves to node 1's GPUs, where a llama2-70b leaves.
  const cluster = uniformCluster(16);
  const replica = (id: string, model: string, tensorParallel: number, gpus: number[]): PlacedReplica => ({
    id: replicaId(id),
    model,
    gpuKind: defaults.gpuKind,
    strategy: { tensorParallel, pipelineParallel: 1 },
    gpus,
  });
  const eight = Array.from({ length: 8 }, (_, i) => i);
  const base = request(cluster, '2xTP8', '2xTP8');
  const plan = planSwitch({
    ...base,
    from: [
      replica('a', 'llama3-8b', 8, eight),
      replica(
        'b',
        'llama2-70b',
        8,
        eight.map((i) => i + 8),
      ),
    ],
    to: [
      replica('c', 'llama2-70b', 8, eight),
      replica('d', 'llama3-8b', 4, [8, 9, 10, 11]),
      replica('e', 'llama2-70b', 4, [12, 13, 14, 15]),
    ],
  });
  // Either order darkens one model for a while. With b first, d is read from a, and c from e; with a first, the last
  // copy of llama3-8b would go before d has read it.
  const first = plan.steps.find(({ action }) => action === 'drain')!.replica;
  expect(first).toBe('b');
  const sourceOf = (id: string) => plan.steps.find((step) => step.replica === id && step.action === 'fill')!.source;
  expect([sourceOf('c'), sourceOf('d'), sourceOf('e')]).toEqual(['peers', 'peers', 'host']);
});

test('what fits side by side is filled before anything is drained', () => {
  const roomy = { ...DEFAULT_ENGINE_OPTIONS, memoryUtilisationShare: 0.4 };
  const base = request(uniformCluster(8), '1xTP8', '2xTP4', { engine: roomy });
  const small = (replica: PlacedReplica) => ({ ...replica, model: 'llama3-8b' });
  const plan = planSwitch({ ...base, from: base.from.map(small), to: base.to.map(small) });
  const drain = plan.steps.findIndex(({ action }) => action === 'drain');
  const admits = plan.steps.flatMap(({ action }, i) => (action === 'admit' ? [i] : []));
  expect(plan.steps[drain]!.after).toEqual(admits);
  expect(plan.links.every(({ from }) => from.startsWith('gpu:'))).toBe(true);
});

test('parked layouts are bounded by count and by memory', () => {
  const count = (changes: Partial<SwitchRequest>) =>
    planSwitch(request(uniformCluster(8), '1xTP8', '2xTP4', changes)).steps.filter(({ action }) => action === 'release')
      .length;
  expect(count({})).toBe(0);
  expect(count({ mostParkedLayouts: 0 })).toBe(1);
  expect(count({ costs: { ...DEFAULT_SWITCH_COSTS, parkedBytesPerLayout: 20e9 } })).toBe(1);
  expect(count({ costs: { ...DEFAULT_SWITCH_COSTS, parkedBytesPerLayout: 20e9 }, parkedReserveBytes: 20e9 })).toBe(0);
});

test('the list of parked layouts may name those that serve now', () => {
  const eight = { ...defaults, strategy: { tensorParallel: 8, pipelineParallel: 1 }, gpus: [0, 1, 2, 3, 4, 5, 6, 7] };
  const parkedLayouts = [
    eight,
    ...[
      [0, 1, 2, 3],
      [4, 5, 6, 7],
    ].map((gpus) => ({ ...eight, gpus, strategy: { tensorParallel: 4, pipelineParallel: 1 } })),
  ];
  const plan = planSwitch(request(uniformCluster(8), '1xTP8', '2xTP4', { parkedLayouts, mostParkedLayouts: 1 }));
  expect(plan.steps.map(({ action }) => action)).not.toContain('release');
  expect(plan.arriving.map(({ rung }) => rung)).toEqual(['parked-fill', 'parked-fill']);
});

test('replicas on lost GPUs are not drained, and nothing is placed there', () => {
  const plan = planSwitch(request(uniformCluster(16), '2xTP8', '1xTP8,1xTP4', { lostGpus: [3] }));
  expect(plan.kept).toHaveLength(1);
  expect(actionsOf(plan, plan.leaving[0]!.id)).toEqual(['release']);
  expect(plan.arriving[0]!.replica.gpus).not.toContain(3);
  // The surviving replica is the source.
  expect(plan.steps.find(({ action }) => action === 'fill')!.source).toBe('peers');
  const execution = new SwitchExecution(plan);
  expect(execution.deployment().map(({ id }) => id)).toEqual(plan.kept);
});

test('a replica that cannot fit its GPUs is refused with numbers', () => {
  expect(() => planSwitch(request(uniformCluster(8), '1xTP8', '1xTP1'))).toThrow(/needs 12\d\.\d GiB of weights/);
  expect(() => planSwitch({ ...request(uniformCluster(8), '1xTP8', '2xTP4'), planner: 'optimal' })).toThrow(
    /"optimal" is not part/,
  );
});

// The judge: replays a plan with an execution of its own, in any order that the steps allow, and looks at every GPU.
// Few layers keep the judge quick; wide ones keep the weights, and so the memory question, those of a 70B model.
const strategies = ['TP2', 'TP4', 'TP8', 'TP2PP2', 'TP4PP2', 'TP8PP2', 'small:TP1', 'small:TP2PP2', 'small:TP4'];
const small = { ...modelByName('llama3-8b'), name: 'small', layerCount: 6, vocabularySize: 1000 };
const wide = { ...modelByName('llama2-70b'), name: 'wide', layerCount: 5, intermediateSize: 28672 * 18 };
const models = [...MODELS, small, wide];
const deployment = fc.array(fc.constantFrom(...strategies), { minLength: 1, maxLength: 8 }).map((names) => {
  let left = 24;
  const placed: PlacedReplica[] = [];
  names.forEach((name, i) => {
    const [model, strategy] = name.includes(':') ? name.split(':') : ['wide', name];
    const [group] = read(`${model}:1x${strategy}`);
    if (gpusOf(group!.strategy) > left) return;
    left -= gpusOf(group!.strategy);
    placed.push({ ...group!, id: replicaId(`x${i}`), gpus: [] });
  });
  return countsOf(placed);
});

const keyOf = ({ tensor, start, shape }: Pick<Box, 'tensor' | 'start' | 'shape'>) => `${tensor}@${start}+${shape}`;

/** Area of a union of boxes of one tensor must equal both the wanted area and the summed area: each byte once. */
function arrivesExactlyOnce(wanted: readonly Box[], arriving: readonly Box[]): void {
  const area = (boxes: readonly Pick<Box, 'shape'>[]) =>
    boxes.reduce((sum, { shape }) => sum + shape.reduce((product, n) => product * n, 1), 0);
  const byTensor = (boxes: readonly Box[]) => {
    const map = new Map<string, Box[]>();
    for (const box of boxes) map.set(box.tensor, [...(map.get(box.tensor) ?? []), box]);
    return map;
  };
  const want = byTensor(wanted);
  const come = byTensor(arriving);
  expect([...come.keys()].sort()).toEqual([...want.keys()].sort());
  for (const [tensor, boxes] of come) {
    const [target] = want.get(tensor)!;
    expect(area(boxes), tensor).toBe(area([target!]));
    for (const box of boxes) {
      box.start.forEach((start, axis) => {
        expect(start).toBeGreaterThanOrEqual(target!.start[axis]!);
        expect(start + box.shape[axis]!).toBeLessThanOrEqual(target!.start[axis]! + target!.shape[axis]!);
      });
    }
    for (let i = 0; i < boxes.length; i++) {
      for (let j = 0; j < i; j++) expect(intersects(boxes[i]!, boxes[j]!), `${keyOf(boxes[i]!)} twice`).toBe(false);
    }
  }
}
const intersects = (a: Box, b: Box): boolean =>
  a.start.every(
    (start, axis) =>
      Math.max(start, b.start[axis]!) < Math.min(start + a.shape[axis]!, b.start[axis]! + b.shape[axis]!),
  );
const contains = (outer: Box, inner: Pick<Box, 'start' | 'shape'>): boolean =>
  outer.start.every(
    (s, axis) => s <= inner.start[axis]! && inner.start[axis]! + inner.shape[axis]! <= s + outer.shape[axis]!,
  );
const intersection = (a: Box, b: Box): Box => {
  const start = a.start.map((s, axis) => Math.max(s, b.start[axis]!));
  const shape = start.map((s, axis) => Math.min(a.start[axis]! + a.shape[axis]!, b.start[axis]! + b.shape[axis]!) - s);
  return { tensor: a.tensor, start, shape, bytes: 0 };
};

interface Awake {
  readonly replica: PlacedReplica;
  weights: boolean;
  cache: boolean;
}

function judge({ plan, waves, shards }: DetailedPlan, asked: SwitchRequest, pick: (n: number) => number): void {
  const execution = new SwitchExecution(plan);
  const boxesOfHolding = (h: Holding) => shardBoxes(shards.model(h.model), h.strategy, h.rank);
  // What lies on each GPU: engines that are awake (weights filled or not, KV cache or not), parked layouts.
  const awake = new Map<ReplicaId, Awake>();
  const parked = new Map<ReplicaId, readonly number[]>();
  for (const replica of plan.from) awake.set(replica.id, { replica, weights: true, cache: true });
  const replicaOf = new Map([...plan.from, ...plan.to].map((replica) => [replica.id, replica]));
  const holds = (gpu: number): Holding[] =>
    [...awake.values()].flatMap(({ replica: { model, strategy, gpus }, weights }) =>
      weights && gpus.includes(gpu) ? [holdingOf(model, strategy, gpus.indexOf(gpu))] : [],
    );
  const handover = asked.oldWeightsLeave ?? 'before-wake';

  const checkMemory = () => {
    for (let gpu = 0; gpu < 24; gpu++) {
      let bytes = 0;
      for (const { replica, cache } of awake.values()) {
        const rank = replica.gpus.indexOf(gpu);
        if (rank < 0) continue;
        const model = shards.model(replica.model);
        const stage = Math.floor(rank / replica.strategy.tensorParallel);
        const layers = layersByStage(model.layerCount, replica.strategy.pipelineParallel)[stage]!;
        const { kvTokens } = replicaMemory(model, replica.strategy, gpuKind(replica.gpuKind), asked.engine);
        bytes += weightBytesByStage(model, replica.strategy)[stage]! + asked.engine.activationBytes;
        if (cache) bytes += kvTokens * kvBytesPerTokenOnRank(model, layers, replica.strategy.tensorParallel);
      }
      for (const gpus of parked.values()) if (gpus.includes(gpu)) bytes += asked.costs.parkedBytesPerLayout;
      expect(bytes, `bytes on GPU ${gpu}`).toBeLessThanOrEqual(gpuKind('H100-80GB').memoryBytes);
    }
  };
  /** Everything a fill reads must lie where it is read from, now. */
  const checkSources = (id: ReplicaId, atEnd: boolean) => {
    const wave = waves.find(({ arriving }) => arriving.some((replica) => replica.id === id))!;
    const replica = replicaOf.get(id)!;
    for (const target of wave.targets.filter(({ gpu }) => replica.gpus.includes(gpu))) {
      const wanted = boxesOfHolding(target.wanted);
      const arriving: Box[] = [];
      for (const transfer of wave.transfers.filter(({ targetGpu }) => targetGpu === target.gpu)) {
        const boxes = boxTransfers(shards, transfer);
        expect(boxes.reduce((sum, { bytes }) => sum + bytes, 0)).toBe(transfer.bytes);
        arriving.push(...boxes);
        if (transfer.source.kind !== 'gpu') continue;
        const there = holds(transfer.source.gpu).flatMap(boxesOfHolding);
        for (const box of boxes) {
          expect(
            there.some((held) => held.tensor === box.tensor && contains(held, box)),
            `${keyOf(box)} is there`,
          ).toBe(true);
        }
      }
      if (target.local) {
        expect(holds(target.gpu).some((held) => JSON.stringify(held) === JSON.stringify(target.local))).toBe(true);
        if (target.local.model === target.wanted.model) {
          const mine = boxesOfHolding(target.local);
          for (const box of wanted) {
            for (const held of mine) {
              if (held.tensor === box.tensor && intersects(held, box)) arriving.push(intersection(held, box));
            }
          }
        }
      }
      if (!atEnd) arrivesExactlyOnce(wanted, arriving);
    }
  };

  while (!execution.done) {
    const running = execution.states.flatMap((state, i) => (state === 'running' ? [i] : []));
    const ready = execution.ready();
    const choices = [...ready.map((i) => ({ i, start: true })), ...running.map((i) => ({ i, start: false }))];
    const { i, start } = choices[pick(choices.length)]!;
    const { replica: id, action } = execution.steps[i]!;
    const replica = replicaOf.get(id)!;
    if (start) {
      execution.started(i);
      if (action === 'wake') {
        parked.delete(id);
        awake.set(id, { replica, weights: false, cache: handover === 'before-wake' });
      }
      if (action === 'verify') awake.get(id)!.cache = true;
      if (action === 'fill') checkSources(id, false);
      if (action === 'park' || action === 'release') awake.get(id)!.weights = false;
    } else {
      execution.succeeded(i);
      if (action === 'drain' && handover === 'after-fill') awake.get(id)!.cache = false;
      if (action === 'fill') {
        checkSources(id, true);
        awake.get(id)!.weights = true;
      }
      if (action === 'create') parked.set(id, replica.gpus);
      if (action === 'park' || action === 'release') {
        awake.delete(id);
        if (action === 'park') parked.set(id, replica.gpus);
      }
    }
    checkMemory();
  }
  expect(execution.outcome).toBe('done');
  expect(new Set(execution.deployment().map((each) => each.id))).toEqual(new Set(plan.to.map((each) => each.id)));
}

test('in any order that the steps allow, each byte arrives once, from where it lies at that moment, and memory suffices', () => {
  fc.assert(
    fc.property(
      deployment,
      deployment,
      fc.constantFrom('after-fill' as const, 'before-wake' as const),
      fc.constantFrom(0.25, 0.7, 1),
      fc.infiniteStream(fc.nat(1000)),
      (from, to, oldWeightsLeave, mostUnavailableShare, order) => {
        const cluster = uniformCluster(24);
        const standing = placeDeployment(cluster, [], from, models);
        const asked: SwitchRequest = {
          ...request(cluster, '1xTP8', '1xTP8'),
          models,
          from: standing,
          to: placeDeployment(cluster, standing, to, models),
          oldWeightsLeave,
          mostUnavailableShare,
        };
        const detailed = planSwitchInDetail(asked);
        judge(detailed, asked, (n) => order.next().value! % n);
        const { plan } = detailed;
        plan.steps.forEach(({ after }, i) => {
          for (const other of after) expect(other).toBeLessThan(i);
        });
        const fills = plan.steps.filter(({ action }) => action === 'fill');
        expect(fills.reduce((sum, { bytes }) => sum + bytes, 0)).toBeCloseTo(plan.bytes, -3);
        if (oldWeightsLeave === 'after-fill') {
          const longest = fills.reduce((sum, { seconds }) => sum + seconds, 0);
          expect(plan.lowerBoundSeconds).toBeLessThanOrEqual(longest + 1e-9);
        }
      },
    ),
    { numRuns: 25 },
  );
}, 120_000);
