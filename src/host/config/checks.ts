// Checks over several settings: what no single range can say. Each complaint carries the numbers it compared.
import {
  type Cluster,
  ConfigError,
  type Deployment,
  formatGib,
  gpuCountByKind,
  gpuKind,
  gpusOf,
  gpusUsed,
  illegalBecause,
  type ModelSpec,
  mostParkedBytes,
  mostParkedLayouts,
  parseDeployment,
  replicaMemory,
  type Strategy,
  strategyName,
} from '../../core/domain/index.ts';
import { type ConfiguredModel, findModel, notationDefaults, type ParkedPlace } from './resolve.ts';
import type { Config } from './schema.ts';

export interface Checked {
  readonly config: Config;
  readonly cluster: Cluster;
  readonly models: readonly ConfiguredModel[];
  readonly parkedPlaces: readonly ParkedPlace[];
}

/** @throws {@link ConfigError} at the first setting that contradicts another. */
export function checkAcrossSettings(checked: Checked): void {
  checkTicks(checked.config);
  checkPorts(checked.config);
  checkModelNames(checked);
  checkParkedMemory(checked);
  for (const model of checked.models) checkModelFits(checked, model);
  checkDeployments(checked);
}

function checkTicks({ control }: Config): void {
  if (control.fastTickSeconds > control.slowTickSeconds) {
    throw new ConfigError(
      `control.fastTickSeconds (${control.fastTickSeconds}) is longer than control.slowTickSeconds (${control.slowTickSeconds}).`,
      { hint: 'The fast tick refines what the slow tick decided: give it the shorter period.' },
    );
  }
}

function checkPorts({ gateway }: Config): void {
  if (gateway.port !== 0 && gateway.port === gateway.adminPort) {
    throw new ConfigError(`gateway.port and gateway.adminPort are both ${gateway.port}.`, {
      hint: 'Give them different ports, or let the admin interface take a free one with adminPort: 0.',
    });
  }
}

function checkModelNames({ models }: Checked): void {
  const seen = new Set<string>();
  for (const { spec } of models) {
    if (seen.has(spec.name)) throw new ConfigError(`models has "${spec.name}" twice.`, { hint: 'Names must differ.' });
    seen.add(spec.name);
  }
  for (const { spec, minReplicas, maxReplicas } of models) {
    if (maxReplicas !== null && maxReplicas < minReplicas) {
      throw new ConfigError(`${spec.name}: maxReplicas (${maxReplicas}) is below minReplicas (${minReplicas}).`);
    }
  }
}

/** Bytes per GPU that parked layouts take from the serving engine: all but the layout that serves. */
const parkedReserve = ({ config, parkedPlaces }: Checked): number =>
  mostParkedBytes(parkedPlaces, config.switching.parkedBytesPerLayout);

function checkParkedMemory(checked: Checked): void {
  const { engine, switching } = checked.config;
  const reserve = parkedReserve(checked);
  for (const node of checked.cluster.nodes) {
    const usable = gpuKind(node.gpuKind).memoryBytes * engine.memoryUtilisationShare - engine.activationBytes;
    if (reserve >= usable) {
      throw new ConfigError(
        `Parked layouts hold ${formatGib(reserve)} on each ${node.gpuKind} (${mostParkedLayouts(checked.parkedPlaces) + 1} layouts of ${formatGib(switching.parkedBytesPerLayout)}, one of them serving); an engine has ${formatGib(usable)}.`,
        { hint: 'List fewer switching.parkedLayouts or lower switching.parkedBytesPerLayout.' },
      );
    }
  }
}

/** Strategies inside one node, largest first. */
function* strategiesInside(gpuCount: number): Generator<Strategy> {
  for (let tensorParallel = gpuCount; tensorParallel >= 1; tensorParallel--) {
    for (let stages = Math.floor(gpuCount / tensorParallel); stages >= 1; stages--) {
      yield { tensorParallel, pipelineParallel: stages };
    }
  }
}

/** Some replica must hold the weights and one request of full length. */
function checkModelFits(checked: Checked, { spec }: ConfiguredModel): void {
  const reserve = parkedReserve(checked);
  let best = { maxModelLen: -1, weightBytes: 0, name: '', gpu: '', poolBytes: 0 };
  for (const node of checked.cluster.nodes) {
    for (const strategy of strategiesInside(node.gpuCount)) {
      if (illegalBecause(spec, strategy)) continue;
      const memory = replicaMemory(spec, strategy, gpuKind(node.gpuKind), checked.config.engine, reserve);
      if (memory.maxModelLen > best.maxModelLen) {
        best = {
          maxModelLen: memory.maxModelLen,
          weightBytes: memory.weightBytes,
          name: strategyName(strategy),
          gpu: node.gpuKind,
          poolBytes: memory.kvPoolBytes,
        };
      }
    }
  }
  if (best.maxModelLen < 0) throw new ConfigError(`${spec.name} has no legal layout on any node of the cluster.`);
  if (best.maxModelLen === 0) {
    throw new ConfigError(
      `${spec.name} does not fit: even ${best.name} on ${best.gpu} needs ${formatGib(best.weightBytes)} of weights on a GPU, which is ${formatGib(-best.poolBytes)} too much.`,
      { hint: 'Raise gpusPerNode, take a GPU kind with more memory, or choose a smaller model.' },
    );
  }
  if (best.maxModelLen < spec.maxModelLen) {
    throw new ConfigError(
      `${spec.name} may have requests of ${spec.maxModelLen} tokens, but its largest replica (${best.name} on ${best.gpu}) holds ${best.maxModelLen}.`,
      { hint: `Set maxModelLen to at most ${best.maxModelLen}, raise gpusPerNode, or park fewer layouts.` },
    );
  }
}

function checkDeployments({ config, cluster, models }: Checked): void {
  const defaults = notationDefaults(cluster, models);
  const pinned = models.flatMap((model) => model.pinned);
  checkDeployment('models[].pinned', pinned, cluster, models);
  const { initial } = config.switching;
  if (initial !== null) checkDeployment('switching.initial', parseDeployment(initial, defaults), cluster, models);
}

/** The models are known, the layouts legal, and the GPUs of each kind suffice. */
function checkDeployment(
  where: string,
  deployment: Deployment,
  cluster: Cluster,
  models: readonly ConfiguredModel[],
): void {
  for (const group of deployment) {
    const spec: ModelSpec = findModel(models, group.model, where).spec;
    const illegal = illegalBecause(spec, group.strategy);
    if (illegal) throw new ConfigError(`${where} has ${strategyName(group.strategy)}, but ${illegal}.`);
    const largest = Math.max(0, ...cluster.nodes.filter((n) => n.gpuKind === group.gpuKind).map((n) => n.gpuCount));
    if (gpusOf(group.strategy) > largest) {
      throw new ConfigError(
        `${where} has ${strategyName(group.strategy)}, ${gpusOf(group.strategy)} GPUs; the largest node with ${group.gpuKind} has ${largest}.`,
        { hint: 'A replica lives on one node.' },
      );
    }
  }
  for (const [kind, have] of gpuCountByKind(cluster)) {
    const need = gpusUsed(deployment.filter((group) => group.gpuKind === kind));
    if (need > have) {
      throw new ConfigError(`${where} needs ${need} GPUs of ${kind}; the cluster has ${have}.`);
    }
  }
}
