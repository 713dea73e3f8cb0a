import fc from 'fast-check';
import { expect, test } from 'vitest';
import { nestedVariants } from './nested-variants.ts';

const samples = fc.array(
  fc.record({ inputTokens: fc.integer({ min: 1, max: 8000 }), work: fc.double({ min: 0.1, max: 5, noNaN: true }) }),
  { minLength: 1, maxLength: 200 },
);
const replicas = fc.array(fc.record({ gpuCount: fc.constantFrom(2, 4, 8) }), { minLength: 1, maxLength: 8 });

test('long prompts never get fewer replicas than their share of the work needs, and never all of them', () => {
  let variants = 0;
  fc.assert(
    fc.property(samples, replicas, (prompts, fleet) => {
      const work = prompts.reduce((sum, p) => sum + p.work, 0);
      for (const variant of nestedVariants(prompts, fleet)) {
        if (variant.kind !== 'nested') throw new Error('nested variants are nested');
        variants++;
        variant.longerThanTokens.forEach((longerThan, i) => {
          const long = prompts.reduce((sum, p) => (p.inputTokens > longerThan ? sum + p.work : sum), 0);
          expect(variant.replicaShares[i]).toBeGreaterThanOrEqual(long / work / 0.85 - 1e-9);
          expect(variant.replicaShares[i]).toBeLessThan(1);
          if (i === 0) return;
          expect(longerThan).toBeGreaterThan(variant.longerThanTokens[i - 1]!);
          expect(variant.replicaShares[i]).toBeLessThan(variant.replicaShares[i - 1]!);
        });
      }
    }),
    { numRuns: 400 },
  );
  // The draw gives about one variant in three runs; a property over none would prove nothing.
  expect(variants).toBeGreaterThan(50);
});

test('the longest fifth that does half of the work gets three of four replicas', () => {
  const prompts = Array.from({ length: 100 }, (_, i) => ({ inputTokens: i, work: i >= 80 ? 4 : 1 }));
  const [first] = nestedVariants(
    prompts,
    [4, 4, 4, 4].map((gpuCount) => ({ gpuCount })),
  );
  expect(first).toEqual({ kind: 'nested', longerThanTokens: [80], replicaShares: [0.75] });
});

test('one replica, or prompts that are all alike, leave nothing to confine', () => {
  const alike = Array.from({ length: 50 }, () => ({ inputTokens: 100, work: 1 }));
  expect(nestedVariants(alike, [{ gpuCount: 4 }, { gpuCount: 4 }])).toEqual([]);
  expect(nestedVariants([{ inputTokens: 1, work: 1 }], [{ gpuCount: 8 }])).toEqual([]);
  expect(nestedVariants([], [{ gpuCount: 8 }, { gpuCount: 8 }])).toEqual([]);
});
