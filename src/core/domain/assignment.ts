// Which share of each workload type goes to which class of replicas, and in which manner inside it.

/**
 * How a request is kept apart from others (design: routing variants).
 * `plain`: shares only. `nested` (soft nested confinement): replicas are ordered by how well they suit long prompts; a
 * prompt longer than `longerThanTokens[i]` may use only the first `replicaShares[i]` (0..1, of the GPUs that serve its
 * model); shorter prompts may go anywhere. `longerThanTokens` rises and `replicaShares` falls with i.
 */
export type RoutingVariant =
  | { readonly kind: 'plain' }
  | {
      readonly kind: 'nested';
      readonly longerThanTokens: readonly number[];
      readonly replicaShares: readonly number[];
    };

/** K classes × J types. Rows of `share` may sum to less than 1 when demand exceeds what can be served. */
export interface Assignment {
  readonly typeIds: readonly string[];
  readonly classKeys: readonly string[];
  /** share[j][k]: part of type j that class k takes, 0..1. */
  readonly share: readonly (readonly number[])[];
  readonly variant: RoutingVariant;
}
