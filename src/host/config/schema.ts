// The one place where every setting lives: its default, its range and the sentence that explains it. YAML loading,
// flags, environment variables, the editor's JSON Schema and docs/reference/config.md are made from it.
import { z } from 'zod';
import {
  DEFAULT_ENGINE_OPTIONS,
  DEFAULT_NETWORK_BYTES_PER_SECOND,
  DEFAULT_SLO,
  DEFAULT_SWITCH_COSTS,
  type EngineOptions,
  OBJECTIVES,
  type Slo,
} from '../../core/domain/index.ts';
import { DEFAULT_FROM, DEFAULT_TO, SERVICES, type ServiceMix, type ServiceName } from '../traces/index.ts';
import { bytes, count, field, port, positiveCount, positiveSeconds, seconds, share } from './fields.ts';

/** Equal machines; several groups make a mixed cluster. */
const nodeGroupSchema = z.strictObject({
  count: field(positiveCount().default(1), 'How many equal nodes.', 'nodes'),
  gpuKind: field(z.string().min(1).default('H100-80GB'), 'Kind of their GPUs: A100-80GB, H100-80GB or H200.'),
  gpusPerNode: field(positiveCount().max(64).default(8), 'GPUs in each node.', 'GPUs'),
  networkBytesPerSecond: field(
    z.number().positive().default(DEFAULT_NETWORK_BYTES_PER_SECOND),
    'Network of one node, in each direction.',
    'bytes/s',
  ),
});

const clusterSchema = z.strictObject({
  nodes: field(
    z
      .array(nodeGroupSchema)
      .min(1)
      .default([
        {
          count: 2,
          gpuKind: 'H100-80GB',
          gpusPerNode: 8,
          networkBytesPerSecond: DEFAULT_NETWORK_BYTES_PER_SECOND,
        },
      ]),
    'Groups of equal nodes. GPUs are numbered through in this order.',
  ),
});

const sloSchema = z.strictObject({
  ttftSeconds: field(positiveSeconds().default(DEFAULT_SLO.ttftSeconds), 'Time to the first token: fixed part.', 's'),
  ttftSecondsPerInputToken: field(
    seconds().default(DEFAULT_SLO.ttftSecondsPerInputToken),
    'Time to the first token: part that each prompt token adds.',
    's/token',
  ),
  tpotSeconds: field(
    positiveSeconds().default(DEFAULT_SLO.tpotSeconds),
    'Mean time per output token after the first.',
    's/token',
  ),
}) satisfies z.ZodType<Slo>;

const modelSchema = z.strictObject({
  name: field(z.string().min(1), 'Name that clients send as "model"; a built-in model unless configFile is given.'),
  configFile: field(
    z.string().nullable().default(null),
    'Hugging Face config.json of a dense decoder, relative to this file.',
  ),
  maxModelLen: field(
    positiveCount().nullable().default(null),
    "Longest input + output of one request; null takes the model's own.",
    'tokens',
  ),
  slo: field(sloSchema.prefault({}), 'Service level objective of this model.'),
  minReplicas: field(positiveCount().default(1), 'Never fewer replicas than this.', 'replicas'),
  maxReplicas: field(positiveCount().nullable().default(null), 'Never more than this; null for no limit.', 'replicas'),
  pinned: field(
    z.string().nullable().default(null),
    'Replicas that every deployment keeps, in deployment notation, for example 1xTP8.',
  ),
  priority: field(
    z.number().positive().default(1),
    'Weight of this model when not all can be served; higher is served first.',
  ),
});

const engineSchema = z.strictObject({
  maxBatchedTokens: field(
    positiveCount().default(DEFAULT_ENGINE_OPTIONS.maxBatchedTokens),
    'Most tokens computed in one step.',
    'tokens',
  ),
  maxSequences: field(
    positiveCount().default(DEFAULT_ENGINE_OPTIONS.maxSequences),
    'Most sequences in one step.',
    'sequences',
  ),
  kvBlockTokens: field(
    positiveCount().default(DEFAULT_ENGINE_OPTIONS.kvBlockTokens),
    'Tokens in one block of the KV cache.',
    'tokens',
  ),
  memoryUtilisationShare: field(
    share().default(DEFAULT_ENGINE_OPTIONS.memoryUtilisationShare),
    "Share of a GPU's memory that an engine may use.",
    '0..1',
  ),
  activationBytes: field(
    bytes().default(DEFAULT_ENGINE_OPTIONS.activationBytes),
    'Activations, graphs and communicators of one serving engine, per GPU.',
    'bytes',
  ),
}) satisfies z.ZodType<EngineOptions>;

const controlSchema = z.strictObject({
  mode: field(
    z.enum(['observe', 'recommend', 'auto']).default('auto'),
    'observe: measure only. recommend: also plan, and say what it would do. auto: act.',
  ),
  objective: field(
    z.enum(OBJECTIVES).default('p99'),
    'What plans are judged by: p99 latency, goodput, throughput, or fewest GPUs.',
  ),
  slowTickSeconds: field(
    positiveSeconds().default(60),
    'How often the deployment is reconsidered; arrivals are counted and forecast in windows of this length.',
    's',
  ),
  fastTickSeconds: field(positiveSeconds().default(1), 'How often the assignment is reconsidered.', 's'),
  maxSwitchesPerHour: field(count().default(12), 'Most switches in any hour.', 'switches'),
  freeze: field(z.boolean().default(false), 'true keeps the deployment as it is; requests are still routed.'),
  minGainShare: field(
    share().default(0.05),
    "A switch must gain this share of the present score beyond the switch's own loss.",
    '0..1',
  ),
  seed: field(count().default(1), 'Seed of every random choice of the controller.'),
});

const workloadSchema = z.strictObject({
  typeCount: field(positiveCount().max(8).default(4), 'Most workload types of each model.', 'types'),
});

const predictionSchema = z.strictObject({
  predictor: field(
    z.string().min(1).default('ewma'),
    'Who forecasts arrival rates: ewma, last-value, moving-average or seasonal-naive.',
  ),
  horizonWindows: field(
    positiveCount().max(60).default(10),
    'How many slow ticks ahead are forecast and simulated; a switch must pay back within them.',
    'slow ticks',
  ),
});

const searchSchema = z.strictObject({
  nodes: field(positiveCount().default(20_000), 'Most branch-and-bound nodes of one slow tick.', 'nodes'),
  candidates: field(
    positiveCount().max(64).default(6),
    'Most deployments that the twin compares in one slow tick, "stay" included.',
    'deployments',
  ),
  maxPipelineParallel: field(positiveCount().max(16).default(8), 'Longest pipeline considered.', 'stages'),
});

const twinSchema = z.strictObject({
  simulatedRequests: field(
    positiveCount().default(40_000),
    'Most requests simulated in one slow tick, over all candidates.',
    'requests',
  ),
});

const switchingSchema = z.strictObject({
  initial: field(
    z.string().nullable().default(null),
    'Deployment at the start, for example 4xTP4; null plans one without traffic.',
  ),
  parkedLayouts: field(
    z.array(z.string().min(1)).max(16).nullable().default(null),
    'Layouts kept warm on every group of GPUs of their size, as [MODEL:]TPa[PPb], for example TP4. Each holds memory that the KV cache cannot have. null: the tensor-parallel layouts that fit into a node.',
  ),
  onlyParkedLayouts: field(
    z.boolean().default(true),
    'true plans only deployments made of parked layouts; false may start new processes.',
  ),
  drainSeconds: field(
    seconds().default(DEFAULT_SWITCH_COSTS.drainSeconds),
    'Longest that running requests may drain before they are moved.',
    's',
  ),
  drainDeadlineSeconds: field(
    seconds().default(60),
    'Longest that requests which cannot be moved may drain; then they end with a retryable error.',
    's',
  ),
  wakeSeconds: field(seconds().default(DEFAULT_SWITCH_COSTS.wakeSeconds), 'Waking a parked layout.', 's'),
  parkSeconds: field(seconds().default(DEFAULT_SWITCH_COSTS.parkSeconds), 'Parking a serving engine.', 's'),
  newProcessSeconds: field(
    seconds().default(DEFAULT_SWITCH_COSTS.newProcessSeconds),
    'Starting a new engine process that is filled from peers.',
    's',
  ),
  coldSeconds: field(seconds().default(DEFAULT_SWITCH_COSTS.coldSeconds), 'A cold start from disk.', 's'),
  verifySeconds: field(seconds().default(DEFAULT_SWITCH_COSTS.verifySeconds), 'Verifying the weights.', 's'),
  parkedBytesPerLayout: field(
    bytes().default(DEFAULT_SWITCH_COSTS.parkedBytesPerLayout),
    'Memory that one parked layout holds, per GPU.',
    'bytes',
  ),
});

const gatewaySchema = z.strictObject({
  host: field(z.string().min(1).default('127.0.0.1'), 'Address that clients reach; 0.0.0.0 for all interfaces.'),
  port: field(port().default(8080), 'Port for clients; 0 takes a free one.'),
  adminPort: field(port().default(0), 'Port of the admin interface, on loopback only; 0 takes a free one.'),
  maxQueuedRequests: field(
    count().default(1024),
    'Requests that may wait for a replica; more are refused with 503.',
    'requests',
  ),
  queueTimeoutSeconds: field(positiveSeconds().default(60), 'Longest wait for a replica, in pool time.', 's'),
  idleTimeoutSeconds: field(
    positiveSeconds().default(600),
    'Longest silence of an engine in the middle of an answer, in pool time.',
    's',
  ),
  shutdownSeconds: field(
    seconds().default(30),
    'How long running answers may go on after a shutdown was asked for, in real time.',
    's',
  ),
  maxBodyBytes: field(
    z
      .int()
      .positive()
      .default(16 * 1024 * 1024),
    'Largest request body.',
    'bytes',
  ),
  keepAliveSeconds: field(
    positiveSeconds().default(75),
    'How long idle client connections stay open, in real time.',
    's',
  ),
});

const emulationSchema = z.strictObject({
  speed: field(z.number().positive().max(1000).default(1), 'Emulated seconds that pass in one real second.'),
  isolation: field(
    z.enum(['process', 'shared']).default('process'),
    "process: each engine is a process of its own. shared: engines live in their agent's process.",
  ),
});

/** A weight for each service that traffic can be made of; those not named in `weights` have none. */
const mixSchema = (weights: ServiceMix) =>
  z.strictObject(
    mapServices((service) =>
      field(
        z
          .number()
          .nonnegative()
          .default(weights[service] ?? 0),
        `Weight of the service "${service}".`,
      ),
    ),
  );

function mapServices<T>(make: (service: ServiceName) => T): Record<ServiceName, T> {
  const entries = (Object.keys(SERVICES) as ServiceName[]).map((service) => [service, make(service)] as const);
  return Object.fromEntries(entries) as Record<ServiceName, T>;
}

const trafficSchema = z.strictObject({
  source: field(z.string().min(1).default('none'), 'none, generated, or a trace file, relative to this file.'),
  rateScale: field(z.number().positive().default(1), 'Multiplies the arrival rate; the duration stays.'),
  ratePerSecond: field(
    z.number().positive().default(4),
    'Generated traffic: arrival rate that a weight of 1 in a mix stands for.',
    'requests/s',
  ),
  from: field(mixSchema(DEFAULT_FROM).prefault({}), 'Generated traffic: weight of each service at the start.'),
  to: field(mixSchema(DEFAULT_TO).prefault({}), 'Generated traffic: weight of each service half a period later.'),
  driftSeconds: field(
    positiveSeconds().default(1200),
    'Generated traffic: period in which the mix goes from one to the other and back.',
    's',
  ),
  variation: field(
    share().default(1),
    "Generated traffic: how much of the services' own wandering from minute to minute is kept; 0 is a steady Poisson.",
    '0..1',
  ),
  repeat: field(z.boolean().default(true), 'true starts over at the end of the trace.'),
  seed: field(count().default(1), 'Seed of generated traffic.'),
});

export const configSchema = z.strictObject({
  cluster: field(clusterSchema.prefault({}), 'The machines.'),
  models: field(
    z
      .array(modelSchema)
      .min(1)
      .prefault([{ name: 'llama2-70b' }]),
    'Models that share the pool.',
  ),
  engine: field(engineSchema.prefault({}), 'Options of every engine.'),
  control: field(controlSchema.prefault({}), 'The control loop.'),
  workload: field(workloadSchema.prefault({}), 'How requests are sorted into types.'),
  prediction: field(predictionSchema.prefault({}), 'Forecast of arrival rates.'),
  search: field(searchSchema.prefault({}), 'Search for deployments; budgets are units of work, never time.'),
  twin: field(twinSchema.prefault({}), 'Simulation of candidates; budgets are units of work, never time.'),
  switching: field(switchingSchema.prefault({}), 'How deployments change, and what that costs.'),
  gateway: field(gatewaySchema.prefault({}), 'The OpenAI-compatible server.'),
  emulation: field(emulationSchema.prefault({}), 'The emulated pool.'),
  traffic: field(trafficSchema.prefault({}), 'Traffic that `oserve up` makes itself.'),
  stateDirectory: field(
    z.string().min(1).default('.oserve'),
    'Journal and state files, relative to the working directory.',
  ),
});

/** All settings with defaults filled in. */
export type Config = z.infer<typeof configSchema>;
