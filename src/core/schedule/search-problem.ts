// What the search for a deployment is given and what it answers, in the vocabulary of classes and counts.
import type { Cluster, Deployment, ReplicaClass } from '../domain/index.ts';
import { canonicalDeployment, firstGpuByNode } from '../domain/index.ts';

/** One machine as the search sees it. */
export interface UsableNode {
  readonly gpuKind: string;
  /** GPUs when nothing is lost. */
  readonly gpuCount: number;
  /** GPUs that can be used now. */
  readonly usableCount: number;
}

export interface ReplicaLimits {
  readonly minReplicas?: number;
  readonly maxReplicas?: number;
}

export interface DeploymentProblem {
  /** The kinds of replica to choose from (K). */
  readonly classes: readonly ReplicaClass[];
  readonly nodes: readonly UsableNode[];
  /** requests/s by workload type (J). */
  readonly arrivalRate: ArrayLike<number>;
  /** requests/s that one replica serves of one type alone; row-major K × J, 0 where it cannot (model, length, SLO). */
  readonly serviceRate: ArrayLike<number>;
  /** Whether a class holds the longest request of its model; every model keeps at least one such replica. */
  readonly holdsFullLength: readonly boolean[];
  /** By model name. */
  readonly limits?: Readonly<Record<string, ReplicaLimits>>;
  /** At least so many replicas of each class stay (K). */
  readonly pinnedCounts?: ArrayLike<number>;
  /** What runs now (K): the search starts from it and keeps it unless something is better. */
  readonly previousCounts?: ArrayLike<number>;
}

export type SearchSolver = 'exact' | 'brute-force' | 'flow-guided';

export interface SearchOptions {
  /** Relaxations that the search may solve. */
  readonly searchNodes: number;
  readonly solver?: SearchSolver;
  /** Stop once the best is proven to be within this of the optimum, relative; default 0. */
  readonly relativeGap?: number;
  /** How many deployments to hand to the twin; default 12. */
  readonly candidateCount?: number;
}

export interface CandidateDeployment {
  /** Replicas of each class (K). */
  readonly counts: readonly number[];
  /** How many times the given arrivals it could carry, in the linear share model. */
  readonly value: number;
  /** 1 / value: the highest utilisation when arrivals are spread as well as possible. Above 1: overload. */
  readonly utilisation: number;
  readonly origin: 'best' | 'previous' | 'homogeneous' | 'mixed';
}

export interface SearchResult {
  readonly solver: SearchSolver;
  /** Replicas of each class (K). */
  readonly best: readonly number[];
  /** How many times the given arrivals the best deployment could carry. */
  readonly value: number;
  /** No deployment carries more than this many times the arrivals: proven, for the linear share model. */
  readonly upperBound: number;
  /** upperBound / value − 1. */
  readonly gap: number;
  readonly nodes: number;
  /** The best first, then good ones that differ from all before in their GPU allocation. */
  readonly candidates: readonly CandidateDeployment[];
  /** Types with arrivals that no class can serve; they were left out. */
  readonly unservableTypes: readonly number[];
}

/** The nodes of a cluster without the GPUs that are lost. */
export function usableNodes(cluster: Cluster, lostGpus: readonly number[] = []): UsableNode[] {
  const lost = new Set(lostGpus);
  const first = firstGpuByNode(cluster);
  return cluster.nodes.map(({ gpuKind, gpuCount }, node) => {
    let usableCount = 0;
    for (let gpu = first[node]!; gpu < first[node]! + gpuCount; gpu++) if (!lost.has(gpu)) usableCount++;
    return { gpuKind, gpuCount, usableCount };
  });
}

/** Counts by class as a deployment. */
export const deploymentOf = (classes: readonly ReplicaClass[], counts: ArrayLike<number>): Deployment =>
  canonicalDeployment(classes.map((replicaClass, k) => ({ ...replicaClass, count: counts[k]! })));
