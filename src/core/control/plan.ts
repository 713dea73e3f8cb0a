// One plan from rates, without a twin: what the exact search proposes and how the types would be split.
import {
  type Assignment,
  type Cluster,
  classKey,
  type Deployment,
  gpuKind,
  InfeasibleError,
  type ReplicaClass,
  replicaMemory,
  type WorkloadModel,
} from '../domain/index.ts';
import {
  assign,
  candidateClasses,
  deploymentOf,
  type SearchSolver,
  searchDeployments,
  usableNodes,
} from '../schedule/index.ts';
import type { ControllerConfig } from './config.ts';
import { pipelineSizes } from './planner.ts';
import { modelOf, ServiceRates } from './rates.ts';

export interface StaticPlan {
  readonly deployment: Deployment;
  readonly assignment: Assignment;
  /** Smallest served share over types, 0..1. */
  readonly servedShare: number;
  readonly utilisation: number;
  /** How many times the given rates the deployment carries; proven bound; relative gap. For the linear share model. */
  readonly value: number;
  readonly upperBound: number;
  readonly gap: number;
  readonly nodes: number;
}

export interface PlanRequest {
  readonly config: Pick<ControllerConfig, 'models' | 'engine' | 'stepTimeOf' | 'limits' | 'maxPipelineParallel'>;
  readonly cluster: Cluster;
  readonly workload: WorkloadModel;
  /** requests/s by type. */
  readonly arrivalRate: readonly number[];
  readonly solver: SearchSolver;
  readonly method: 'exact' | 'preflow-push';
  readonly searchNodes: number;
}

/** @throws {@link InfeasibleError} when some type with arrivals fits on no replica. */
export function planOnce({
  config,
  cluster,
  workload,
  arrivalRate,
  solver,
  method,
  searchNodes,
}: PlanRequest): StaticPlan {
  const classes = candidateClasses(config.models, cluster, config.engine, pipelineSizes(config));
  const rates = new ServiceRates(config);
  const serviceRate = rates.matrix(classes, workload.types);
  refuseUnservable(config, workload, arrivalRate, classes, serviceRate);
  const found = searchDeployments(
    {
      classes,
      nodes: usableNodes(cluster),
      arrivalRate,
      serviceRate,
      // Lengths are exact here: a class that holds every type of its model holds all that comes.
      holdsFullLength: classes.map(({ model }, k) =>
        workload.types.every(
          (type, j) => type.model !== model || arrivalRate[j] === 0 || serviceRate[k * workload.types.length + j]! > 0,
        ),
      ),
      limits: config.limits ?? {},
    },
    { searchNodes, solver },
  );
  const deployment = deploymentOf(classes, found.best);
  const result = assign({
    arrivalRate,
    serviceRate: rates.matrix(deployment, workload.types),
    counts: deployment.map((group) => group.count),
    method,
  });
  return {
    deployment,
    assignment: {
      typeIds: workload.types.map((type) => type.id),
      classKeys: deployment.map(classKey),
      share: result.share,
      variant: { kind: 'plain' },
    },
    servedShare: result.servedShare,
    utilisation: result.utilisation,
    value: found.value,
    upperBound: found.upperBound,
    gap: found.gap,
    nodes: found.nodes,
  };
}

function refuseUnservable(
  { models, engine }: PlanRequest['config'],
  { types }: WorkloadModel,
  arrivalRate: readonly number[],
  classes: readonly ReplicaClass[],
  serviceRate: Float64Array,
): void {
  types.forEach((type, j) => {
    if (!(arrivalRate[j]! > 0) || classes.some((_, k) => serviceRate[k * types.length + j]! > 0)) return;
    const longest = classes
      .filter(({ model }) => model === type.model)
      .map(({ model, strategy, gpuKind: kind }) =>
        replicaMemory(modelOf(models, model), strategy, gpuKind(kind), engine),
      )
      .reduce((most, { maxModelLen }) => Math.max(most, maxModelLen), 0);
    throw new InfeasibleError(
      `Type ${type.id} of ${type.model} (${type.inputTokens.toFixed(0)} input and ${type.outputTokens.toFixed(0)} output tokens, ${arrivalRate[j]!.toFixed(2)} requests/s) fits on no replica; the largest holds ${longest} tokens.`,
      { hint: "Use more GPUs a replica, GPUs with more memory, or raise the model's maxModelLen." },
    );
  });
}
