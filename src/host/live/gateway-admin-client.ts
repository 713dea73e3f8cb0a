// Client of the gateway's admin port: replaces its routing, empties a replica, reads what came and ended.
import { z } from 'zod';
import type { Evacuated, GatewayObservation, GatewayStatus, RoutingUpdate } from '../../wire/index.ts';
import { JsonClient } from './json-client.ts';

/** The part of the gateway that the live fleet uses; {@link GatewayAdminClient} speaks HTTP, tests put a fake here. */
export interface GatewayPort {
  putRouting(update: RoutingUpdate): Promise<{ readonly version: number }>;
  /** `cut`: streams that can be continued exactly go on elsewhere at once. `wait`: only tells how many still run. */
  evacuate(replicaId: string, mode: 'wait' | 'cut'): Promise<Evacuated>;
  /**
   * @param after - cursor of the last answer, 0 for none.
   * @param incarnation - whose cursor it is: another process starts from the beginning.
   */
  observation(after: number, incarnation: string | null): Promise<GatewayObservation>;
  status(): Promise<GatewayStatus>;
}

const requestView = z.object({
  arrivalSeconds: z.number(),
  model: z.string(),
  inputTokens: z.number(),
  maxTokens: z.number(),
  tenant: z.string().exactOptional(),
  isRetry: z.boolean().exactOptional(),
});

const observationSchema = z.object({
  incarnation: z.string(),
  cursor: z.number(),
  routingVersion: z.number(),
  arrivals: z.array(requestView),
  finished: z.array(
    requestView.extend({ outputTokens: z.number(), finishedSeconds: z.number(), ttftSeconds: z.number() }),
  ),
  running: z.array(requestView.extend({ generatedTokens: z.number() })),
  queuedCount: z.number(),
}) satisfies z.ZodType<GatewayObservation>;

const statusSchema = z.object({
  ready: z.boolean(),
  emulated: z.boolean(),
  speed: z.number(),
  routingVersion: z.number(),
  runningByReplica: z.record(z.string(), z.number()),
  queuedCount: z.number(),
}) satisfies z.ZodType<GatewayStatus>;

export interface GatewayAdminClientOptions {
  readonly baseUrl: string;
  readonly token: string;
  /** Longest wait for an answer, real milliseconds. */
  readonly timeoutMs?: number;
}

export class GatewayAdminClient implements GatewayPort {
  readonly #http: JsonClient;

  constructor({ baseUrl, token, timeoutMs = 5000 }: GatewayAdminClientOptions) {
    this.#http = new JsonClient({ baseUrl, token, name: 'gateway', timeoutMs });
  }

  putRouting(update: RoutingUpdate): Promise<{ readonly version: number }> {
    return this.#http.call({
      method: 'PUT',
      path: '/admin/v1/routing',
      body: update,
      answer: z.object({ version: z.number() }),
    });
  }

  evacuate(replicaId: string, mode: 'wait' | 'cut'): Promise<Evacuated> {
    return this.#http.call({
      method: 'POST',
      path: `/admin/v1/replicas/${encodeURIComponent(replicaId)}/evacuate`,
      body: { mode },
      answer: z.object({ runningCount: z.number(), movedCount: z.number() }),
    });
  }

  observation(after: number, incarnation: string | null): Promise<GatewayObservation> {
    const whose = incarnation === null ? '' : `&incarnation=${encodeURIComponent(incarnation)}`;
    const path = `/admin/v1/observation?after=${after}${whose}`;
    return this.#http.call({ method: 'GET', path, answer: observationSchema });
  }

  status(): Promise<GatewayStatus> {
    return this.#http.call({ method: 'GET', path: '/admin/v1/status', answer: statusSchema });
  }

  close(): Promise<void> {
    return this.#http.close();
  }
}
