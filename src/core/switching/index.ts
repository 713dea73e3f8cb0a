// From one deployment to the next: where new replicas go, which bytes move, in which order, and the state machine that
// carries it out.
export { placeDeployment, replicaIdGenerator } from './placement.ts';
export { planSwitch } from './plan-switch.ts';
export { type Box, shardBoxes } from './shards.ts';
export { schedule, secondsFromFirstDrain } from './step-times.ts';
export * from './switch-execution.ts';
export * from './switch-request.ts';
