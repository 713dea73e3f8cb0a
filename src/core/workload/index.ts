// Workload types: fitted to finished requests, guessed for arriving ones, counted as of now.
export { ArrivalCounter, type ArrivalCounterOptions } from './arrival-counter.ts';
export type { WorkloadOptions } from './describe.ts';
export { hasDrifted } from './drift.ts';
export { fitWorkload, refreshWorkload, type WorkloadFit } from './fit-workload.ts';
export { type PosteriorView, posterior, posteriorOfRunning, typeOfFinished } from './posterior.ts';
