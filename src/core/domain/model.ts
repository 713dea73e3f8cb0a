// Dense decoder-only transformers: the few numbers that weights, KV cache and step times follow from.
import { ConfigError } from './errors.ts';

export interface ModelSpec {
  readonly name: string;
  readonly layerCount: number;
  readonly hiddenSize: number;
  readonly headCount: number;
  readonly kvHeadCount: number;
  readonly headDim: number;
  readonly intermediateSize: number;
  /** Gated MLP (gate, up, down: 3 matrices) or plain (2 matrices). */
  readonly gatedMlp: boolean;
  readonly vocabularySize: number;
  readonly tiedEmbeddings: boolean;
  /** Linear layers carry biases (OPT). */
  readonly biases: boolean;
  /** Rows of a learned position table (OPT: 2050), 0 for rotary positions. */
  readonly positionTableRows: number;
  readonly bytesPerParameter: number;
  /** Longest input + output of one request, tokens. */
  readonly maxModelLen: number;
}

/** "Position limit lifted for replay": the Azure trace has prompts beyond LLaMA2's 4096 positions. */
export const REPLAY_MAX_MODEL_LEN = 16384;

const llama = (
  name: string,
  layerCount: number,
  hiddenSize: number,
  headCount: number,
  kvHeadCount: number,
  intermediateSize: number,
  vocabularySize: number,
): ModelSpec => ({
  name,
  layerCount,
  hiddenSize,
  headCount,
  kvHeadCount,
  headDim: hiddenSize / headCount,
  intermediateSize,
  gatedMlp: true,
  vocabularySize,
  tiedEmbeddings: false,
  biases: false,
  positionTableRows: 0,
  bytesPerParameter: 2,
  maxModelLen: REPLAY_MAX_MODEL_LEN,
});

const opt = (name: string, layerCount: number, hiddenSize: number, headCount: number): ModelSpec => ({
  name,
  layerCount,
  hiddenSize,
  headCount,
  kvHeadCount: headCount,
  headDim: hiddenSize / headCount,
  intermediateSize: 4 * hiddenSize,
  gatedMlp: false,
  vocabularySize: 50272,
  tiedEmbeddings: true,
  biases: true,
  positionTableRows: 2050,
  bytesPerParameter: 2,
  maxModelLen: REPLAY_MAX_MODEL_LEN,
});

/** Sources: the models' published config.json files. */
export const MODELS: readonly ModelSpec[] = [
  opt('opt-30b', 48, 7168, 56),
  opt('opt-66b', 64, 9216, 72),
  llama('llama-30b', 60, 6656, 52, 52, 17920, 32000),
  llama('llama2-70b', 80, 8192, 64, 8, 28672, 32000),
  llama('llama3-8b', 32, 4096, 32, 8, 14336, 128256),
  llama('llama3-70b', 80, 8192, 64, 8, 28672, 128256),
];

/** Finds a model by name; case, dots and dashes do not matter ("Llama-3-70B" is "llama3-70b"). */
export function modelByName(name: string): ModelSpec {
  const plain = (text: string) => text.toLowerCase().replace(/[^a-z0-9]/g, '');
  const model = MODELS.find((candidate) => plain(candidate.name) === plain(name));
  if (!model) {
    throw new ConfigError(`Unknown model "${name}".`, {
      hint: `Known models: ${MODELS.map((m) => m.name).join(', ')}; or give a Hugging Face config.json in the configuration.`,
    });
  }
  return model;
}

/**
 * Reads a dense decoder from its Hugging Face config.json (Llama, Mistral, Qwen2/3 and OPT families).
 *
 * @throws {@link ConfigError} naming the missing field, or the feature that a dense decoder does not have.
 */
export function modelFromHuggingFace(name: string, config: Readonly<Record<string, unknown>>): ModelSpec {
  const number = (...keys: string[]): number => {
    for (const key of keys) {
      const value = config[key];
      if (typeof value === 'number' && Number.isFinite(value) && value > 0) return value;
    }
    throw new ConfigError(`config.json of ${name} has no positive number "${keys[0]}".`, {
      hint: 'Give the config.json of a dense decoder.',
    });
  };
  for (const key of ['num_local_experts', 'num_experts', 'n_routed_experts']) {
    if (typeof config[key] === 'number' && config[key] > 1) {
      throw new ConfigError(
        `${name} is a mixture of experts (${key} = ${config[key]}); oserve handles dense decoders.`,
      );
    }
  }
  const isOpt = config.model_type === 'opt';
  const hiddenSize = number('hidden_size');
  const headCount = number('num_attention_heads');
  const dtype = String(config.torch_dtype ?? config.dtype ?? 'bfloat16');
  return {
    name,
    layerCount: number('num_hidden_layers'),
    hiddenSize,
    headCount,
    kvHeadCount: config.num_key_value_heads == null ? headCount : number('num_key_value_heads'),
    headDim: config.head_dim == null ? hiddenSize / headCount : number('head_dim'),
    intermediateSize: number('intermediate_size', 'ffn_dim'),
    gatedMlp: !isOpt,
    vocabularySize: number('vocab_size'),
    tiedEmbeddings: config.tie_word_embeddings === true || (isOpt && config.tie_word_embeddings !== false),
    biases: isOpt,
    positionTableRows: isOpt ? number('max_position_embeddings') + 2 : 0,
    bytesPerParameter: dtype === 'float32' ? 4 : 2,
    maxModelLen: number('max_position_embeddings'),
  };
}

/** Parameters of one transformer layer: attention, MLP and norms. */
export function layerParameterCount(model: ModelSpec): number {
  const { hiddenSize, headCount, kvHeadCount, headDim, intermediateSize, gatedMlp, biases } = model;
  const queryAndOutput = 2 * hiddenSize * headCount * headDim;
  const keyAndValue = 2 * hiddenSize * kvHeadCount * headDim;
  const mlp = (gatedMlp ? 3 : 2) * hiddenSize * intermediateSize;
  const bias = biases
    ? headCount * headDim + 2 * kvHeadCount * headDim + hiddenSize + intermediateSize + hiddenSize
    : 0;
  const norms = (biases ? 4 : 2) * hiddenSize;
  return queryAndOutput + keyAndValue + mlp + bias + norms;
}

/** Parameters outside the layers: embeddings, output head (unless tied), position table, final norm. */
export function outerParameterCount(model: ModelSpec): number {
  const embedding = model.vocabularySize * model.hiddenSize;
  return (
    embedding * (model.tiedEmbeddings ? 1 : 2) +
    model.positionTableRows * model.hiddenSize +
    (model.biases ? 2 : 1) * model.hiddenSize
  );
}

/** Bytes of all weights, once. */
export const weightBytes = (model: ModelSpec): number =>
  (model.layerCount * layerParameterCount(model) + outerParameterCount(model)) * model.bytesPerParameter;

/** KV cache of one token over all layers, bytes. */
export const kvBytesPerToken = (model: ModelSpec): number =>
  2 * model.layerCount * model.kvHeadCount * model.headDim * model.bytesPerParameter;
