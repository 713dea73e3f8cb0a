// From settings to the values that the core works with: the cluster, the models and the costs of a switch.
import { readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import {
  type Cluster,
  ConfigError,
  type Deployment,
  type EngineOptions,
  firstGpuByNode,
  gpuKind,
  gpusOf,
  illegalBecause,
  type ModelSpec,
  modelByName,
  modelFromHuggingFace,
  parseDeployment,
  replicaMemory,
  type Slo,
  type Strategy,
  type SwitchCosts,
} from '../../core/domain/index.ts';
import type { GeneratorOptions } from '../traces/index.ts';
import type { Config } from './schema.ts';

/** One model of the pool with what was asked for it. */
export interface ConfiguredModel {
  readonly spec: ModelSpec;
  readonly slo: Slo;
  readonly minReplicas: number;
  readonly maxReplicas: number | null;
  /** Replicas that every deployment keeps; empty when none are pinned. */
  readonly pinned: Deployment;
  readonly priority: number;
}

/** Nodes are named `node-0`, `node-1`, … over all groups. */
export function clusterOf(config: Config): Cluster {
  const nodes = config.cluster.nodes.flatMap((group) =>
    Array.from({ length: group.count }, () => ({
      gpuKind: gpuKind(group.gpuKind).name,
      gpuCount: group.gpusPerNode,
      networkBytesPerSecond: group.networkBytesPerSecond,
    })),
  );
  return { nodes: nodes.map((node, index) => ({ name: `node-${index}`, ...node })) };
}

/** What a deployment means where its notation leaves model or GPU kind out. */
export const notationDefaults = (cluster: Cluster, models: readonly ConfiguredModel[]) => ({
  model: models[0]!.spec.name,
  gpuKind: cluster.nodes[0]!.gpuKind,
});

/** @param baseDirectory - what relative file names are resolved against. */
export function modelsOf(config: Config, cluster: Cluster, baseDirectory: string): ConfiguredModel[] {
  return config.models.map((model) => {
    const built =
      model.configFile === null
        ? modelByName(model.name)
        : readModel(model.name, resolve(baseDirectory, model.configFile));
    const spec = model.maxModelLen === null ? built : { ...built, maxModelLen: model.maxModelLen };
    const defaults = { model: spec.name, gpuKind: cluster.nodes[0]!.gpuKind };
    return {
      spec,
      slo: model.slo,
      minReplicas: model.minReplicas,
      maxReplicas: model.maxReplicas,
      pinned: model.pinned === null ? [] : parseDeployment(model.pinned, defaults),
      priority: model.priority,
    };
  });
}

function readModel(name: string, file: string): ModelSpec {
  let content: unknown;
  try {
    content = JSON.parse(readFileSync(file, 'utf8'));
  } catch (cause) {
    throw new ConfigError(`Cannot read the model of "${name}" from ${file}: ${(cause as Error).message}.`, {
      hint: 'configFile names the Hugging Face config.json of a dense decoder, relative to the configuration file.',
      cause,
    });
  }
  if (typeof content !== 'object' || content === null || Array.isArray(content)) {
    throw new ConfigError(`${file} holds no JSON object; expected the config.json of a model.`);
  }
  return modelFromHuggingFace(name, content as Record<string, unknown>);
}

/** Where one parked engine waits: bound to its GPUs and its layout. */
export interface ParkedPlace {
  readonly model: string;
  readonly strategy: Strategy;
  readonly gpus: readonly number[];
}

const TENSOR_PARALLEL = [8, 4, 2, 1] as const;
/** Replicas that hold less are not worth their GPUs; the search for deployments draws the same line. */
const LEAST_MODEL_LEN = 2048;
const LAYOUT = /^(?:([^:]+):)?TP(\d+)(?:PP(\d+))?$/i;

/** The layouts of `switching.parkedLayouts`; with null the tensor-parallel ones that fit into a node and hold weights. */
function parkedStrategies(config: Config, cluster: Cluster, models: readonly ConfiguredModel[]): ParkedLayoutName[] {
  const { parkedLayouts } = config.switching;
  if (parkedLayouts === null) {
    const largest = Math.max(...cluster.nodes.map((node) => node.gpuCount));
    const sizes = TENSOR_PARALLEL.filter((size) => size <= largest);
    const reserve = (sizes.length * models.length - 1) * config.switching.parkedBytesPerLayout;
    return models.flatMap(({ spec }) =>
      sizes
        .map((tensorParallel) => ({ model: spec.name, strategy: { tensorParallel, pipelineParallel: 1 } }))
        .filter(({ strategy }) => isUseful(spec, strategy, cluster, config.engine, reserve)),
    );
  }
  return parkedLayouts.map((text) => {
    const match = LAYOUT.exec(text.trim());
    if (!match) {
      throw new ConfigError(`Cannot read the layout "${text}" in switching.parkedLayouts.`, {
        hint: 'Write [MODEL:]TPa[PPb], for example TP4 or llama2-70b:TP2PP2.',
      });
    }
    const strategy = { tensorParallel: Number(match[2]), pipelineParallel: Number(match[3] ?? 1) };
    const model = findModel(models, match[1] ?? models[0]!.spec.name, 'switching.parkedLayouts');
    const illegal = illegalBecause(model.spec, strategy);
    if (illegal) throw new ConfigError(`switching.parkedLayouts has ${text}, but ${illegal}.`);
    return { model: model.spec.name, strategy };
  });
}

interface ParkedLayoutName {
  readonly model: string;
  readonly strategy: Strategy;
}

/** A legal layout that, on some node of the cluster, leaves room for a request worth its GPUs. */
const isUseful = (
  spec: ModelSpec,
  strategy: Strategy,
  cluster: Cluster,
  engine: EngineOptions,
  reserve: number,
): boolean =>
  illegalBecause(spec, strategy) === null &&
  cluster.nodes.some(
    (node) =>
      node.gpuCount >= gpusOf(strategy) &&
      replicaMemory(spec, strategy, gpuKind(node.gpuKind), engine, reserve).maxModelLen >=
        Math.min(LEAST_MODEL_LEN, spec.maxModelLen),
  );

export function findModel(models: readonly ConfiguredModel[], name: string, where: string): ConfiguredModel {
  const model = models.find((candidate) => candidate.spec.name === name);
  if (model) return model;
  throw new ConfigError(`${where} names the model "${name}", which is not in models.`, {
    hint: `Models of this configuration: ${models.map(({ spec }) => spec.name).join(', ')}.`,
  });
}

/** Every parked engine of the pool: each layout once on each aligned group of GPUs of its size, inside one node. */
export function parkedPlacesOf(config: Config, cluster: Cluster, models: readonly ConfiguredModel[]): ParkedPlace[] {
  const places: ParkedPlace[] = [];
  const firstGpus = firstGpuByNode(cluster);
  for (const { model, strategy } of parkedStrategies(config, cluster, models)) {
    const size = gpusOf(strategy);
    cluster.nodes.forEach((node, index) => {
      for (let offset = 0; offset + size <= node.gpuCount; offset += size) {
        const first = firstGpus[index]! + offset;
        places.push({ model, strategy, gpus: Array.from({ length: size }, (_, i) => first + i) });
      }
    });
  }
  return places;
}

export const switchCostsOf = ({ switching }: Config): SwitchCosts => ({
  wakeSeconds: switching.wakeSeconds,
  parkSeconds: switching.parkSeconds,
  newProcessSeconds: switching.newProcessSeconds,
  coldSeconds: switching.coldSeconds,
  verifySeconds: switching.verifySeconds,
  drainSeconds: switching.drainSeconds,
  parkedBytesPerLayout: switching.parkedBytesPerLayout,
});

/** What `generateRequests` needs to make the traffic of `traffic.source: generated`. */
export const generatorOptionsOf = ({ traffic }: Pick<Config, 'traffic'>): GeneratorOptions => ({
  seed: traffic.seed,
  ratePerSecond: traffic.ratePerSecond * traffic.rateScale,
  from: traffic.from,
  to: traffic.to,
  periodMinutes: traffic.driftSeconds / 60,
  variation: traffic.variation,
});

/** The trace file of `traffic.source`, resolved; null for `none` and `generated`. */
export function trafficFile(config: Config, baseDirectory: string): string | null {
  const { source } = config.traffic;
  return source === 'none' || source === 'generated' ? null : resolve(baseDirectory, source);
}

export const baseDirectoryOf = (file: string | null): string =>
  file === null ? process.cwd() : dirname(resolve(file));
