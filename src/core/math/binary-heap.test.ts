import fc from 'fast-check';
import { expect, test } from 'vitest';
import { BinaryHeap } from './binary-heap.ts';

const operation = fc.oneof(
  fc.record({ kind: fc.constant('set' as const), id: fc.nat(40), key: fc.nat(10), tie: fc.nat(3) }),
  fc.record({ kind: fc.constant('pop' as const) }),
  fc.record({ kind: fc.constant('remove' as const), id: fc.nat(45) }),
);

test('any sequence of set, pop and remove agrees with a sorted list', () => {
  fc.assert(
    fc.property(fc.array(operation, { maxLength: 200 }), (operations) => {
      const heap = new BinaryHeap(2);
      const list = new Map<number, { key: number; order: number }>();
      let order = 0;
      const first = () =>
        [...list].sort(([, a], [, b]) => a.key - b.key || a.order - b.order).map(([id]) => id)[0] ?? -1;
      for (const step of operations) {
        if (step.kind === 'set') {
          // A unique tie-breaker makes the expected order total.
          order = order + 1 + step.tie;
          heap.set(step.id, step.key, order);
          list.set(step.id, { key: step.key, order });
        } else if (step.kind === 'pop') {
          const expected = first();
          expect(heap.pop()).toBe(expected);
          list.delete(expected);
        } else {
          expect(heap.remove(step.id)).toBe(list.delete(step.id));
        }
        expect(heap.size).toBe(list.size);
        expect(heap.peek()).toBe(first());
        expect(heap.peekKey()).toBe(list.get(first())?.key ?? Number.POSITIVE_INFINITY);
        expect(heap.has(7)).toBe(list.has(7));
      }
    }),
  );
});
