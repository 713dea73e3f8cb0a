// Which part of the checkpoint each rank of a strategy holds, in the checkpoint's own name space (Hugging Face names),
// as vLLM cuts it. A part is an axis-aligned box of a tensor.
//
// Layers are alike, and so are tensors that are cut alike: q_proj and o_proj go by heads, k_proj and v_proj by key/value
// heads, the MLP by its rows. Such tensors form a group, and a piece is a range of layers × a range of units of a group:
//
//        units (heads, rows, …) ─►          TP4 slice 2 of stage 0 of PP2, of the heads of llama2-70b:
//   layers ┌────┬────┬────┬────┐            layers [0, 40) × heads [32, 48)
//     │    │    │    │####│    │
//     ▼    ├────┼────┼────┼────┤            Planning counts in pieces (about ten a rank instead of 560 boxes) and stays
//          │    │    │    │    │            exact: boxesOf() spells out the boxes of a piece.
//          └────┴────┴────┴────┘
import { invariant, layersByStage, type ModelSpec, paddedVocabulary, type Strategy } from '../domain/index.ts';

/** A box of one checkpoint tensor: [start, start + shape) along each axis. */
export interface Box {
  readonly tensor: string;
  readonly start: readonly number[];
  readonly shape: readonly number[];
  readonly bytes: number;
}

/** Layers [layerStart, layerEnd) × units [unitStart, unitEnd) of the group with this index in {@link tensorGroups}. */
export interface Piece {
  readonly group: number;
  readonly layerStart: number;
  readonly layerEnd: number;
  readonly unitStart: number;
  readonly unitEnd: number;
}

type Cut = 'heads' | 'kv-heads' | 'even' | 'vocabulary' | 'replicated';

interface GroupTensor {
  /** `{layer}` stands for the number of the layer. */
  readonly name: string;
  readonly shape: readonly number[];
  /** The axis that is cut; the others are whole. */
  readonly axis: number;
  /** Entries along that axis per unit. */
  readonly entriesPerUnit: number;
}

export interface TensorGroup {
  readonly cut: Cut;
  /** On every stage for its layers, on the first or last stage, or on both (embeddings that are the output head too). */
  readonly stages: 'layers' | 'first' | 'last' | 'first-and-last';
  readonly layerCount: number;
  readonly unitCount: number;
  /** Of one layer. */
  readonly bytesPerUnit: number;
  readonly tensors: readonly GroupTensor[];
}

const groupsOfModel = new WeakMap<ModelSpec, readonly TensorGroup[]>();

/** All tensors of a dense decoder (Llama's names, or OPT's where linear layers have biases), each in one group. */
export function tensorGroups(model: ModelSpec): readonly TensorGroup[] {
  let groups = groupsOfModel.get(model);
  if (!groups) {
    groups = makeGroups(model);
    groupsOfModel.set(model, groups);
  }
  return groups;
}

function makeGroups(model: ModelSpec): TensorGroup[] {
  const { hiddenSize, headCount, kvHeadCount, headDim, intermediateSize, vocabularySize, layerCount } = model;
  const isOpt = model.biases;
  const root = isOpt ? 'model.decoder.' : 'model.';
  const layer = `${root}layers.{layer}.`;
  const rows = (name: string, count: number, columns: number, entriesPerUnit: number): GroupTensor[] => [
    { name: `${name}.weight`, shape: [count, columns], axis: 0, entriesPerUnit },
    ...(isOpt ? [{ name: `${name}.bias`, shape: [count], axis: 0, entriesPerUnit }] : []),
  ];
  const columns = (name: string, count: number, entriesPerUnit: number): GroupTensor => ({
    name: `${name}.weight`,
    shape: [hiddenSize, count],
    axis: 1,
    entriesPerUnit,
  });
  const vector = (name: string): GroupTensor => ({ name, shape: [hiddenSize], axis: 0, entriesPerUnit: hiddenSize });
  const norm = (name: string): GroupTensor[] =>
    isOpt ? [vector(`${name}.weight`), vector(`${name}.bias`)] : [vector(`${name}.weight`)];

  const attention = `${layer}self_attn.`;
  const output = isOpt ? 'out_proj' : 'o_proj';
  const mlp = isOpt
    ? [...rows(`${layer}fc1`, intermediateSize, hiddenSize, 1), columns(`${layer}fc2`, intermediateSize, 1)]
    : [
        ...(model.gatedMlp ? rows(`${layer}mlp.gate_proj`, intermediateSize, hiddenSize, 1) : []),
        ...rows(`${layer}mlp.up_proj`, intermediateSize, hiddenSize, 1),
        columns(`${layer}mlp.down_proj`, intermediateSize, 1),
      ];
  const wholePerLayer = isOpt
    ? [
        ...norm(`${layer}self_attn_layer_norm`),
        ...norm(`${layer}final_layer_norm`),
        vector(`${attention}out_proj.bias`),
        vector(`${layer}fc2.bias`),
      ]
    : [...norm(`${layer}input_layernorm`), ...norm(`${layer}post_attention_layernorm`)];
  const vocabulary = (name: string): GroupTensor => ({
    name,
    shape: [vocabularySize, hiddenSize],
    axis: 0,
    entriesPerUnit: 1,
  });

  const group = (
    cut: Cut,
    stages: TensorGroup['stages'],
    unitCount: number,
    tensors: readonly GroupTensor[],
  ): TensorGroup => {
    const parameters = tensors.reduce((sum, { shape }) => sum + shape.reduce((product, n) => product * n, 1), 0);
    return {
      cut,
      stages,
      layerCount: stages === 'layers' ? layerCount : 1,
      unitCount,
      bytesPerUnit: (parameters / unitCount) * model.bytesPerParameter,
      tensors,
    };
  };
  const groups = [
    group('heads', 'layers', headCount, [
      ...rows(`${attention}q_proj`, headCount * headDim, hiddenSize, headDim),
      columns(`${attention}${output}`, headCount * headDim, headDim),
    ]),
    group('kv-heads', 'layers', kvHeadCount, [
      ...rows(`${attention}k_proj`, kvHeadCount * headDim, hiddenSize, headDim),
      ...rows(`${attention}v_proj`, kvHeadCount * headDim, hiddenSize, headDim),
    ]),
    group('even', 'layers', intermediateSize, mlp),
    group('replicated', 'layers', 1, wholePerLayer),
    group('vocabulary', model.tiedEmbeddings ? 'first-and-last' : 'first', vocabularySize, [
      vocabulary(`${root}embed_tokens.weight`),
    ]),
    group('replicated', 'last', 1, norm(isOpt ? `${root}final_layer_norm` : `${root}norm`)),
  ];
  if (!model.tiedEmbeddings) groups.push(group('vocabulary', 'last', vocabularySize, [vocabulary('lm_head.weight')]));
  if (model.positionTableRows > 0) {
    const table = { name: `${root}embed_positions.weight`, shape: [model.positionTableRows, hiddenSize], axis: 0 };
    groups.push(group('replicated', 'first', 1, [{ ...table, entriesPerUnit: model.positionTableRows }]));
  }
  return groups;
}

/** Units of a group that slice `t` of `tensorParallel` holds. */
function unitsOfSlice({ cut, unitCount }: TensorGroup, tensorParallel: number, t: number): [number, number] {
  switch (cut) {
    case 'heads':
    case 'even':
      return [(unitCount / tensorParallel) * t, (unitCount / tensorParallel) * (t + 1)];
    case 'kv-heads': {
      // Fewer heads than slices: neighbouring slices hold the same head.
      if (unitCount < tensorParallel) {
        const head = Math.floor(t / (tensorParallel / unitCount));
        return [head, head + 1];
      }
      return [(unitCount / tensorParallel) * t, (unitCount / tensorParallel) * (t + 1)];
    }
    case 'vocabulary': {
      // Padding rows have no checkpoint data; the last slices may hold little, or nothing.
      const perSlice = paddedVocabulary(unitCount, tensorParallel) / tensorParallel;
      return [Math.min(unitCount, perSlice * t), Math.min(unitCount, perSlice * (t + 1))];
    }
    case 'replicated':
      return [0, 1];
  }
}

/**
 * What a rank holds, in pieces that do not overlap.
 *
 * @param rank - p × tensorParallel + t.
 */
export function shardPieces(model: ModelSpec, { tensorParallel, pipelineParallel }: Strategy, rank: number): Piece[] {
  const stage = Math.floor(rank / tensorParallel);
  invariant(rank >= 0 && stage < pipelineParallel, `rank ${rank} exists`);
  const layers = layersByStage(model.layerCount, pipelineParallel);
  const firstLayer = layers.slice(0, stage).reduce((sum, count) => sum + count, 0);
  const pieces: Piece[] = [];
  tensorGroups(model).forEach((group, index) => {
    const inLayers = group.stages === 'layers';
    const onFirst = group.stages === 'first' || group.stages === 'first-and-last';
    const onLast = group.stages === 'last' || group.stages === 'first-and-last';
    if (!inLayers && !(onFirst && stage === 0) && !(onLast && stage === pipelineParallel - 1)) return;
    const [unitStart, unitEnd] = unitsOfSlice(group, tensorParallel, rank % tensorParallel);
    const [layerStart, layerEnd] = inLayers ? [firstLayer, firstLayer + layers[stage]!] : [0, 1];
    if (unitEnd > unitStart) pieces.push({ group: index, layerStart, layerEnd, unitStart, unitEnd });
  });
  return pieces;
}

export const pieceBytes = (model: ModelSpec, piece: Piece): number =>
  (piece.layerEnd - piece.layerStart) *
  (piece.unitEnd - piece.unitStart) *
  tensorGroups(model)[piece.group]!.bytesPerUnit;

/** Bytes that two lists of pieces of one model have in common; pieces within a list do not overlap. */
export function overlapBytes(model: ModelSpec, a: readonly Piece[], b: readonly Piece[]): number {
  const groups = tensorGroups(model);
  let bytes = 0;
  for (const p of a) {
    for (const q of b) {
      if (p.group !== q.group) continue;
      const layers = Math.min(p.layerEnd, q.layerEnd) - Math.max(p.layerStart, q.layerStart);
      const units = Math.min(p.unitEnd, q.unitEnd) - Math.max(p.unitStart, q.unitStart);
      if (layers > 0 && units > 0) bytes += layers * units * groups[p.group]!.bytesPerUnit;
    }
  }
  return bytes;
}

/** The boxes of a piece, tensor by tensor and layer by layer. */
export function boxesOf(model: ModelSpec, piece: Piece): Box[] {
  const { tensors } = tensorGroups(model)[piece.group]!;
  const boxes: Box[] = [];
  for (let layer = piece.layerStart; layer < piece.layerEnd; layer++) {
    for (const { name, shape, axis, entriesPerUnit } of tensors) {
      const start = shape.map((_, i) => (i === axis ? piece.unitStart * entriesPerUnit : 0));
      const extent = shape.map((n, i) => (i === axis ? (piece.unitEnd - piece.unitStart) * entriesPerUnit : n));
      boxes.push({
        tensor: name.replace('{layer}', String(layer)),
        start,
        shape: extent,
        bytes: extent.reduce((product, n) => product * n, 1) * model.bytesPerParameter,
      });
    }
  }
  return boxes;
}

/** Every box of every checkpoint tensor that a rank holds. */
export const shardBoxes = (model: ModelSpec, strategy: Strategy, rank: number): Box[] =>
  shardPieces(model, strategy, rank).flatMap((piece) => boxesOf(model, piece));
