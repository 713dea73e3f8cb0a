// What the controller and the gateway say to each other, on the gateway's loopback-only admin port (bearer token).
//
//   PUT  /admin/v1/routing                 RoutingUpdate → { version }       replaces table and replica list at once
//   POST /admin/v1/replicas/ID/evacuate    Evacuate → Evacuated              cuts what can go on elsewhere, or waits
//   GET  /admin/v1/observation?after=N&incarnation=I → GatewayObservation    what came and ended since cursor N (of I)
//   GET  /admin/v1/status                  → GatewayStatus
import { z } from 'zod';
import type { Assignment, FinishedRequest, RequestView, WorkloadModel } from '../core/domain/index.ts';

/** A replica that may take requests now. Replicas not in the list take none; their running requests go on. */
export interface RoutableReplica {
  readonly id: string;
  readonly url: string;
  readonly model: string;
  readonly classKey: string;
  readonly gpuCount: number;
  readonly maxModelLen: number;
  /** Tokens that its KV cache holds. */
  readonly kvTokens: number;
}

export interface RoutingUpdate {
  readonly version: number;
  readonly workload: WorkloadModel;
  readonly assignment: Assignment;
  readonly replicas: readonly RoutableReplica[];
}

const numbers = z.array(z.number());

/** Checked on arrival; a table that fails is refused and the last good one stays. */
export const routingUpdateSchema = z.object({
  version: z.int().nonnegative(),
  workload: z.object({
    version: z.int(),
    fittedToSeconds: z.number(),
    types: z.array(
      z.object({
        id: z.string(),
        model: z.string(),
        inputTokens: z.number(),
        outputTokens: z.number(),
        logInput: z.number(),
        logOutput: z.number(),
        samples: z.array(z.tuple([z.number(), z.number()])),
      }),
    ),
    posteriorCounts: z.record(z.string(), numbers),
  }),
  assignment: z.object({
    typeIds: z.array(z.string()),
    classKeys: z.array(z.string()),
    share: z.array(numbers),
    variant: z.discriminatedUnion('kind', [
      z.object({ kind: z.literal('plain') }),
      z.object({ kind: z.literal('nested'), longerThanTokens: numbers, replicaShares: numbers }),
    ]),
  }),
  replicas: z.array(
    z.object({
      id: z.string(),
      url: z.string(),
      model: z.string(),
      classKey: z.string(),
      gpuCount: z.int(),
      maxModelLen: z.int(),
      kvTokens: z.int(),
    }),
  ),
});

/** `cut`: streams that can be continued exactly go on elsewhere at once. `wait`: nothing is cut. */
export const evacuateSchema = z.strictObject({ mode: z.enum(['wait', 'cut']) });

export interface Evacuated {
  /** Requests still running there. */
  readonly runningCount: number;
  /** Requests that were cut and are being continued elsewhere. */
  readonly movedCount: number;
}

export interface GatewayObservation {
  /** Changes when the gateway process was restarted: cursors of another incarnation are void. */
  readonly incarnation: string;
  readonly cursor: number;
  readonly routingVersion: number;
  readonly arrivals: readonly RequestView[];
  readonly finished: readonly FinishedRequest[];
  readonly running: readonly (RequestView & { readonly generatedTokens: number })[];
  readonly queuedCount: number;
}

export interface GatewayStatus {
  readonly ready: boolean;
  readonly emulated: boolean;
  readonly speed: number;
  readonly routingVersion: number;
  readonly runningByReplica: Readonly<Record<string, number>>;
  readonly queuedCount: number;
}

/** Public: `GET /oserve/status` on the gateway's data port; `replay` takes its speed from here. */
export interface PublicStatus {
  readonly emulated: boolean;
  readonly speed: number;
  readonly models: readonly string[];
  readonly deployment: string;
  readonly routingVersion: number;
}
