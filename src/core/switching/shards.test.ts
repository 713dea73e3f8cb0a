import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  gpusOf,
  illegalBecause,
  layersByStage,
  MODELS,
  type ModelSpec,
  modelByName,
  paddedVocabulary,
  type Strategy,
  strategyName,
  weightBytes,
  weightBytesByStage,
} from '../domain/index.ts';
import { overlapBytes, pieceBytes, shardBoxes, shardPieces } from './shards.ts';

const strategies: Strategy[] = [1, 2, 4, 8, 16].flatMap((tensorParallel) =>
  [1, 2, 3, 4].map((pipelineParallel) => ({ tensorParallel, pipelineParallel })),
);
/** A small model of the same build, so that every entry can be counted. */
const small = (like: string, vocabularySize: number): ModelSpec => ({
  ...modelByName(like),
  name: `small-${like}`,
  layerCount: 5,
  hiddenSize: 16,
  headCount: 16,
  kvHeadCount: like.startsWith('opt') ? 16 : 4,
  headDim: 2,
  intermediateSize: 32,
  vocabularySize,
  positionTableRows: like.startsWith('opt') ? 6 : 0,
});
const ranks = (strategy: Strategy) => Array.from({ length: gpusOf(strategy) }, (_, rank) => rank);

/** How often each entry of each checkpoint tensor is held, over the ranks given; shapes as in the checkpoint. */
function coverage(model: ModelSpec, strategy: Strategy, of: readonly number[]) {
  const whole = new Map<string, { shape: number[]; counts: Uint8Array }>();
  for (const { tensor, shape } of shardBoxes(model, { tensorParallel: 1, pipelineParallel: 1 }, 0)) {
    whole.set(tensor, { shape: [...shape], counts: new Uint8Array(shape.reduce((a, b) => a * b, 1)) });
  }
  for (const rank of of) {
    for (const { tensor, start, shape } of shardBoxes(model, strategy, rank)) {
      const { shape: full, counts } = whole.get(tensor)!;
      const [rows, columns] = [shape[0]!, shape[1] ?? 1];
      for (let i = 0; i < rows; i++) {
        for (let j = 0; j < columns; j++) {
          counts[(start[0]! + i) * (full[1] ?? 1) + (start[1] ?? 0) + j]!++;
        }
      }
    }
  }
  return whole;
}

test.each(['llama2-70b', 'opt-30b'])(
  'the boxes of all ranks of %s cover each tensor, and replicas are whole',
  (like) => {
    fc.assert(
      fc.property(fc.constantFrom(...strategies), fc.integer({ min: 40, max: 200 }), (strategy, vocabulary) => {
        const model = small(like, vocabulary);
        if (illegalBecause(model, strategy)) return;
        const { tensorParallel, pipelineParallel } = strategy;
        for (const [tensor, { counts }] of coverage(model, strategy, ranks(strategy))) {
          const onTwoStages = model.tiedEmbeddings && pipelineParallel > 1 && tensor.includes('embed_tokens');
          const isWhole = /norm|embed_positions|out_proj\.bias|fc2\.bias/.test(tensor);
          const copies = isWhole
            ? tensorParallel
            : /[kv]_proj/.test(tensor)
              ? Math.max(1, tensorParallel / model.kvHeadCount)
              : onTwoStages
                ? 2
                : 1;
          expect([...new Set(counts)], `${tensor} under ${strategyName(strategy)}`).toEqual([copies]);
        }
        // No rank holds an entry twice.
        for (const rank of ranks(strategy)) {
          for (const { counts } of coverage(model, strategy, [rank]).values()) {
            expect(counts.every((count) => count <= 1)).toBe(true);
          }
        }
      }),
      { numRuns: 60 },
    );
  },
);

test('one rank of TP1 holds exactly the checkpoint', () => {
  for (const model of MODELS) {
    const boxes = shardBoxes(model, { tensorParallel: 1, pipelineParallel: 1 }, 0);
    expect(boxes.reduce((sum, { bytes }) => sum + bytes, 0)).toBe(weightBytes(model));
    expect(new Set(boxes.map(({ tensor }) => tensor)).size).toBe(boxes.length);
  }
});

test('ranks hold what the memory model reckons, within padding and the vectors that every rank holds whole', () => {
  for (const model of MODELS) {
    for (const strategy of strategies) {
      if (illegalBecause(model, strategy)) continue;
      const { tensorParallel: tp, pipelineParallel } = strategy;
      const reckoned = weightBytesByStage(model, strategy);
      const layers = layersByStage(model.layerCount, pipelineParallel);
      const padding = paddedVocabulary(model.vocabularySize, tp) - model.vocabularySize;
      for (const rank of ranks(strategy)) {
        const stage = Math.floor(rank / tp);
        const held = shardPieces(model, strategy, rank).reduce((sum, piece) => sum + pieceBytes(model, piece), 0);
        // Padded vocabulary rows on embeddings and head; biases of row-parallel layers, whole on every rank.
        const paddedRows = Math.min(padding, paddedVocabulary(model.vocabularySize, tp) / tp);
        const vectors = model.biases ? 4 * layers[stage]! + 1 : 0;
        const slack = (2 * paddedRows + vectors) * model.hiddenSize * model.bytesPerParameter;
        expect(Math.abs(reckoned[stage]! - held)).toBeLessThanOrEqual(slack);
      }
    }
  }
});

test('checkpoint names and boxes are those of the published checkpoints', () => {
  const llama = shardBoxes(modelByName('llama2-70b'), { tensorParallel: 4, pipelineParallel: 2 }, 4 + 1);
  const find = (tensor: string) => llama.find((box) => box.tensor === tensor);
  expect(find('model.layers.40.self_attn.q_proj.weight')).toMatchObject({ start: [2048, 0], shape: [2048, 8192] });
  expect(find('model.layers.40.self_attn.k_proj.weight')).toMatchObject({ start: [256, 0], shape: [256, 8192] });
  expect(find('model.layers.79.self_attn.o_proj.weight')).toMatchObject({ start: [0, 2048], shape: [8192, 2048] });
  expect(find('model.layers.79.mlp.down_proj.weight')).toMatchObject({ start: [0, 7168], shape: [8192, 7168] });
  expect(find('lm_head.weight')).toMatchObject({ start: [8000, 0], shape: [8000, 8192] });
  expect(find('model.norm.weight')).toMatchObject({ start: [0], shape: [8192] });
  expect(find('model.embed_tokens.weight')).toBeUndefined();
  expect(find('model.layers.39.self_attn.q_proj.weight')).toBeUndefined();
  const opt = shardBoxes(modelByName('opt-66b'), { tensorParallel: 8, pipelineParallel: 1 }, 3);
  const names = opt.map(({ tensor }) => tensor);
  for (const name of [
    'model.decoder.embed_tokens.weight',
    'model.decoder.embed_positions.weight',
    'model.decoder.layers.63.self_attn.out_proj.bias',
    'model.decoder.layers.63.fc1.bias',
    'model.decoder.final_layer_norm.bias',
  ]) {
    expect(names).toContain(name);
  }
});

test('overlap in pieces is overlap in boxes', () => {
  const model = small('llama2-70b', 101);
  const legal = strategies.filter((strategy) => !illegalBecause(model, strategy));
  const rankOf = fc
    .constantFrom(...legal)
    .chain((strategy) => fc.tuple(fc.constant(strategy), fc.nat(gpusOf(strategy) - 1)));
  fc.assert(
    fc.property(rankOf, rankOf, ([a, rankA], [b, rankB]) => {
      let bytes = 0;
      for (const x of shardBoxes(model, a, rankA)) {
        for (const y of shardBoxes(model, b, rankB)) {
          if (x.tensor !== y.tensor) continue;
          let common = model.bytesPerParameter;
          x.shape.forEach((n, i) => {
            const start = Math.max(x.start[i]!, y.start[i]!);
            common *= Math.max(0, Math.min(x.start[i]! + n, y.start[i]! + y.shape[i]!) - start);
          });
          bytes += common;
        }
      }
      expect(overlapBytes(model, shardPieces(model, a, rankA), shardPieces(model, b, rankB))).toBe(bytes);
    }),
    { numRuns: 50 },
  );
});
