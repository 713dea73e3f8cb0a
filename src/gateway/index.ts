// The OpenAI-compatible server in front of the pool.
export {
  type GatewayClock,
  type GatewayOptions,
  leastLoadedRouter,
  type ReplicaLoads,
  type RequestRouter,
  type RouterFactory,
  type ServedModel,
} from './options.ts';
export { type GatewayStart, type RunningGateway, startGateway } from './start-gateway.ts';
