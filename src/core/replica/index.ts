// One replica's behaviour: step time, memory, batching, KV blocks. Driven, never driving.

export { type ClosedLoopOptions, type ClosedLoopResult, closedLoop } from './closed-loop.ts';
export { fitHost, type MeasuredLoop, predictLoop } from './fit-host.ts';
export { fitKernels, type KernelFit } from './fit-profile.ts';
export { FittedStepTime, fittedStepTime } from './fitted-step-time.ts';
export * from './kernel-costs.ts';
export type { KernelTables } from './kernel-tables.ts';
export { type OpenLoopOptions, type OpenLoopResult, openLoop } from './open-loop.ts';
export type { FitReport, LinkCost, Profile, ProfileCoefficients } from './profile.ts';
export { ReplicaEngine, type ReplicaEngineOptions, type TokenSink } from './replica-engine.ts';
export { type MixPart, mixServiceRate, type ServiceRateOptions, serviceRate } from './service-rate.ts';
