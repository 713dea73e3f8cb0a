// The deployment at the start of a pool: the one that the configuration names, else one that holds every length, since
// nothing is known of the traffic yet.
import {
  type Cluster,
  ConfigError,
  canonicalDeployment,
  type Deployment,
  type EngineOptions,
  formatDeployment,
  formatGib,
  gpuKind,
  gpusOf,
  nodeIndexByGpu,
  parseDeployment,
  replicaMemory,
  type Strategy,
  strategyName,
} from '../../core/domain/index.ts';
import { type ConfiguredModel, notationDefaults, type ParkedPlace, parkedPerGpu } from '../config/index.ts';

export interface InitialDeploymentInput {
  readonly cluster: Cluster;
  readonly models: readonly ConfiguredModel[];
  readonly parkedPlaces: readonly ParkedPlace[];
  readonly config: {
    readonly engine: EngineOptions;
    readonly switching: { readonly initial: string | null; readonly parkedBytesPerLayout: number };
  };
}

/**
 * The deployment that a pool starts with.
 *
 * @throws {@link ConfigError} when one of its replicas does not fit its GPUs, with numbers.
 */
export function initialDeployment(input: InitialDeploymentInput): Deployment {
  const { cluster, models, config, parkedPlaces } = input;
  const { initial, parkedBytesPerLayout } = config.switching;
  if (initial === null) return roomiestDeployment(input);
  const deployment = parseDeployment(initial, notationDefaults(cluster, models));
  const reserve = Math.max(0, parkedPerGpu(parkedPlaces) - 1) * parkedBytesPerLayout;
  for (const group of deployment) {
    const { spec } = models.find((model) => model.spec.name === group.model) ?? {};
    if (!spec) throw new ConfigError(`switching.initial names ${group.model}, which is not among the models.`);
    const kind = gpuKind(group.gpuKind);
    const { weightBytes, kvTokens } = replicaMemory(spec, group.strategy, kind, config.engine, reserve);
    if (kvTokens > 0) continue;
    throw new ConfigError(
      `switching.initial has ${formatDeployment([group])}, which does not fit: ${formatGib(weightBytes)} of weights on a ${kind.name} of ${formatGib(kind.memoryBytes)} leave no room for a KV cache.`,
      { hint: 'Give its replicas more GPUs, or park fewer layouts.' },
    );
  }
  return deployment;
}

/**
 * Nodes are dealt out to the models in turn; on each, the smallest replicas that hold the model's full length, side by
 * side (the longest ones where none does).
 *
 * @throws {@link ConfigError} when there are more models than nodes: sharing a node has to be asked for.
 */
function roomiestDeployment({ cluster, models, parkedPlaces, config }: InitialDeploymentInput): Deployment {
  if (models.length > cluster.nodes.length) {
    throw new ConfigError(`${models.length} models on ${cluster.nodes.length} node(s): the start is not obvious.`, {
      hint: 'Give switching.initial, for example "llama3-8b:4xTP1,llama2-70b:1xTP4".',
    });
  }
  const nodeOf = nodeIndexByGpu(cluster);
  return canonicalDeployment(
    cluster.nodes.map((node, index) => {
      const { spec } = models[index % models.length]!;
      const lengthOf = (strategy: Strategy): number =>
        replicaMemory(spec, strategy, gpuKind(node.gpuKind), config.engine).maxModelLen;
      const places = parkedPlaces.filter((place) => place.model === spec.name && nodeOf[place.gpus[0]!] === index);
      const [best] = places
        .map(({ strategy }) => strategy)
        .sort((a, b) => lengthOf(b) - lengthOf(a) || gpusOf(a) - gpusOf(b) || b.tensorParallel - a.tensorParallel);
      if (!best) {
        throw new ConfigError(`No parked layout of ${spec.name} fits ${node.name}, so nothing can serve there.`, {
          hint: 'Extend switching.parkedLayouts, or give switching.initial.',
        });
      }
      const count = places.filter(({ strategy }) => strategyName(strategy) === strategyName(best)).length;
      return { model: spec.name, gpuKind: node.gpuKind, strategy: best, count };
    }),
  );
}
