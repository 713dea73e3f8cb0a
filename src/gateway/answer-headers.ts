// Headers that the gateway adds to an answer. What helps to find out why an answer came from where it did is told only
// to those who ask for it (`x-oserve-debug`), and never an address.
import { HEADER_EMULATED, type RoutableReplica } from '../wire/index.ts';
import type { InferenceRequest } from './inference-request.ts';

export interface AnswerFacts {
  readonly requestId: string;
  readonly emulated: boolean;
  readonly request: InferenceRequest;
  readonly replica: RoutableReplica | null;
  readonly routingVersion: number;
  readonly queuedMs: number;
}

/** @param wantsDiagnostics - the client sent `x-oserve-debug`. */
export function answerHeaders(facts: AnswerFacts, wantsDiagnostics: boolean): Record<string, string> {
  const headers: Record<string, string> = { 'x-request-id': facts.requestId };
  if (facts.emulated) headers[HEADER_EMULATED] = 'true';
  const { replica } = facts;
  if (!wantsDiagnostics || replica === null) return headers;
  headers['x-oserve-replica'] = replica.id;
  headers['x-oserve-layout'] = replica.classKey;
  headers['x-oserve-routing-version'] = String(facts.routingVersion);
  headers['x-oserve-queue-duration-ms'] = facts.queuedMs.toFixed(3);
  if (facts.request.maxTokens === null)
    headers['x-oserve-max-tokens'] = `model length of the replica (${replica.maxModelLen}) less the prompt`;
  return headers;
}
