// Which world judges the policies of `simulate`: measured kernels with noise, or (asked for by name) the planner's own
// model, which needs no data and flatters the planner.
import type { Contest } from '../core/control/index.ts';
import type { Cluster, ModelSpec } from '../core/domain/index.ts';
import { fittedStepTime } from '../core/replica/index.ts';
import { loadProfiles, readKernelTables } from '../host/index.ts';
import { evaluationWorld } from '../world/index.ts';

export const WORLDS = ['measured', 'fitted'] as const;
export type WorldName = (typeof WORLDS)[number];

/** @throws ConfigError when the measured kernel tables are not there. */
export function worldOf(
  name: WorldName,
  models: readonly ModelSpec[],
  cluster: Cluster,
  seed: number,
): Contest['world'] {
  if (name === 'fitted') return { stepTimeOf: fittedStepTime(loadProfiles(), models) };
  const kinds = [...new Set(cluster.nodes.map((node) => node.gpuKind))];
  return evaluationWorld({ tables: kinds.map((kind) => readKernelTables(kind)), models, seed });
}
