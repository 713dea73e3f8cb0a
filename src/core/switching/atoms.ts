// The common refinement of several shardings of one model: the smallest pieces such that every shard in play is a union
// of them. Holders, needs and sources are then lists of small integers.
import type { ModelSpec } from '../domain/index.ts';
import { type Piece, pieceBytes, tensorGroups } from './shards.ts';

export class AtomSpace {
  readonly atoms: readonly Piece[];
  readonly bytes: Float64Array;
  /** Per group: cuts along layers and units, and the index of its first atom. */
  readonly #grids: readonly { layers: readonly number[]; units: readonly number[]; first: number }[];

  /**
   * @param shards - the shardings in play; every piece of them becomes a union of atoms.
   */
  constructor(model: ModelSpec, shards: Iterable<readonly Piece[]>) {
    const groups = tensorGroups(model);
    const layerCuts = groups.map(() => new Set<number>());
    const unitCuts = groups.map(() => new Set<number>());
    for (const pieces of shards) {
      for (const { group, layerStart, layerEnd, unitStart, unitEnd } of pieces) {
        layerCuts[group]!.add(layerStart).add(layerEnd);
        unitCuts[group]!.add(unitStart).add(unitEnd);
      }
    }
    const sorted = (cuts: Set<number>) => [...cuts].sort((a, b) => a - b);
    const atoms: Piece[] = [];
    this.#grids = groups.map((_, group) => {
      const [layers, units] = [sorted(layerCuts[group]!), sorted(unitCuts[group]!)];
      const first = atoms.length;
      for (let l = 0; l + 1 < layers.length; l++) {
        for (let u = 0; u + 1 < units.length; u++) {
          atoms.push({
            group,
            layerStart: layers[l]!,
            layerEnd: layers[l + 1]!,
            unitStart: units[u]!,
            unitEnd: units[u + 1]!,
          });
        }
      }
      return { layers, units, first };
    });
    this.atoms = atoms;
    this.bytes = Float64Array.from(atoms, (atom) => pieceBytes(model, atom));
  }

  /** Indices of the atoms that make up these pieces. */
  atomsOf(pieces: readonly Piece[]): Int32Array {
    const found: number[] = [];
    for (const { group, layerStart, layerEnd, unitStart, unitEnd } of pieces) {
      const { layers, units, first } = this.#grids[group]!;
      const width = units.length - 1;
      for (let l = layers.indexOf(layerStart); layers[l]! < layerEnd; l++) {
        for (let u = units.indexOf(unitStart); units[u]! < unitEnd; u++) found.push(first + l * width + u);
      }
    }
    return Int32Array.from(found);
  }
}
