// What the search counts of the arrivals, by type.
import { InfeasibleError } from '../domain/index.ts';
import type { DeploymentSpace } from './deployment-space.ts';
import type { DeploymentProblem } from './search-problem.ts';

/** Demand as the search counts it: only types with arrivals that some class can serve. */
export interface Demand {
  readonly types: readonly number[];
  /** All positive (J'). */
  readonly arrivalRate: Float64Array;
  /** K × J'. */
  readonly serviceRate: Float64Array;
}

/** When nothing arrives at all, equal rates of all types. */
export function demandOf(
  problem: DeploymentProblem,
  space: DeploymentSpace,
): { demand: Demand; unservableTypes: number[] } {
  const { arrivalRate, serviceRate } = problem;
  const typeCount = arrivalRate.length;
  const classes = [...problem.classes.keys()];
  const servable = (type: number) => classes.some((k) => space.upper[k]! > 0 && serviceRate[k * typeCount + type]! > 0);
  const all = Array.from({ length: typeCount }, (_, type) => type);
  const arriving = all.filter((type) => arrivalRate[type]! > 0);
  const types = (arriving.length > 0 ? arriving : all).filter(servable);
  if (types.length === 0) {
    throw new InfeasibleError('No kind of replica that fits on the usable GPUs can serve any of the workload types.', {
      hint: 'Allow larger replicas, add GPUs, or relax the SLO.',
    });
  }
  return {
    demand: {
      types,
      arrivalRate: Float64Array.from(types, (type) => (arriving.length > 0 ? arrivalRate[type]! : 1)),
      serviceRate: Float64Array.from(
        { length: classes.length * types.length },
        (_, i) => serviceRate[Math.floor(i / types.length) * typeCount + types[i % types.length]!]!,
      ),
    },
    unservableTypes: arriving.filter((type) => !servable(type)),
  };
}

/** The part of the demand that classes of these models serve. */
export function restDemand(space: DeploymentSpace, demand: Demand, models: ReadonlySet<string>): Demand {
  const own = [...models].flatMap((model) => space.classesByModel.get(model)!);
  const count = demand.types.length;
  const kept = [...demand.types.keys()].filter((place) => own.some((k) => demand.serviceRate[k * count + place]! > 0));
  return {
    types: kept.map((place) => demand.types[place]!),
    arrivalRate: Float64Array.from(kept, (place) => demand.arrivalRate[place]!),
    serviceRate: Float64Array.from(
      { length: space.classCount * kept.length },
      (_, i) => demand.serviceRate[Math.floor(i / kept.length) * count + kept[i % kept.length]!]!,
    ),
  };
}
