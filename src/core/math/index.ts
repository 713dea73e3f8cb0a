// Mathematics that knows nothing of language models. Each file could be published alone.
export * from './distributions.ts';
export * from './hash.ts';
export * from './random.ts';
export * from './binary-heap.ts';
export * from './simplex.ts';
export { hungarian } from './hungarian.ts';
