// What an agent and an engine are started with. Both may be processes of their own, so options are plain JSON, checked
// on arrival; what cannot travel (a step time for tests) is passed beside them.
import { z } from 'zod';
import {
  DEFAULT_ENGINE_OPTIONS,
  DEFAULT_SWITCH_COSTS,
  type EngineOptions,
  type ModelSpec,
  type SwitchCosts,
} from '../core/domain/index.ts';
import type { Profile } from '../core/replica/index.ts';

const count = z.int().positive();
const seconds = z.number().nonnegative();

export const modelSpecSchema = z.strictObject({
  name: z.string().min(1),
  layerCount: count,
  hiddenSize: count,
  headCount: count,
  kvHeadCount: count,
  headDim: count,
  intermediateSize: count,
  gatedMlp: z.boolean(),
  vocabularySize: count,
  tiedEmbeddings: z.boolean(),
  biases: z.boolean(),
  positionTableRows: z.int().nonnegative(),
  bytesPerParameter: z.number().positive(),
  maxModelLen: count,
}) satisfies z.ZodType<ModelSpec>;

const engineOptionsSchema = z.strictObject({
  maxBatchedTokens: count,
  maxSequences: count,
  kvBlockTokens: count,
  memoryUtilisationShare: z.number().positive().max(1),
  activationBytes: z.number().nonnegative(),
}) satisfies z.ZodType<EngineOptions>;

const switchCostsSchema = z.strictObject({
  wakeSeconds: seconds,
  parkSeconds: seconds,
  newProcessSeconds: seconds,
  coldSeconds: seconds,
  verifySeconds: seconds,
  drainSeconds: seconds,
  parkedBytesPerLayout: z.number().nonnegative(),
}) satisfies z.ZodType<SwitchCosts>;

/** Fitted step times travel whole, so that an engine process reads no file. */
const profileSchema = z.custom<Profile>(
  (value) => typeof value === 'object' && value !== null && 'coefficients' in value && 'gpuKind' in value,
  'expected a profile (data/profiles/*.json)',
);

/** The pool's one clock: wall-clock time of emulated second 0, and emulated seconds per real second. */
const clockFields = { epochMs: z.number(), speed: z.number().positive().default(1) };
const addressFields = { host: z.string().default('127.0.0.1'), port: z.int().min(0).max(65535).default(0) };

export const emulatedEngineOptionsSchema = z
  .strictObject({
    ...clockFields,
    ...addressFields,
    id: z.string().min(1),
    model: modelSpecSchema,
    gpuKind: z.string().min(1),
    strategy: z.strictObject({ tensorParallel: count, pipelineParallel: count }),
    engine: engineOptionsSchema.default({ ...DEFAULT_ENGINE_OPTIONS }),
    /** Size of the KV cache; what memory leaves, as the agent reckons it. */
    kvBlocks: count,
    /** Longest input + output of one request, tokens. */
    maxModelLen: count,
    /** How long steps take; may be missing only where a step time is passed beside the options. */
    profiles: z.array(profileSchema).default([]),
    /** Takes requests from the start; an engine of an agent waits for `admit`. */
    admitting: z.boolean().default(true),
  })
  .refine(({ kvBlocks, engine, maxModelLen }) => maxModelLen <= kvBlocks * engine.kvBlockTokens, {
    path: ['maxModelLen'],
    message: 'one request must fit the KV cache: maxModelLen ≤ kvBlocks × engine.kvBlockTokens',
  });
export type EmulatedEngineOptions = z.infer<typeof emulatedEngineOptionsSchema>;
export type EmulatedEngineInput = z.input<typeof emulatedEngineOptionsSchema>;

export const agentOptionsSchema = z.strictObject({
  ...clockFields,
  ...addressFields,
  /** Name of the agent, as inventories show it. */
  agent: z.string().min(1),
  nodeIndex: z.int().nonnegative(),
  /** Bearer token that each call must carry. */
  token: z.string().min(1),
  /** GPUs of this node by their number in the whole cluster. */
  gpus: z.array(z.strictObject({ gpu: z.int().nonnegative(), gpuKind: z.string().min(1) })).min(1),
  /** Models that engines may be created for. */
  models: z.array(modelSpecSchema).min(1),
  /** By GPU kind: how long the steps of its engines take. */
  profiles: z.array(profileSchema).default([]),
  engine: engineOptionsSchema.default({ ...DEFAULT_ENGINE_OPTIONS }),
  costs: switchCostsSchema.default({ ...DEFAULT_SWITCH_COSTS }),
  /** Bytes of each GPU that KV pools leave free for parked layouts; the memory beyond the engines' share is free too. */
  parkedReserveBytes: z.number().nonnegative().default(0),
  /** `process`: each engine is a process, so that kill -9 means something. `shared`: engines live in the agent's. */
  isolation: z.enum(['process', 'shared']).default('process'),
  /** Module that an engine process runs; the default is right for the built package. */
  engineEntry: z.string().optional(),
});
export type AgentOptions = z.infer<typeof agentOptionsSchema>;
export type AgentInput = z.input<typeof agentOptionsSchema>;
