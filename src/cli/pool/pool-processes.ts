// Which processes make up a pool, and what each is told: made from the configuration once, at the start.
import { fileURLToPath } from 'node:url';
import type { AgentInput } from '../../agent/index.ts';
import { firstGpuByNode, mostParkedBytes } from '../../core/domain/index.ts';
import {
  type ChildSpec,
  type ControllerInput,
  type LoadedConfig,
  loadProfile,
  type PoolClock,
  switchCostsOf,
} from '../../host/index.ts';
import type { ControllerProcessOptions } from '../processes/controller-options.ts';
import type { GatewayProcessOptions } from '../processes/gateway-options.ts';
import type { TrafficProcessOptions } from '../processes/traffic-options.ts';

export interface PoolPlace {
  /** Names this life of the pool. */
  readonly poolId: string;
  readonly token: string;
  readonly clock: PoolClock;
  /** Absolute. */
  readonly stateDirectory: string;
  readonly dataPort: number;
  readonly adminPort: number;
  /** One per node. */
  readonly agentPorts: readonly number[];
}

export interface PoolProcesses {
  readonly url: string;
  readonly adminUrl: string;
  readonly agents: readonly { readonly name: string; readonly url: string; readonly spec: ChildSpec }[];
  readonly gateway: ChildSpec;
  readonly controller: ChildSpec;
  /** Null: nobody makes traffic. */
  readonly traffic: ChildSpec | null;
}

const LOOPBACK = '127.0.0.1';

const moduleOf = (name: string): string => fileURLToPath(new URL(`../processes/${name}.js`, import.meta.url));

/** Warnings and worse from those that speak only of themselves; what happens to the pool, the controller tells. */
const QUIET = process.env.OSERVE_LOG_LEVEL === undefined ? { OSERVE_LOG_LEVEL: 'warn' } : {};

export function poolProcesses(loaded: LoadedConfig, place: PoolPlace): PoolProcesses {
  const { config, cluster, models, parkedPlaces } = loaded;
  const { poolId, token, clock, stateDirectory } = place;
  const environment = { OSERVE_POOL_ID: poolId };
  const { speed } = clock;
  const specs = models.map(({ spec }) => spec);
  const profiles = [...new Set(cluster.nodes.map((node) => node.gpuKind))].map((kind) => loadProfile(kind));
  const firstGpu = firstGpuByNode(cluster);
  const costs = switchCostsOf(config);

  const agents = cluster.nodes.map((node, nodeIndex) => {
    const port = place.agentPorts[nodeIndex]!;
    const options: AgentInput = {
      // Asked at every start of a process: the wall clock may have jumped since the pool began.
      get epochMs() {
        return clock.epochMs;
      },
      speed,
      host: LOOPBACK,
      port,
      agent: node.name,
      nodeIndex,
      token,
      gpus: Array.from({ length: node.gpuCount }, (_, i) => ({
        gpu: firstGpu[nodeIndex]! + i,
        gpuKind: node.gpuKind,
      })),
      models: specs,
      profiles,
      engine: config.engine,
      costs,
      parkedReserveBytes: mostParkedBytes(parkedPlaces, costs.parkedBytesPerLayout),
      isolation: config.emulation.isolation,
    };
    const name = `agent-${nodeIndex}`;
    return {
      name,
      url: `http://${LOOPBACK}:${port}`,
      spec: {
        name,
        modulePath: moduleOf('agent'),
        options,
        environment: { ...environment, ...QUIET },
        stopMs: 10_000,
      } satisfies ChildSpec,
    };
  });

  const { gateway } = config;
  const url = `http://${reachable(gateway.host)}:${place.dataPort}`;
  const adminUrl = `http://${LOOPBACK}:${place.adminPort}`;
  const gatewayOptions: GatewayProcessOptions = {
    get epochMs() {
      return clock.epochMs;
    },
    speed,
    host: gateway.host,
    port: place.dataPort,
    adminPort: place.adminPort,
    token,
    emulated: true,
    models: specs.map(({ name, maxModelLen }) => ({ name, maxModelLen })),
    stateFile: `${stateDirectory}/routing-${poolId}.json`,
    maxQueuedRequests: gateway.maxQueuedRequests,
    queueTimeoutSeconds: gateway.queueTimeoutSeconds,
    idleTimeoutSeconds: gateway.idleTimeoutSeconds,
    shutdownSeconds: gateway.shutdownSeconds,
    maxBodyBytes: gateway.maxBodyBytes,
    keepAliveSeconds: gateway.keepAliveSeconds,
  };
  const input: ControllerInput = { config, cluster, models, parkedPlaces, profiles };
  const controllerOptions: ControllerProcessOptions = {
    token,
    clock,
    poolId,
    stateDirectory,
    gatewayAdminUrl: adminUrl,
    agents: agents.map((agent) => ({ name: agent.name, url: agent.url })),
    input,
  };
  const trafficOptions: TrafficProcessOptions = {
    url,
    clock,
    models: specs.map(({ name }) => name),
    file: loaded.trafficFile,
    traffic: config.traffic,
  };
  return {
    url,
    adminUrl,
    agents,
    gateway: {
      name: 'gateway',
      modulePath: moduleOf('gateway'),
      options: gatewayOptions,
      environment: { ...environment, ...QUIET },
      stopMs: gateway.shutdownSeconds * 1000 + 3000,
    },
    controller: {
      name: 'controller',
      modulePath: moduleOf('controller'),
      options: controllerOptions,
      environment,
    },
    traffic:
      config.traffic.source === 'none'
        ? null
        : {
            name: 'traffic',
            modulePath: moduleOf('traffic'),
            options: trafficOptions,
            environment,
            stopMs: 10_000,
            restart: 'on-failure',
          },
  };
}

/** An address to reach a server by that listens on this one. */
function reachable(host: string): string {
  if (host === '0.0.0.0' || host === '::') return LOOPBACK;
  return host.includes(':') ? `[${host}]` : host;
}
