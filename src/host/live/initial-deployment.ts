// The deployment at the start of a pool, live or simulated: the one that the configuration names, else the plan for traffic
// of which nothing is known yet.
import { firstDeployment } from '../../core/control/index.ts';
import {
  ConfigError,
  type Deployment,
  formatDeployment,
  formatGib,
  gpuKind,
  mostParkedBytes,
  parseDeployment,
  replicaMemory,
} from '../../core/domain/index.ts';
import { notationDefaults } from '../config/index.ts';
import { type ControllerInput, controllerConfigOf } from '../controller-worker/index.ts';

/**
 * The deployment that a pool starts with.
 *
 * @throws {@link ConfigError} when one of its replicas does not fit its GPUs, with numbers.
 */
export function initialDeployment(input: ControllerInput): Deployment {
  const { cluster, models, config, parkedPlaces } = input;
  const { initial, parkedBytesPerLayout } = config.switching;
  if (initial === null) return firstDeployment(controllerConfigOf(input), cluster);
  const deployment = parseDeployment(initial, notationDefaults(cluster, models));
  const reserve = mostParkedBytes(parkedPlaces, parkedBytesPerLayout);
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
