// Who holds which part of which model: the shard of a placed replica on each of its GPUs, and what two shards share.
import { ConfigError, type ModelSpec, type PlacedReplica, type Strategy, strategyName } from '../domain/index.ts';
import { overlapBytes, type Piece, pieceBytes, shardPieces } from './shards.ts';

/** What lies on one GPU: the shard of one rank of one strategy of one model. */
export interface Holding {
  readonly model: string;
  readonly strategy: Strategy;
  readonly rank: number;
}

/** Shards by model, strategy and rank; computed once, compared by key. */
export class ShardBook {
  readonly #models: ReadonlyMap<string, ModelSpec>;
  readonly #pieces = new Map<string, readonly Piece[]>();
  readonly #overlaps = new Map<string, number>();

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

  pieces({ model, strategy, rank }: Holding): readonly Piece[] {
    const key = `${model}:${strategyName(strategy)}#${rank}`;
    let pieces = this.#pieces.get(key);
    if (!pieces) {
      pieces = shardPieces(this.model(model), strategy, rank);
      this.#pieces.set(key, pieces);
    }
    return pieces;
  }

  bytes(holding: Holding): number {
    const model = this.model(holding.model);
    return this.pieces(holding).reduce((sum, piece) => sum + pieceBytes(model, piece), 0);
  }

  /** Bytes that both hold; 0 for different models. */
  overlap(a: Holding, b: Holding): number {
    if (a.model !== b.model) return 0;
    const key = `${a.model}:${strategyName(a.strategy)}#${a.rank}|${strategyName(b.strategy)}#${b.rank}`;
    let bytes = this.#overlaps.get(key);
    if (bytes === undefined) {
      bytes = overlapBytes(this.model(a.model), this.pieces(a), this.pieces(b));
      this.#overlaps.set(key, bytes);
    }
    return bytes;
  }
}

/** What each GPU of these replicas holds. */
export function holdingByGpu(replicas: readonly PlacedReplica[]): Map<number, Holding> {
  const holdings = new Map<number, Holding>();
  for (const { model, strategy, gpus } of replicas) {
    gpus.forEach((gpu, rank) => {
      holdings.set(gpu, { model, strategy, rank });
    });
  }
  return holdings;
}
