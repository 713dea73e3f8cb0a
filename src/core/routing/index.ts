// One request + shares + load → replica.
export * from './baselines.ts';
export { nestedVariants, type PromptSample } from './nested-variants.ts';
export type { ReplicaLoads, Router, RouterReplica } from './router.ts';
export * from './share-router.ts';
