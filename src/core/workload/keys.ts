// What the posterior at arrival may look at: the model, the prompt's length (half-octave buckets), the tenant, and the
// client's limit on the output (octave buckets). Nothing else of a request is known before it ends.

/** Half octaves of prompt length up to 2^20 tokens. */
export const INPUT_BUCKETS = 41;
/** Octaves of `maxTokens` up to 2^20. */
export const LIMIT_BUCKETS = 21;
/** Tenants told apart per model; the rest shares the key of requests without a tenant. */
export const TENANT_LIMIT = 64;

export const inputBucket = (inputTokens: number): number =>
  inputTokens <= 1 ? 0 : Math.min(INPUT_BUCKETS - 1, Math.floor(2 * Math.log2(inputTokens)));

/** The bucket's limits are powers of two, inclusive: 4096 shares a bucket with 2049. */
export const limitBucket = (maxTokens: number): number =>
  maxTokens <= 1 ? 0 : Math.min(LIMIT_BUCKETS - 1, Math.ceil(Math.log2(maxTokens)));

/** Key of one cell of counts; JSON, so that any model or tenant name is unambiguous. */
export const countsKey = (model: string, input: number, tenant: string, limit: number): string =>
  JSON.stringify([model, input, tenant, limit]);

export const parseCountsKey = (key: string): [model: string, input: number, tenant: string, limit: number] =>
  JSON.parse(key) as [string, number, string, number];
