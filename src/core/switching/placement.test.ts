import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  type Cluster,
  classKey,
  countsOf,
  DEFAULT_NETWORK_BYTES_PER_SECOND,
  type Deployment,
  formatDeployment,
  gpuCountOf,
  gpusOf,
  InfeasibleError,
  illegalBecause,
  MODELS,
  modelByName,
  nodeIndexByGpu,
  type PlacedDeployment,
  parseDeployment,
  replicaId,
  uniformCluster,
} from '../domain/index.ts';
import { holdingByGpu, ShardBook } from './holdings.ts';
import { placeDeployment } from './placement.ts';

const defaults = { model: 'llama2-70b', gpuKind: 'H100-80GB' };
const read = (text: string): Deployment => parseDeployment(text, defaults);
const GB = 1e9;

/** Bytes that must come from elsewhere: what each GPU is to hold and does not. */
function bytesMoved(from: PlacedDeployment, to: PlacedDeployment): number {
  const book = new ShardBook(MODELS);
  const before = holdingByGpu(from);
  let bytes = 0;
  for (const [gpu, wanted] of holdingByGpu(to)) {
    const held = before.get(gpu);
    bytes += book.bytes(wanted) - (held ? book.overlap(wanted, held) : 0);
  }
  return bytes;
}
const place = (cluster: Cluster, from: string, to: string) => {
  const standing = placeDeployment(cluster, [], read(from), MODELS);
  return { standing, next: placeDeployment(cluster, standing, read(to), MODELS) };
};
const movedGb = (from: string, to: string, gpus = 32) => {
  const { standing, next } = place(uniformCluster(gpus), from, to);
  return bytesMoved(standing, next) / GB;
};

test('4xTP8 to 8xTP4 of a 138 GB model moves 552 GB, as GPU sets are free inside a node', () => {
  expect(movedGb('4xTP8', '8xTP4')).toBeCloseTo(552, -1);
});

test('8xTP4 to 4xTP8 moves next to nothing: each eighth is part of the quarter that lies there', () => {
  // Only the norms, which every rank holds whole, could differ; they do not.
  expect(movedGb('8xTP4', '4xTP8')).toBe(0);
});

test('matching reaches the known optima of other re-layouts', () => {
  expect(movedGb('4xTP4PP2', '4xTP8')).toBeCloseTo(276, -1);
  expect(movedGb('8xTP2PP2', '8xTP4')).toBeCloseTo(552, -1);
  expect(movedGb('2xTP8PP2', '4xTP8')).toBeCloseTo(276, -1);
});

test('replicas whose class goes on keep their ids and GPUs', () => {
  const { standing, next } = place(uniformCluster(16), '4xTP4', '2xTP4,1xTP8');
  const kept = next.filter((replica) => standing.some(({ id }) => id === replica.id));
  expect(formatDeployment(countsOf(kept), defaults)).toBe('2xTP4');
  for (const replica of kept) expect(standing).toContainEqual(replica);
});

test('small replicas that stayed make way for one that needs a whole node', () => {
  const cluster = uniformCluster(16);
  const tp2 = (id: string, gpus: number[]) => ({
    ...defaults,
    strategy: { tensorParallel: 2, pipelineParallel: 1 },
    id: replicaId(id),
    gpus,
  });
  const standing = [tp2('a', [0, 1]), tp2('b', [8, 9])];
  const next = placeDeployment(cluster, standing, read('1xTP8,2xTP2'), MODELS);
  expect(next.filter(({ id }) => id === 'a' || id === 'b')).toHaveLength(1);
  expect(next.find(({ strategy }) => strategy.tensorParallel === 8)!.gpus).toHaveLength(8);
});

test('a parked layout is preferred, in its own rank order, and gives its id', () => {
  const cluster = uniformCluster(16);
  const standing = placeDeployment(cluster, [], read('2xTP8'), MODELS);
  const parked = {
    ...defaults,
    strategy: { tensorParallel: 4, pipelineParallel: 1 },
    id: replicaId('warm'),
    gpus: [15, 13, 11, 9],
  };
  const next = placeDeployment(cluster, standing, read('1xTP4,1xTP8'), MODELS, { parkedLayouts: [parked] });
  expect(next.find(({ id }) => id === 'warm')?.gpus).toEqual([15, 13, 11, 9]);
});

test('what cannot be placed is refused with numbers', () => {
  const cluster = uniformCluster(16);
  expect(() => place(cluster, '2xTP8', '3xTP8')).toThrow(/needs 24 GPUs.*has 16/);
  expect(() => placeDeployment(cluster, [], read('2xTP8'), MODELS, { lostGpus: [3] })).toThrow(/has 15 that work/);
  expect(() => placeDeployment(cluster, [], read('llama-30b:1xTP8'), MODELS)).toThrow(/52 heads/);
  expect(() => placeDeployment(cluster, [], read('1xTP4,1xTP8'), MODELS, { lostGpus: [3, 8] })).toThrow(
    /1 group of 8 .* cannot be placed; GPUs left by node: 7, 7/,
  );
  expect(() => placeDeployment(cluster, [], read('nobody:1xTP4'), MODELS)).toThrow(/not among the models/);
});

const pool = [
  'TP1',
  'TP2',
  'TP4',
  'TP8',
  'TP2PP2',
  'TP4PP2',
  'TP2PP4',
  'TP8PP2',
  'llama3-8b:TP1',
  'llama3-8b:TP4',
  'opt-66b:TP2',
].map((text) => {
  const [model, strategy] = text.includes(':') ? text.split(':') : ['', text];
  return read(`${model === '' ? '' : `${model}:`}1x${strategy}`)[0]!;
});
const deployment = fc.array(fc.constantFrom(...pool), { minLength: 1, maxLength: 14 }).map((groups) => {
  let left = 32;
  const chosen: Deployment[number][] = [];
  for (const group of groups) {
    if (gpusOf(group.strategy) <= left) {
      chosen.push(group);
      left -= gpusOf(group.strategy);
    }
  }
  return countsOf(chosen.map((group, i) => ({ ...group, id: replicaId(`x${i}`), gpus: [] })));
});

test('any deployment that fits is placed: each GPU once, nodes respected, kinds and counts as asked', () => {
  fc.assert(
    fc.property(deployment, deployment, fc.array(fc.nat(31), { maxLength: 2 }), (from, to, lostGpus) => {
      const cluster = uniformCluster(32);
      const nodeOf = nodeIndexByGpu(cluster);
      const standing = placeDeployment(cluster, [], from, MODELS);
      let next: PlacedDeployment;
      try {
        next = placeDeployment(cluster, standing, to, MODELS, { lostGpus });
      } catch (error) {
        expect(error).toBeInstanceOf(InfeasibleError);
        expect(lostGpus.length).toBeGreaterThan(0);
        return;
      }
      expect(countsOf(next)).toEqual(to);
      const used = next.flatMap(({ gpus }) => gpus);
      expect(new Set(used).size).toBe(used.length);
      expect(used.some((gpu) => lostGpus.includes(gpu))).toBe(false);
      expect(new Set(next.map(({ id }) => id)).size).toBe(next.length);
      for (const replica of next) {
        expect(replica.gpus).toHaveLength(gpusOf(replica.strategy));
        const nodes = new Set(replica.gpus.map((gpu) => nodeOf[gpu]));
        expect(nodes.size).toBe(Math.ceil(replica.gpus.length / 8));
        const old = standing.find(({ id }) => id === replica.id);
        if (old) expect(replica).toEqual(old);
      }
      if (lostGpus.length === 0) {
        // No worse than placing without looking at what stands.
        expect(bytesMoved(standing, next)).toBeLessThanOrEqual(
          bytesMoved(standing, placeDeployment(cluster, [], to, MODELS)) + 1,
        );
      }
    }),
    { numRuns: 150 },
  );
});

test('kinds of GPUs are not mixed up', () => {
  const node = (name: string, gpuKind: string) => ({
    name,
    gpuKind,
    gpuCount: 8,
    networkBytesPerSecond: DEFAULT_NETWORK_BYTES_PER_SECOND,
  });
  const cluster: Cluster = { nodes: [node('a', 'A100-80GB'), node('b', 'H100-80GB'), node('c', 'A100-80GB')] };
  const next = placeDeployment(cluster, [], read('2xTP4@H100-80GB,1xTP8PP2@A100-80GB'), MODELS);
  for (const { gpuKind, gpus } of next) {
    const nodeOf = nodeIndexByGpu(cluster);
    expect(gpus.every((gpu) => cluster.nodes[nodeOf[gpu]!]!.gpuKind === gpuKind)).toBe(true);
  }
  expect(gpuCountOf(cluster)).toBe(24);
  expect(illegalBecause(modelByName('llama2-70b'), { tensorParallel: 8, pipelineParallel: 2 })).toBeNull();
  expect(next.map(classKey)).toHaveLength(3);
});
