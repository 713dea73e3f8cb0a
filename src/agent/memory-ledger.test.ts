import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  DEFAULT_ENGINE_OPTIONS,
  GIB,
  gpuKind,
  gpusOf,
  InfeasibleError,
  modelByName,
  replicaMemory,
} from '../core/domain/index.ts';
import { awakeBytesByGpu, MemoryLedger } from './memory-ledger.ts';

const kind = gpuKind('H100-80GB');
const ledgerOf = (gpus: number) => new MemoryLedger(Array.from({ length: gpus }, (_, gpu) => ({ gpu, kind })));

test('whatever is asked, no GPU gives more than it has, and what is held is what was granted last', () => {
  const request = fc.record({
    holder: fc.constantFrom('a', 'b', 'c'),
    bytes: fc.array(fc.tuple(fc.nat(2), fc.integer({ min: 0, max: 100 })), { maxLength: 3 }),
    free: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(request, { maxLength: 30 }), (requests) => {
      const ledger = ledgerOf(3);
      const held = new Map<string, Map<number, number>>();
      const used = (gpu: number) => [...held.values()].reduce((sum, bytes) => sum + (bytes.get(gpu) ?? 0), 0);
      for (const { holder, bytes, free } of requests) {
        const wanted = new Map(bytes.map(([gpu, gib]) => [gpu, gib * GIB]));
        if (free) {
          ledger.free(holder);
          held.delete(holder);
        } else {
          const before = held.get(holder) ?? new Map<number, number>();
          const fits = [...wanted].every(([gpu, b]) => used(gpu) - (before.get(gpu) ?? 0) + b <= kind.memoryBytes);
          if (fits) {
            ledger.take(holder, wanted, 'a test');
            held.set(holder, wanted);
          } else {
            expect(() => ledger.take(holder, wanted, 'a test')).toThrow(InfeasibleError);
          }
        }
        for (const gpu of [0, 1, 2]) expect(ledger.usedBytes(gpu)).toBe(used(gpu));
      }
    }),
  );
});

test('a refusal names the GPU, what was asked, what is free and who holds the rest', () => {
  const ledger = ledgerOf(1);
  ledger.take('r1', new Map([[0, 70 * GIB]]), 'weights of r1');
  expect(() => ledger.take('r2', new Map([[0, 20 * GIB]]), 'weights of r2')).toThrow(
    'GPU 0 cannot give 20.0 GiB to weights of r2: 70.0 GiB of its 80.0 GiB are held by r1, 10.0 GiB are free.',
  );
});

test.each([
  [{ tensorParallel: 8, pipelineParallel: 1 }],
  [{ tensorParallel: 2, pipelineParallel: 2 }],
  [{ tensorParallel: 1, pipelineParallel: 3 }],
])('an awake engine takes its share of memory and no more (%o)', (strategy) => {
  const model = modelByName('llama2-70b');
  const gpus = Array.from({ length: gpusOf(strategy) }, (_, rank) => rank);
  const memory = replicaMemory(model, strategy, kind, DEFAULT_ENGINE_OPTIONS);
  const bytes = awakeBytesByGpu(model, strategy, gpus, DEFAULT_ENGINE_OPTIONS, memory);
  const share = kind.memoryBytes * DEFAULT_ENGINE_OPTIONS.memoryUtilisationShare;
  for (const gpu of gpus) expect(bytes.get(gpu)).toBeLessThanOrEqual(share);
  // The GPU that limits the KV pool is full but for less than a block.
  expect(Math.max(...bytes.values())).toBeGreaterThan(share - 0.01 * GIB);
});
