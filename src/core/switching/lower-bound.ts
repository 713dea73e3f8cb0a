// No transfer plan for a given placement can be faster than this: every byte that a GPU lacks must enter it, and every
// byte that no GPU of a node holds must enter the node, once at least.
import { type Cluster, gpuKind, nodeIndexByGpu } from '../domain/index.ts';
import type { Holding } from './holdings.ts';
import { type AtomBook, missingAtoms } from './transfers.ts';

/**
 * Seconds of the slowest unavoidable port, if all old weights could be read until the end. Bytes that some GPU holds
 * count at the speed of links between GPUs (and networks, for nodes without them), others at that of host memory.
 *
 * @param before - what each GPU holds at the start.
 * @param after - what the GPUs that change shall hold.
 */
export function lowerBoundSeconds(
  cluster: Cluster,
  book: AtomBook,
  before: ReadonlyMap<number, Holding>,
  after: ReadonlyMap<number, Holding>,
): number {
  const nodeOf = nodeIndexByGpu(cluster);
  const anywhere = new Map<string, Set<number>>();
  const inNode = cluster.nodes.map(() => new Map<string, Set<number>>());
  for (const [gpu, holding] of before) {
    for (const held of [anywhere, inNode[nodeOf[gpu]!]!]) {
      const atoms = held.get(holding.model) ?? new Set();
      held.set(holding.model, atoms);
      for (const atom of book.atomsOf(holding)) atoms.add(atom);
    }
  }
  let seconds = 0;
  const intoGpus = cluster.nodes.map(() => ({ bytes: 0, gpus: 0 }));
  const entering = cluster.nodes.map(() => new Map<string, Set<number>>());
  for (const [gpu, wanted] of after) {
    const node = nodeOf[gpu]!;
    const kind = gpuKind(cluster.nodes[node]!.gpuKind);
    const bytes = book.space(wanted.model).bytes;
    let fromGpus = 0;
    let fromHost = 0;
    for (const atom of missingAtoms(book, { gpu, wanted, local: before.get(gpu) ?? null })) {
      if (!anywhere.get(wanted.model)?.has(atom)) {
        fromHost += bytes[atom]!;
        continue;
      }
      fromGpus += bytes[atom]!;
      if (inNode[node]!.get(wanted.model)?.has(atom)) continue;
      const atoms = entering[node]!.get(wanted.model) ?? new Set();
      entering[node]!.set(wanted.model, atoms.add(atom));
    }
    const total = intoGpus[node]!;
    total.bytes += fromGpus;
    total.gpus += fromGpus > 0 ? 1 : 0;
    const network = cluster.nodes.length > 1 ? cluster.nodes[node]!.networkBytesPerSecond : 0;
    // What a GPU gets from others may come over its link and over the network at once.
    seconds = Math.max(seconds, fromGpus / (kind.linkBytesPerSecond + network), fromHost / kind.hostBytesPerSecond);
  }
  // The GPUs of a node have a link each, but one network together.
  intoGpus.forEach(({ bytes, gpus }, node) => {
    const { gpuKind: kind, networkBytesPerSecond } = cluster.nodes[node]!;
    const network = cluster.nodes.length > 1 ? networkBytesPerSecond : 0;
    if (bytes > 0) seconds = Math.max(seconds, bytes / (gpus * gpuKind(kind).linkBytesPerSecond + network));
  });
  entering.forEach((byModel, node) => {
    let bytes = 0;
    for (const [model, atoms] of byModel) for (const atom of atoms) bytes += book.space(model).bytes[atom]!;
    seconds = Math.max(seconds, bytes / cluster.nodes[node]!.networkBytesPerSecond);
  });
  return seconds;
}
