// The deployment at the start of a pool when the configuration names none: nothing is known of the traffic yet.
import {
  type Cluster,
  ConfigError,
  canonicalDeployment,
  type Deployment,
  type EngineOptions,
  gpuKind,
  gpusOf,
  type ModelSpec,
  nodeIndexByGpu,
  replicaMemory,
  type Strategy,
  strategyName,
} from '../../core/domain/index.ts';

export interface InitialDeploymentInput {
  readonly cluster: Cluster;
  readonly models: readonly { readonly spec: ModelSpec }[];
  readonly parkedPlaces: readonly {
    readonly model: string;
    readonly strategy: Strategy;
    readonly gpus: readonly number[];
  }[];
  readonly config: { readonly engine: EngineOptions };
}

/**
 * Nodes are dealt out to the models in turn; on each, the smallest replicas that hold the model's full length, side by
 * side (the longest ones where none does).
 *
 * @throws {@link ConfigError} when there are more models than nodes: sharing a node has to be asked for.
 */
export function initialDeployment({ cluster, models, parkedPlaces, config }: InitialDeploymentInput): Deployment {
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
