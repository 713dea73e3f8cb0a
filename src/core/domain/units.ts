// Units inside the core: seconds, bytes, tokens, requests/s. Nothing else, so rate × duration is a count.

export const GIB = 1024 ** 3;
export const GB = 1e9;

declare const brand: unique symbol;
/** A string or number that cannot be mixed up with another kind of id. */
export type Brand<T, Name extends string> = T & { readonly [brand]: Name };

/** One running (or parked) engine and the GPUs that it is bound to. */
export type ReplicaId = Brand<string, 'ReplicaId'>;
export const replicaId = (text: string): ReplicaId => text as ReplicaId;

/** All times that enter a sum of step times are multiples of this, so that sums are exact in float64. */
export const TIME_GRID_SECONDS = 2 ** -32;

/** Rounds seconds to the grid of {@link TIME_GRID_SECONDS}. */
export const onTimeGrid = (seconds: number): number => Math.round(seconds / TIME_GRID_SECONDS) * TIME_GRID_SECONDS;

export const formatGib = (bytes: number): string => `${(bytes / GIB).toFixed(1)} GiB`;
