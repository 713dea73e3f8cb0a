// The vocabulary of oserve. Everything else speaks in these values.
export * from './assignment.ts';
export * from './cluster.ts';
export * from './deployment.ts';
export * from './errors.ts';
export * from './loop.ts';
export * from './memory.ts';
export * from './metrics.ts';
export * from './model.ts';
export * from './objective.ts';
export * from './objective.ts';
export * from './random.ts';
export * from './request.ts';
export * from './step-time.ts';
export * from './strategy.ts';
export * from './switch-plan.ts';
export * from './units.ts';
export * from './workload.ts';
