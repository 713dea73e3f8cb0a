// Virtual time: a simulated pool around `core/replica`.

export * from './simulated-fleet.ts';
export type { RoutableReplica } from './simulated-replicas.ts';
export type { EndedSwitch } from './simulated-switch.ts';
