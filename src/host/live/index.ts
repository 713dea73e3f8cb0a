// A live pool behind the Fleet port: clients of agents and gateway, and what keeps the pool as it should be.
export { ControlLoop, type ControlLoopOptions } from './control-loop.ts';
export { type AgentPort, type EngineVerb, FleetClient, type FleetClientOptions } from './fleet-client.ts';
export { FleetWatch, type FleetWatchOptions, type PoolView } from './fleet-watch.ts';
export { GatewayAdminClient, type GatewayAdminClientOptions, type GatewayPort } from './gateway-admin-client.ts';
export { initialDeployment } from './initial-deployment.ts';
export { JsonClient, RefusedError, UnreachableError } from './json-client.ts';
export { engineIdOf, type Layout, sharesGpus } from './layout.ts';
export { LiveFleet, type LiveFleetOptions, type SwitchRunner } from './live-fleet.ts';
export { type LogLine, tickLine } from './log-lines.ts';
export { type FillCost, type ReconcileEvent, Reconciler, type ReconcilerOptions } from './reconciler.ts';
export { type DrainLimits, ReplicaActions, type ReplicaActionsOptions, type WaitingClock } from './replica-actions.ts';
export {
  DEFAULT_PRIOR,
  priorRouting,
  RoutingPublisher,
  type RoutingPublisherOptions,
  routableReplica,
  type TrafficPrior,
} from './routing-publisher.ts';
