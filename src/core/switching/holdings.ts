// Who holds which part of which model: the shard of a placed replica on each of its GPUs, and what two shards share.
import { ConfigError, type ModelSpec, type PlacedReplica, type Strategy, strategyName } from '../domain/index.ts';
import { overlapBytes, type Piece, pieceBytes, shardPieces } from './shards.ts';

/** What lies on one GPU: the shard of one rank of one strategy of one model. */
export interface Holding {
  readonly model: string;
  readonly strategy: Strategy;
  readonly rank: number;
  /** Equal for equal shards. */
  readonly key: string;
}

/** Shards by model, strategy and rank; computed once, compared by key. */
export class ShardBook {
  readonly #models: ReadonlyMap<string, ModelSpec>;
  readonly #pieces = new Map<string, readonly Piece[]>();
  readonly #bytes = new Map<string, number>();
  readonly #overlaps = new Map<string, Map<string, number>>();

  constructor(models: readonly ModelSpec[]) {
    this.#models = new Map(models.map((model) => [model.name, model]));
  }

  /** @throws {@link ConfigError} when no such model was given. */
  model(name: string): ModelSpec {
    const model = this.#models.get(name);
    if (!model) {
      throw new ConfigError(`The deployment names the model "${name}", which is not among the models of this pool.`, {
        hint: `Models here: ${[...this.#models.keys()].join(', ')}.`,
      });
    }
    return model;
  }

  pieces({ model, strategy, rank, key }: Holding): readonly Piece[] {
    let pieces = this.#pieces.get(key);
    if (!pieces) {
      pieces = shardPieces(this.model(model), strategy, rank);
      this.#pieces.set(key, pieces);
    }
    return pieces;
  }

  bytes(holding: Holding): number {
    let bytes = this.#bytes.get(holding.key);
    if (bytes === undefined) {
      const model = this.model(holding.model);
      bytes = this.pieces(holding).reduce((sum, piece) => sum + pieceBytes(model, piece), 0);
      this.#bytes.set(holding.key, bytes);
    }
    return bytes;
  }

  /** Bytes that both hold; 0 for different models. */
  overlap(a: Holding, b: Holding): number {
    if (a.model !== b.model) return 0;
    let withA = this.#overlaps.get(a.key);
    if (!withA) {
      withA = new Map();
      this.#overlaps.set(a.key, withA);
    }
    let bytes = withA.get(b.key);
    if (bytes === undefined) {
      bytes = overlapBytes(this.model(a.model), this.pieces(a), this.pieces(b));
      withA.set(b.key, bytes);
    }
    return bytes;
  }
}

export const holdingOf = (model: string, strategy: Strategy, rank: number): Holding => ({
  model,
  strategy,
  rank,
  key: `${model}:${strategyName(strategy)}#${rank}`,
});

/** What each GPU of these replicas holds. */
export function holdingByGpu(replicas: readonly PlacedReplica[]): Map<number, Holding> {
  const holdings = new Map<number, Holding>();
  for (const { model, strategy, gpus } of replicas) {
    gpus.forEach((gpu, rank) => {
      holdings.set(gpu, holdingOf(model, strategy, rank));
    });
  }
  return holdings;
}
