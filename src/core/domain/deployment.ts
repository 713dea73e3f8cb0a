// Deployments as counts of replica classes, and their notation `[MODEL:]COUNTxTPa[PPb][@GPU]`, e.g. `4xTP4,2xTP2PP2`.
import { ConfigError } from './errors.ts';
import { gpusOf, type Strategy, strategyName } from './strategy.ts';
import type { ReplicaId } from './units.ts';

/** Replicas that are alike: one model, one strategy, one kind of GPU. */
export interface ReplicaClass {
  readonly model: string;
  readonly gpuKind: string;
  readonly strategy: Strategy;
}

/** Stable text key of a class: `llama2-70b:TP4@H100-80GB`. */
export const classKey = ({ model, strategy, gpuKind }: ReplicaClass): string =>
  `${model}:${strategyName(strategy)}@${gpuKind}`;

export interface DeploymentGroup extends ReplicaClass {
  readonly count: number;
}

/** How many replicas of each class; groups are unique, sorted by {@link compareClasses}, and not empty. */
export type Deployment = readonly DeploymentGroup[];

/** One replica with its place: `gpus[p × TP + t]` is the GPU of (stage p, slice t). */
export interface PlacedReplica extends ReplicaClass {
  readonly id: ReplicaId;
  readonly gpus: readonly number[];
}

export type PlacedDeployment = readonly PlacedReplica[];

/** Model name, then GPU kind, then more GPUs first, then more tensor parallelism first. */
export function compareClasses(a: ReplicaClass, b: ReplicaClass): number {
  const text = (x: string, y: string) => (x < y ? -1 : x > y ? 1 : 0);
  return (
    text(a.model, b.model) ||
    text(a.gpuKind, b.gpuKind) ||
    gpusOf(b.strategy) - gpusOf(a.strategy) ||
    b.strategy.tensorParallel - a.strategy.tensorParallel
  );
}

/** Merges equal classes, drops empty groups, sorts. */
export function canonicalDeployment(groups: readonly DeploymentGroup[]): Deployment {
  const merged = new Map<string, DeploymentGroup>();
  for (const group of groups) {
    if (group.count === 0) continue;
    const key = classKey(group);
    const known = merged.get(key);
    merged.set(key, known ? { ...known, count: known.count + group.count } : group);
  }
  return [...merged.values()].sort(compareClasses);
}

export const countsOf = (placed: PlacedDeployment): Deployment =>
  canonicalDeployment(placed.map(({ model, gpuKind, strategy }) => ({ model, gpuKind, strategy, count: 1 })));

export const gpusUsed = (deployment: Deployment): number =>
  deployment.reduce((sum, group) => sum + group.count * gpusOf(group.strategy), 0);

/**
 * Canonical text of a deployment. Model and GPU kind are left out where they are the defaults given.
 */
export function formatDeployment(
  deployment: Deployment,
  defaults: { readonly model?: string; readonly gpuKind?: string } = {},
): string {
  if (deployment.length === 0) return 'empty';
  return canonicalDeployment(deployment)
    .map((group) => {
      const model = group.model === defaults.model ? '' : `${group.model}:`;
      const gpu = group.gpuKind === defaults.gpuKind ? '' : `@${group.gpuKind}`;
      return `${model}${group.count}x${strategyName(group.strategy)}${gpu}`;
    })
    .join(',');
}

const GROUP = /^(?:([^:,]+):)?(\d+)xTP(\d+)(?:PP(\d+))?(?:@([^,@]+))?$/i;

/**
 * Reads the notation of {@link formatDeployment}.
 *
 * @throws {@link ConfigError} naming the part that cannot be read.
 */
export function parseDeployment(
  text: string,
  defaults: { readonly model: string; readonly gpuKind: string },
): Deployment {
  const groups = text.split(',').map((part) => {
    const match = GROUP.exec(part.trim());
    const [count, tensorParallel, pipelineParallel] = [Number(match?.[2]), Number(match?.[3]), Number(match?.[4] ?? 1)];
    if (!match || count < 1 || tensorParallel < 1 || pipelineParallel < 1) {
      throw new ConfigError(`Cannot read "${part.trim()}" in the deployment "${text}".`, {
        hint: 'Write [MODEL:]COUNTxTPa[PPb][@GPU], separated by commas, for example 4xTP4,2xTP2PP2.',
      });
    }
    return {
      model: match[1] ?? defaults.model,
      gpuKind: match[5] ?? defaults.gpuKind,
      strategy: { tensorParallel, pipelineParallel },
      count,
    };
  });
  return canonicalDeployment(groups);
}
