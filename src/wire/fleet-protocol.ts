// The fleet protocol: what the controller and a node agent say to each other (HTTP/JSON, bearer token, idempotent).
// Two agents speak it: the emulated one (src/agent) and the vLLM one. The agent is never on the token path.
//
//   GET  /fleet/v1/inventory                      → Inventory
//   GET  /fleet/v1/events?after=N&waitSeconds=S   → EventBatch (long poll)
//   GET  /fleet/v1/manifest?engine=ID             → Manifest
//   POST /fleet/v1/engines                        CreateEngine → EngineInfo, parked
//   POST /fleet/v1/engines/ID/wake|fill|verify|admit|drain|park|release → EngineInfo
//   POST /fleet/v1/engines/ID/kv-export|kv-import → 501 `capability_missing` where the agent cannot
//
//        create           wake            fill           verify        admit
//   (none) ───► parked ───────► waking ───────► filled ─────────► filled ───────► serving
//                  ▲                                                                 │ drain
//                  └──────────────────────────── park ◄── draining ◄─────────────────┘      release: from any state
//
// `wake` takes the memory for weights and KV pool (refused with numbers when it does not fit) and brings up graphs and
// communicators; `fill` brings the weights in; `verify` checks them; only then `admit` lets requests in. Each call
// answers when the state is reached; calling it again in or past that state answers at once. Errors are ErrorBody.
import { z } from 'zod';

const strategySchema = z.strictObject({ tensorParallel: z.int().positive(), pipelineParallel: z.int().positive() });

export const engineStateSchema = z.enum(['starting', 'parked', 'waking', 'filled', 'serving', 'draining', 'failed']);
export type EngineState = z.infer<typeof engineStateSchema>;

/** `gpus` are numbers of the whole cluster; an engine lives on one node in this version of the protocol. */
export const createEngineSchema = z.strictObject({
  id: z.string().min(1),
  model: z.string().min(1),
  gpuKind: z.string().min(1),
  strategy: strategySchema,
  gpus: z.array(z.int().nonnegative()).min(1),
});
export type CreateEngine = z.infer<typeof createEngineSchema>;

/** `park.keepWeights`: rung "wake" later; only where capabilities.rungs has it. */
export const parkSchema = z.strictObject({ keepWeights: z.boolean().default(false) });

export const fillSchema = z.strictObject({
  /** `host`: from the host-memory cache of this node. `peers`: box by box from other GPUs. */
  source: z.enum(['host', 'peers']),
  bytes: z.number().nonnegative(),
  /** Expected seconds of the slowest link; an emulated agent takes that long. */
  seconds: z.number().nonnegative(),
});
export type Fill = z.infer<typeof fillSchema>;

export const engineInfoSchema = createEngineSchema.extend({
  state: engineStateSchema,
  /** Base URL of the engine's own HTTP API; the gateway talks to it directly. */
  url: z.string(),
  pid: z.int().nullable(),
  runningCount: z.int().nonnegative(),
  waitingCount: z.int().nonnegative(),
  kvUsedShare: z.number(),
  kvTokens: z.int().nonnegative(),
  maxModelLen: z.int().nonnegative(),
  /** Why the state is `failed`, else null. */
  failure: z.string().nullable(),
});
export type EngineInfo = z.infer<typeof engineInfoSchema>;

export const inventorySchema = z.strictObject({
  agent: z.string(),
  nodeIndex: z.int().nonnegative(),
  /** True for an emulated pool; `speed` is how many emulated seconds pass in one real second. */
  emulated: z.boolean(),
  speed: z.number().positive(),
  gpus: z.array(
    z.strictObject({
      gpu: z.int().nonnegative(),
      gpuKind: z.string(),
      memoryBytes: z.number(),
      usedBytes: z.number(),
      lost: z.boolean(),
    }),
  ),
  engines: z.array(engineInfoSchema),
  capabilities: z.strictObject({
    rungs: z.array(z.enum(['keep', 'wake', 'parked-fill', 'new-process', 'cold'])),
    partialRelease: z.boolean(),
    hostCache: z.boolean(),
    kvTransfer: z.boolean(),
  }),
  /** Number of the newest event. */
  lastEvent: z.int().nonnegative(),
});
export type Inventory = z.infer<typeof inventorySchema>;

export const eventBatchSchema = z.strictObject({
  events: z.array(
    z.strictObject({
      number: z.int().positive(),
      atSeconds: z.number(),
      engine: z.string(),
      kind: z.enum(['state', 'died', 'created', 'released']),
      detail: z.string(),
    }),
  ),
  lastEvent: z.int().nonnegative(),
});
export type EventBatch = z.infer<typeof eventBatchSchema>;

/** Which box of which checkpoint tensor each rank of an engine holds. */
export const manifestSchema = z.strictObject({
  engine: z.string(),
  ranks: z.array(
    z.strictObject({
      gpu: z.int().nonnegative(),
      boxes: z.array(
        z.strictObject({ tensor: z.string(), start: z.array(z.int()), shape: z.array(z.int()), bytes: z.number() }),
      ),
    }),
  ),
});
export type Manifest = z.infer<typeof manifestSchema>;
