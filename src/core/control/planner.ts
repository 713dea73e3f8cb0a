// From rates to candidates: which deployments could carry them, how the types would be split, and in which routing
// variants. "Stay" is always among them. Nothing here knows about time or latency: the twin judges.
import {
  type Assignment,
  type Cluster,
  classKey,
  countsOf,
  type Deployment,
  type Forecast,
  formatDeployment,
  gpuKind,
  gpusOf,
  gpusUsed,
  InfeasibleError,
  mostParkedBytes,
  type PlacedDeployment,
  type ReplicaClass,
  type RoutingVariant,
  replicaMemory,
  type TickRecord,
  type WorkloadModel,
} from '../domain/index.ts';
import { nestedVariants, type PromptSample } from '../routing/index.ts';
import {
  assign,
  type CandidateDeployment,
  candidateClasses,
  deploymentOf,
  type SearchResult,
  type SearchSolver,
  searchDeployments,
  type UsableNode,
  usableNodes,
} from '../schedule/index.ts';
import type { ControllerConfig } from './config.ts';
import { priorWorkload } from './prior.ts';
import { modelOf, ServiceRates } from './rates.ts';

/** One deployment with one way of routing over it. */
export interface Candidate {
  readonly deployment: Deployment;
  readonly assignment: Assignment;
  readonly servedShare: number;
  readonly utilisation: number;
}

/** Forecast work on a candidate, 1 = all that it can do; above 1 where not all is served. */
export const loadOf = ({ utilisation, servedShare }: Pick<Candidate, 'utilisation' | 'servedShare'>): number =>
  utilisation / Math.max(0.01, servedShare);

export interface Proposal {
  /** The present deployment under each routing variant, the present variant first; empty when some model has no replica. */
  readonly stay: readonly Candidate[];
  /** Other deployments under each routing variant, best by capacity first. */
  readonly moves: readonly Candidate[];
  readonly search: TickRecord['search'];
}

export interface ProposalRequest {
  readonly workload: WorkloadModel;
  readonly forecast: Forecast;
  readonly cluster: Cluster;
  readonly lostGpus: readonly number[];
  readonly current: PlacedDeployment;
  readonly previous: Assignment | null;
  readonly budgetNodes: number;
  readonly solver?: SearchSolver;
}

/** Branch-and-bound nodes of the first plan. */
const FIRST_PLAN_NODES = 20_000;
/** Of another deployment: plain, and the mildest confinement. */
const MOVE_VARIANTS = 2;
const FEWER_GPU_SHARES = [0.75, 0.5, 0.375, 0.25] as const;
const PLAIN: RoutingVariant = { kind: 'plain' };

export class Planner {
  readonly #config: ControllerConfig;
  readonly #rates: ServiceRates;

  constructor(config: ControllerConfig) {
    this.#config = config;
    this.#rates = new ServiceRates(config);
  }

  propose(request: ProposalRequest): Proposal {
    const { workload, forecast, cluster, lostGpus, current, previous } = request;
    const present = countsOf(current);
    const rates = peakRates(forecast);
    const classes = this.#classes(cluster, present);
    const serviceRate = this.#rates.matrix(classes, workload.types);
    const nodes = usableNodes(cluster, lostGpus);
    const search = (usable: readonly UsableNode[], candidateCount: number): SearchResult =>
      searchDeployments(
        {
          classes,
          nodes: usable,
          arrivalRate: rates,
          serviceRate,
          holdsFullLength: classes.map((replicaClass) => this.#holdsFullLength(replicaClass)),
          limits: this.#config.limits ?? {},
          pinnedCounts: classes.map((replicaClass) => countIn(this.#config.pinned ?? [], replicaClass)),
          previousCounts: classes.map((replicaClass) => countIn(present, replicaClass)),
        },
        { searchNodes: request.budgetNodes, candidateCount, ...(request.solver ? { solver: request.solver } : {}) },
      );
    const found = search(nodes, this.#config.candidateCount);
    const fewer = this.#config.objective === 'gpus' ? onFewerGpus(nodes, (usable) => search(usable, 2)) : [];
    const presentText = formatDeployment(present);
    const moves = [...found.candidates, ...fewer]
      .map(({ counts }) => deploymentOf(classes, counts))
      .filter((deployment) => formatDeployment(deployment) !== presentText)
      .filter(
        (deployment, _, all) =>
          this.#config.objective === 'gpus' || ![present, ...all].some((other) => isPartOf(deployment, other)),
      )
      .flatMap((deployment) => this.#variants(workload, rates, deployment, previous).slice(0, MOVE_VARIANTS));
    return {
      stay: this.#holdsEveryModel(present) ? this.#variants(workload, rates, present, previous) : [],
      moves,
      search: { value: found.value, upperBound: found.upperBound, gap: found.gap, nodes: found.nodes },
    };
  }

  /** The split of `rates` over a deployment that stands, under the present variant. */
  assignmentFor(
    workload: WorkloadModel,
    rates: readonly number[],
    deployment: Deployment,
    previous: Assignment | null,
  ): Assignment {
    return this.#candidate(workload, rates, deployment, previous?.variant ?? PLAIN, previous).assignment;
  }

  #variants(
    workload: WorkloadModel,
    rates: readonly number[],
    deployment: Deployment,
    previous: Assignment | null,
  ): Candidate[] {
    const replicas = deployment.flatMap((group) =>
      Array.from({ length: group.count }, () => ({ gpuCount: gpusOf(group.strategy) })),
    );
    const variants = [PLAIN, ...nestedVariants(this.#promptSamples(workload, rates, deployment), replicas)];
    const present = previous?.variant;
    if (present && present.kind === 'nested') {
      // The present thresholds stay a choice, so that a variant does not move with every forecast.
      const same = variants.findIndex((variant) => JSON.stringify(variant) === JSON.stringify(present));
      if (same >= 0) variants.splice(same, 1);
      if (replicas.length > 1) variants.unshift(present);
    }
    return variants.map((variant) => this.#candidate(workload, rates, deployment, variant, previous));
  }

  #candidate(
    workload: WorkloadModel,
    rates: readonly number[],
    deployment: Deployment,
    variant: RoutingVariant,
    previous: Assignment | null,
  ): Candidate {
    const classKeys = deployment.map(classKey);
    const typeIds = workload.types.map((type) => type.id);
    const previousShare = previous && typeIds.map((typeId) => sharesIn(previous, typeId, classKeys));
    const result = assign({
      arrivalRate: rates,
      serviceRate: this.#rates.matrix(deployment, workload.types),
      counts: deployment.map((group) => group.count),
      priorities: workload.types.map((type) => this.#config.limits?.[type.model]?.priority ?? 1),
      ...(previousShare ? { previousShare, utilisationSlackShare: 0.05 } : {}),
    });
    return {
      deployment,
      assignment: { typeIds, classKeys, share: result.share, variant },
      servedShare: result.servedShare,
      utilisation: result.utilisation,
    };
  }

  #classes(cluster: Cluster, present: Deployment): ReplicaClass[] {
    const { models, engine, parkedLayouts, onlyParkedLayouts, costs } = this.#config;
    const parked = new Set(
      parkedLayouts.map(({ model, strategy }) => `${model} ${strategy.tensorParallel} ${strategy.pipelineParallel}`),
    );
    const classes = candidateClasses(models, cluster, engine, {
      parkedBytes: mostParkedBytes(parkedLayouts, costs.parkedBytesPerLayout),
      ...pipelineSizes(this.#config),
    }).filter(
      ({ model, strategy }) =>
        !onlyParkedLayouts || parked.has(`${model} ${strategy.tensorParallel} ${strategy.pipelineParallel}`),
    );
    // What stands stays a choice, also when it would not be chosen anew.
    const known = new Set(classes.map(classKey));
    for (const { model, gpuKind: kind, strategy } of present) {
      if (!known.has(classKey({ model, gpuKind: kind, strategy }))) classes.push({ model, gpuKind: kind, strategy });
    }
    return classes;
  }

  #holdsEveryModel(deployment: Deployment): boolean {
    return this.#config.models.every(({ name }) => deployment.some(({ model }) => model === name));
  }

  /** Holds the longest request that the model admits. */
  #holdsFullLength(replicaClass: ReplicaClass): boolean {
    const { engine, parkedLayouts, costs } = this.#config;
    const model = modelOf(this.#config.models, replicaClass.model);
    const bytes = mostParkedBytes(parkedLayouts, costs.parkedBytesPerLayout);
    const memory = replicaMemory(model, replicaClass.strategy, gpuKind(replicaClass.gpuKind), engine, bytes);
    return memory.maxModelLen >= model.maxModelLen;
  }

  /** Prompts as often as they are forecast, with the work that they cause on the deployment's replicas. */
  #promptSamples(workload: WorkloadModel, rates: readonly number[], deployment: Deployment): PromptSample[] {
    const serviceRate = this.#rates.matrix(deployment, workload.types);
    const samples: PromptSample[] = [];
    workload.types.forEach((type, j) => {
      let best = 0;
      for (let k = 0; k < deployment.length; k++) best = Math.max(best, serviceRate[k * workload.types.length + j]!);
      const copies = Math.min(type.samples.length, Math.round((200 * rates[j]!) / Math.max(1e-9, sum(rates))));
      if (best <= 0) return;
      for (let i = 0; i < copies; i++) {
        const [inputTokens] = type.samples[Math.floor((i * type.samples.length) / copies)]!;
        samples.push({ inputTokens, work: inputTokens / type.inputTokens / best });
      }
    });
    return samples;
  }
}

/** Deployments for parts of the cluster, for those who pay by the GPU. */
function onFewerGpus(
  nodes: readonly UsableNode[],
  search: (usable: readonly UsableNode[]) => SearchResult,
): readonly CandidateDeployment[] {
  const total = nodes.reduce((all, node) => all + node.usableCount, 0);
  return FEWER_GPU_SHARES.flatMap((share) => {
    let left = Math.round(total * share);
    const usable = nodes.map((node) => {
      const usableCount = Math.min(left, node.usableCount);
      left -= usableCount;
      return { ...node, usableCount };
    });
    try {
      return search(usable).candidates.filter(
        ({ counts, origin }) => origin !== 'previous' && counts.some((n) => n > 0),
      );
    } catch (error) {
      if (error instanceof InfeasibleError) return []; // so few GPUs do not hold every model
      throw error;
    }
  });
}

/** Pipelines that may be considered; empty = the defaults of {@link candidateClasses}. */
export function pipelineSizes({ maxPipelineParallel: most }: Pick<ControllerConfig, 'maxPipelineParallel'>): {
  readonly pipelineParallel?: readonly number[];
} {
  return most === undefined ? {} : { pipelineParallel: [1, 2, 4, 8, 16].filter((size) => size <= most) };
}

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);

/** What a plan must carry: the largest mean forecast of the next windows, by type. */
function peakRates({ arrivalRate }: Forecast): number[] {
  const [first, ...rest] = arrivalRate;
  return (first ?? []).map((rate, j) => rest.reduce((peak, rates) => Math.max(peak, rates[j]!), rate));
}

/** The other has all replicas of this one, and more: leaving GPUs empty serves nobody. */
const isPartOf = (deployment: Deployment, other: Deployment): boolean =>
  gpusUsed(deployment) < gpusUsed(other) && deployment.every((group) => group.count <= countIn(other, group));

const countIn = (deployment: Deployment, replicaClass: ReplicaClass): number =>
  deployment.find((group) => classKey(group) === classKey(replicaClass))?.count ?? 0;

const sharesIn = (assignment: Assignment, typeId: string, classKeys: readonly string[]): number[] => {
  const row = assignment.share[assignment.typeIds.indexOf(typeId)];
  return classKeys.map((key) => {
    const k = assignment.classKeys.indexOf(key);
    return row && k >= 0 ? row[k]! : 0;
  });
};

/**
 * The deployment to start from when nothing is known of the traffic: the best plan for the prior types.
 *
 * @throws InfeasibleError when some model fits nowhere.
 */
export function firstDeployment(config: ControllerConfig, cluster: Cluster): Deployment {
  const workload = priorWorkload(config.models);
  const rates = [workload.types.map(() => 1)];
  const { moves } = new Planner({ ...config, objective: 'p99' }).propose({
    workload,
    forecast: { predictor: 'prior', seenToSeconds: 0, arrivalRate: rates, arrivalRateQuantile90: rates },
    cluster,
    lostGpus: [],
    current: [],
    previous: null,
    budgetNodes: FIRST_PLAN_NODES,
  });
  const [best] = moves;
  if (!best)
    throw new InfeasibleError('No deployment holds every model of the configuration.', {
      hint: 'Add GPUs or remove a model.',
    });
  return best.deployment;
}
