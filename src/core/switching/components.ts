// Which leaving and arriving replicas hang together: those that share a GPU, directly or over others. A component is
// the unit of a switch: it is changed, or rolled back, as a whole, and needs nothing from the others but bytes.
import type { PlacedReplica } from '../domain/index.ts';

export interface Component {
  /** Indices into the lists given. */
  readonly leaving: readonly number[];
  readonly arriving: readonly number[];
}

/** Components in the order of their smallest GPU. */
export function componentsOf(
  leaving: readonly Pick<PlacedReplica, 'gpus'>[],
  arriving: readonly Pick<PlacedReplica, 'gpus'>[],
): Component[] {
  const replicas = [...leaving, ...arriving];
  const parent = replicas.map((_, index) => index);
  const rootOf = (index: number): number => {
    let root = index;
    while (parent[root] !== root) root = parent[root]!;
    parent[index] = root;
    return root;
  };
  const ownerOfGpu = new Map<number, number>();
  replicas.forEach(({ gpus }, index) => {
    for (const gpu of gpus) {
      const owner = ownerOfGpu.get(gpu);
      if (owner === undefined) ownerOfGpu.set(gpu, index);
      else parent[rootOf(index)] = rootOf(owner);
    }
  });
  const byRoot = new Map<number, { leaving: number[]; arriving: number[]; firstGpu: number }>();
  replicas.forEach(({ gpus }, index) => {
    const root = rootOf(index);
    const component = byRoot.get(root) ?? { leaving: [], arriving: [], firstGpu: Number.POSITIVE_INFINITY };
    byRoot.set(root, component);
    if (index < leaving.length) component.leaving.push(index);
    else component.arriving.push(index - leaving.length);
    component.firstGpu = Math.min(component.firstGpu, ...gpus);
  });
  return [...byRoot.values()].sort((a, b) => a.firstGpu - b.firstGpu);
}
