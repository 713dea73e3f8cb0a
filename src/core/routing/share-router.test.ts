import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Assignment, RequestView, RoutingVariant } from '../domain/index.ts';
import type { ReplicaLoads, RouterReplica } from './router.ts';
import { ShareRouter } from './share-router.ts';

const view = (inputTokens = 100, model = 'm', maxTokens = 100): RequestView => ({
  arrivalSeconds: 0,
  model,
  inputTokens,
  maxTokens,
});

const replica = (index: number, classKey: string, extra: Partial<RouterReplica> = {}): RouterReplica => ({
  id: `r${index}`,
  classKey,
  model: 'm',
  gpuCount: 4,
  maxModelLen: 16384,
  kvTokens: 100_000,
  ...extra,
});

const assignment = (
  share: number[][],
  classKeys = share[0]!.map((_, k) => `c${k}`),
  variant: RoutingVariant = { kind: 'plain' },
): Assignment => ({ typeIds: share.map((_, j) => `t${j}`), classKeys, share, variant });

const idle = (count: number): ReplicaLoads => ({ requests: new Float64Array(count), tokens: new Float64Array(count) });

const shareRows = fc.tuple(fc.integer({ min: 1, max: 4 }), fc.integer({ min: 1, max: 5 })).chain(([types, classes]) =>
  fc.array(
    fc
      .array(fc.nat(9), { minLength: classes, maxLength: classes })
      .filter((row) => row.some((x) => x > 0))
      .map((row) => row.map((x) => x / row.reduce((sum, y) => sum + y, 0))),
    { minLength: types, maxLength: types },
  ),
);

test('after any number of requests every class is within K of its share of each type', () => {
  fc.assert(
    fc.property(shareRows, fc.array(fc.nat(3), { maxLength: 400 }), (share, types) => {
      const classes = share[0]!.length;
      const router = new ShareRouter(
        assignment(share),
        share[0]!.map((_, k) => replica(k, `c${k}`)),
      );
      const served = share.map(() => new Float64Array(classes));
      const arrived = new Float64Array(share.length);
      for (const drawn of types) {
        const type = drawn % share.length;
        const posterior = share.map((_, j) => (j === type ? 1 : 0));
        const k = router.choose(view(), posterior, idle(classes));
        served[type]![k] = served[type]![k]! + 1;
        arrived[type] = arrived[type]! + 1;
        // At every prefix, not only at the end.
        share[type]!.forEach((x, c) => {
          expect(Math.abs(served[type]![c]! - arrived[type]! * x)).toBeLessThan(classes);
        });
      }
    }),
  );
});

test('with uncertain types every class still stays near its mixed share', () => {
  const posteriors = fc.array(fc.array(fc.nat(9), { minLength: 4, maxLength: 4 }), { maxLength: 300 });
  fc.assert(
    fc.property(shareRows, posteriors, (share, drawn) => {
      const classes = share[0]!.length;
      const router = new ShareRouter(
        assignment(share),
        share[0]!.map((_, k) => replica(k, `c${k}`)),
      );
      const owed = new Float64Array(classes);
      const served = new Float64Array(classes);
      for (const weights of drawn) {
        const own = share.map((_, j) => weights[j]! + (j === 0 ? 1 : 0));
        const total = own.reduce((sum, w) => sum + w, 0);
        const posterior = own.map((w) => w / total);
        const k = router.choose(view(), posterior, idle(classes));
        served[k] = served[k]! + 1;
        for (let c = 0; c < classes; c++)
          owed[c] = owed[c]! + share.reduce((sum, row, j) => sum + posterior[j]! * row[c]!, 0);
      }
      // One account per most probable type: J × K.
      for (let c = 0; c < classes; c++) expect(Math.abs(served[c]! - owed[c]!)).toBeLessThan(share.length * classes);
    }),
  );
});

test('the share of a class that takes no requests now goes to the others in proportion', () => {
  // c0 is away; c1 : c2 = 1 : 2.
  const router = new ShareRouter(assignment([[0.4, 0.2, 0.4]]), [replica(0, 'c1'), replica(1, 'c2')]);
  const served = [0, 0];
  for (let i = 0; i < 300; i++) served[router.choose(view(), [1], idle(2))]!++;
  expect(served).toEqual([100, 200]);
});

test('a type all of whose classes are away, or that has no shares, goes to the least loaded replica', () => {
  const router = new ShareRouter(assignment([[1, 0]]), [replica(0, 'c1'), replica(1, 'c1'), replica(2, 'other')]);
  const loads = { requests: [1, 1, 1], tokens: [300, 200, 100] };
  expect(router.choose(view(), [1], loads)).toBe(2);
  expect(new ShareRouter(assignment([[0, 0]]), [replica(0, 'c0'), replica(1, 'c1')]).choose(view(), [1], loads)).toBe(
    1,
  );
});

test('inside a class the replica with fewest outstanding tokens per GPU is taken', () => {
  const router = new ShareRouter(assignment([[1]]), [
    replica(0, 'c0'),
    replica(1, 'c0', { gpuCount: 8 }),
    replica(2, 'c0'),
  ]);
  expect(router.choose(view(), [1], { requests: [1, 1, 1], tokens: [500, 900, 480] })).toBe(1);
  expect(router.choose(view(), [1], { requests: [3, 1, 2], tokens: [400, 800, 400] })).toBe(1);
});

test('a request goes only where its input and its token limit fit, and nowhere when they fit nowhere', () => {
  const replicas = [
    replica(0, 'c0', { maxModelLen: 1000 }),
    replica(1, 'c0', { maxModelLen: 2000 }),
    replica(2, 'c1', { maxModelLen: 4000 }),
  ];
  const router = new ShareRouter(assignment([[1, 0]]), replicas);
  const loads = { requests: [0, 9, 9], tokens: [0, 900, 900] };
  expect(router.choose(view(900), [1], loads)).toBe(0);
  expect(router.choose(view(901), [1], loads)).toBe(1);
  expect(router.choose(view(2000), [1], loads)).toBe(2);
  expect(router.choose(view(3901), [1], loads)).toBe(-1);
});

test('models are kept apart', () => {
  const replicas = [replica(0, 'a', { model: 'm' }), replica(1, 'b', { model: 'other' })];
  const router = new ShareRouter(
    assignment(
      [
        [1, 0],
        [0, 1],
      ],
      ['a', 'b'],
    ),
    replicas,
  );
  const loads = { requests: [9, 0], tokens: [9000, 0] };
  expect(router.choose(view(10, 'm'), [1, 0], loads)).toBe(0);
  expect(router.choose(view(10, 'other'), [0, 1], loads)).toBe(1);
  // A wrong posterior does not lead to a replica of another model.
  expect(router.choose(view(10, 'm'), [0, 1], loads)).toBe(0);
  expect(router.choose(view(10, 'unknown'), [1, 0], loads)).toBe(-1);
});

test('a table that is replaced before each request keeps its shares, because credits are inherited', () => {
  fc.assert(
    fc.property(shareRows, fc.integer({ min: 1, max: 120 }), (share, requests) => {
      const classes = share[0]!.length;
      const replicas = share[0]!.map((_, k) => replica(k, `c${k}`));
      let router = new ShareRouter(assignment(share), replicas);
      const served = new Float64Array(classes);
      const posterior = share.map((_, j) => (j === 0 ? 1 : 0));
      for (let i = 0; i < requests; i++) {
        const k = router.choose(view(), posterior, idle(classes));
        served[k] = served[k]! + 1;
        router = new ShareRouter(assignment(share), replicas).inherit(router);
      }
      share[0]!.forEach((x, c) => {
        expect(Math.abs(served[c]! - requests * x)).toBeLessThan(classes);
      });
    }),
  );
});

test('credits that are inherited across a change of classes still sum to nothing owed', () => {
  const before = new ShareRouter(
    assignment([[0.5, 0.3, 0.2]]),
    [0, 1, 2].map((k) => replica(k, `c${k}`)),
  );
  for (let i = 0; i < 7; i++) before.choose(view(), [1], idle(3));
  const after = new ShareRouter(assignment([[0.5, 0.5]], ['c1', 'c3']), [replica(0, 'c1'), replica(1, 'c3')]).inherit(
    before,
  );
  const served = [0, 0];
  for (let i = 0; i < 100; i++) served[after.choose(view(), [1], idle(2))]!++;
  expect(Math.abs(served[0]! - 50)).toBeLessThan(2);
});

test('with nested confinement long prompts use the first part of the replicas, short ones all of them', () => {
  const variant: RoutingVariant = { kind: 'nested', longerThanTokens: [1000, 4000], replicaShares: [0.75, 0.5] };
  // Best for long prompts first: r1 (more KV), then r0, r2, r3.
  const replicas = [0, 1, 2, 3].map((i) => replica(i, 'c0', { kvTokens: i === 1 ? 200_000 : 100_000 }));
  const router = new ShareRouter(assignment([[1]], ['c0'], variant), replicas);
  const loads = { requests: [5, 5, 3, 1], tokens: [500, 600, 300, 100] };
  expect(router.choose(view(1000), [1], loads)).toBe(3);
  expect(router.choose(view(1001), [1], loads)).toBe(2);
  expect(router.choose(view(4001), [1], loads)).toBe(0);
});

test('confinement is soft: what fits on no replica of its part goes where it fits', () => {
  const variant: RoutingVariant = { kind: 'nested', longerThanTokens: [50], replicaShares: [0.1] };
  const replicas = [replica(0, 'c0', { maxModelLen: 1000, kvTokens: 9 }), replica(1, 'c0', { maxModelLen: 1000 })];
  const router = new ShareRouter(assignment([[1]], ['c0'], variant), replicas);
  expect(router.choose(view(500), [1], { requests: [0, 9], tokens: [0, 99] })).toBe(1);
  expect(router.choose(view(901), [1], idle(2))).toBe(-1);
  expect(router.choose(view(10, 'unknown'), [1], idle(2))).toBe(-1);
});
