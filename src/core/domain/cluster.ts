// The machines: nodes of GPUs of one kind each, and the links inside and between nodes.
import { ConfigError, invariant } from './errors.ts';
import { GB, GIB } from './units.ts';

/** Data-sheet figures of one kind of GPU (dense bf16). Measured efficiencies live in the fitted profile, not here. */
export interface GpuKind {
  readonly name: string;
  readonly memoryBytes: number;
  readonly memoryBytesPerSecond: number;
  readonly bf16FlopsPerSecond: number;
  /** NVLink, per GPU and direction. */
  readonly linkBytesPerSecond: number;
  /** Host memory to GPU (PCIe), per GPU. */
  readonly hostBytesPerSecond: number;
}

/** Sources: NVIDIA data sheets; 80 GB parts report 80 GiB of device memory, the H200 reports 141 GB (131.3 GiB). */
export const GPU_KINDS: readonly GpuKind[] = [
  {
    name: 'A100-80GB',
    memoryBytes: 80 * GIB,
    memoryBytesPerSecond: 2039 * GB,
    bf16FlopsPerSecond: 312e12,
    linkBytesPerSecond: 300 * GB,
    hostBytesPerSecond: 25 * GB,
  },
  {
    name: 'H100-80GB',
    memoryBytes: 80 * GIB,
    memoryBytesPerSecond: 3350 * GB,
    bf16FlopsPerSecond: 989e12,
    linkBytesPerSecond: 400 * GB,
    hostBytesPerSecond: 50 * GB,
  },
  {
    name: 'H200',
    memoryBytes: 141 * GB,
    memoryBytesPerSecond: 4800 * GB,
    bf16FlopsPerSecond: 989e12,
    linkBytesPerSecond: 400 * GB,
    hostBytesPerSecond: 50 * GB,
  },
];

/** @throws {@link ConfigError} when the kind is unknown. */
export function gpuKind(name: string): GpuKind {
  const kind = GPU_KINDS.find((candidate) => candidate.name.toLowerCase() === name.toLowerCase());
  if (!kind) {
    throw new ConfigError(`Unknown GPU kind "${name}".`, {
      hint: `Known kinds: ${GPU_KINDS.map((k) => k.name).join(', ')}.`,
    });
  }
  return kind;
}

export interface NodeSpec {
  readonly name: string;
  readonly gpuKind: string;
  readonly gpuCount: number;
  /** Network of the whole node, per direction. */
  readonly networkBytesPerSecond: number;
}

/** GPUs are numbered through: node 0 holds 0..n0-1, node 1 holds n0..n0+n1-1, and so on. */
export interface Cluster {
  readonly nodes: readonly NodeSpec[];
}

/** The paper's reading of its testbed: 200 GB/s per node (8 NICs × 200 Gb/s). */
export const DEFAULT_NETWORK_BYTES_PER_SECOND = 200 * GB;

/** Equal nodes of `gpusPerNode` GPUs; a last, smaller node holds the rest. */
export function uniformCluster(gpuCount: number, kind = 'H100-80GB', gpusPerNode = 8): Cluster {
  invariant(Number.isInteger(gpuCount) && gpuCount > 0, 'a cluster has at least one GPU');
  const nodes: NodeSpec[] = [];
  for (let left = gpuCount; left > 0; left -= gpusPerNode) {
    nodes.push({
      name: `node-${nodes.length}`,
      gpuKind: gpuKind(kind).name,
      gpuCount: Math.min(left, gpusPerNode),
      networkBytesPerSecond: DEFAULT_NETWORK_BYTES_PER_SECOND,
    });
  }
  return { nodes };
}

export const gpuCountOf = (cluster: Cluster): number => cluster.nodes.reduce((sum, node) => sum + node.gpuCount, 0);

/** Index of the node that holds each GPU; length = number of GPUs. */
export function nodeIndexByGpu(cluster: Cluster): Int32Array {
  const nodeOf = new Int32Array(gpuCountOf(cluster));
  let gpu = 0;
  cluster.nodes.forEach((node, index) => {
    nodeOf.fill(index, gpu, gpu + node.gpuCount);
    gpu += node.gpuCount;
  });
  return nodeOf;
}

/** First GPU number of each node. */
export function firstGpuByNode(cluster: Cluster): number[] {
  let next = 0;
  return cluster.nodes.map((node) => {
    const first = next;
    next += node.gpuCount;
    return first;
  });
}

/** Number of GPUs of each kind that the cluster has. */
export function gpuCountByKind(cluster: Cluster): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  for (const node of cluster.nodes) counts.set(node.gpuKind, (counts.get(node.gpuKind) ?? 0) + node.gpuCount);
  return counts;
}
