// Mathematics that knows nothing of language models. Each file could be published alone.

export * from './bin-packing.ts';
export * from './binary-heap.ts';
export * from './branch-and-bound.ts';
export * from './distributions.ts';
export * from './gaussian-mixture.ts';
export * from './hash.ts';
export { hungarian } from './hungarian.ts';
export * from './k-means.ts';
export * from './nelder-mead.ts';
export * from './quantile.ts';
export { random } from './random.ts';
export * from './simplex.ts';
