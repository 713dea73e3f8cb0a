// Where the replicas of the next deployment go, so that few bytes move. The paper takes placement as given; choosing it
// saves more than choosing the source of each transfer does.
//
//   1. Replicas whose class goes on stay where they are.
//   2. New ones go to nodes, large before small: each wants the node on whose GPUs most of its bytes lie already. Where
//      no node has room, the cheapest smaller replicas that stayed make way and are placed again.
//   3. Inside a node (all links alike) any GPUs will do: one assignment of all new ranks to the free GPUs, by bytes held.
//
// A replica larger than a node is cut into whole nodes, in rank order, so that its stages stay inside nodes.
import {
  type Cluster,
  canonicalDeployment,
  classKey,
  compareClasses,
  type Deployment,
  firstGpuByNode,
  gpusOf,
  InfeasibleError,
  invariant,
  type ModelSpec,
  type PlacedDeployment,
  type PlacedReplica,
  type ReplicaClass,
  type ReplicaId,
  replicaId,
} from '../domain/index.ts';
import { hungarian } from '../math/index.ts';
import { type Holding, holdingByGpu, holdingOf, ShardBook } from './holdings.ts';
import { cheapestEviction, checkDemand } from './node-room.ts';
import type { ParkedLayout, PlacementOptions } from './switch-request.ts';

/** Above this many items at once, nodes are chosen greedily: the assignment takes cubic time. */
const MOST_ASSIGNED_AT_ONCE = 96;

/** A part of a new replica that lies in one node: its ranks [firstRank, firstRank + size). */
interface Item {
  readonly replica: NewReplica;
  readonly firstRank: number;
  readonly size: number;
}

interface NewReplica extends ReplicaClass {
  readonly key: string;
  /** GPU of each rank; filled in as items are placed. */
  readonly gpus: number[];
}

interface NodeState {
  readonly gpuKind: string;
  /** With the lost GPUs. */
  readonly size: number;
  /** GPUs that work, in order. */
  readonly gpus: readonly number[];
  readonly free: Set<number>;
  items: Item[];
}

/** Ids `r0`, `r1`, … that are not among those in use. */
export function replicaIdGenerator(inUse: Iterable<string>): () => ReplicaId {
  const used = new Set(inUse);
  let next = 0;
  return () => {
    while (used.has(`r${next}`)) next++;
    return replicaId(`r${next++}`);
  };
}

/**
 * Places a deployment on the cluster's GPUs, moving few bytes.
 *
 * @param from - what stands; replicas of a class that goes on keep id and GPUs.
 * @returns `to`, placed; canonical order of classes, then by first GPU. Lost GPUs are never used.
 * @throws {@link InfeasibleError} with numbers when a strategy is illegal or the replicas do not fit the nodes.
 */
export function placeDeployment(
  cluster: Cluster,
  from: PlacedDeployment,
  to: Deployment,
  models: readonly ModelSpec[],
  options: PlacementOptions = {},
): PlacedDeployment {
  const placement = new Placement(cluster, from, to, models, options);
  return placement.place();
}

class Placement {
  readonly #before: PlacedDeployment;
  /** Of those, the ones that work. */
  readonly #from: PlacedDeployment;
  readonly #to: Deployment;
  readonly #book: ShardBook;
  readonly #options: PlacementOptions;
  readonly #nodes: NodeState[];
  readonly #nodeOfGpu = new Map<number, number>();
  /** Replicas that stay, by id. */
  readonly #kept = new Map<ReplicaId, PlacedReplica>();
  readonly #held: ReadonlyMap<number, Holding>;
  readonly #new: NewReplica[] = [];
  readonly #parked: readonly ParkedLayout[];

  constructor(
    cluster: Cluster,
    from: PlacedDeployment,
    to: Deployment,
    models: readonly ModelSpec[],
    options: PlacementOptions,
  ) {
    this.#to = canonicalDeployment(to);
    this.#options = options;
    this.#before = from;
    this.#book = new ShardBook(models);
    const lost = new Set(options.lostGpus ?? []);
    const first = firstGpuByNode(cluster);
    this.#nodes = cluster.nodes.map(({ gpuKind, gpuCount }, index) => {
      const gpus = Array.from({ length: gpuCount }, (_, i) => first[index]! + i).filter((gpu) => !lost.has(gpu));
      for (const gpu of gpus) this.#nodeOfGpu.set(gpu, index);
      return { gpuKind, size: gpuCount, gpus, free: new Set(gpus), items: [] };
    });
    // A replica with a lost GPU is gone, and with it what its other GPUs held.
    this.#from = from.filter(({ gpus }) => gpus.every((gpu) => this.#nodeOfGpu.has(gpu)));
    this.#parked = (options.parkedLayouts ?? []).filter(({ gpus }) => gpus.every((gpu) => this.#nodeOfGpu.has(gpu)));
    this.#held = holdingByGpu(this.#from);
    checkDemand(this.#to, this.#nodes, this.#book, options.lostGpus?.length ?? 0);
  }

  place(): PlacedDeployment {
    this.#keep();
    let pending = this.#missingItems();
    while (pending.length > 0) {
      const size = Math.max(...pending.map((item) => item.size));
      const now = pending.filter((item) => item.size === size);
      pending = pending.filter((item) => item.size !== size);
      for (const kind of new Set(now.map(({ replica }) => replica.gpuKind))) {
        const ofKind = now.filter(({ replica }) => replica.gpuKind === kind);
        pending.push(...this.#makeRoom(kind, size, ofKind.length));
        this.#chooseNodes(ofKind, kind, size);
      }
    }
    for (const node of this.#nodes) this.#assignGpus(node);
    return this.#named();
  }

  /**
   * Keeps as many replicas of each class as go on. The surplus leaves where layouts are parked that are wanted now, and
   * else where the fewest other replicas stay.
   */
  #keep(): void {
    const wanted = new Map(this.#to.map((group) => [classKey(group), group.count]));
    for (const replica of this.#from) this.#stay(replica);
    const standing = (key: string) => [...this.#kept.values()].filter((replica) => classKey(replica) === key);
    const keys = [...new Set(this.#from.map(classKey))];
    const growing = this.#parked.filter((layout) => {
      const key = classKey(layout);
      return (wanted.get(key) ?? 0) > standing(key).length;
    });
    const reluctance = ({ gpus }: PlacedReplica) => {
      const useful = growing.filter((layout) => layout.gpus.every((gpu) => gpus.includes(gpu))).length;
      const company = gpus.reduce((sum, gpu) => {
        const node = this.#nodes[this.#nodeOfGpu.get(gpu)!]!;
        return sum + node.gpus.length - node.free.size;
      }, 0);
      return company - 1e6 * useful;
    };
    for (const key of keys) {
      for (let surplus = standing(key).length - (wanted.get(key) ?? 0); surplus > 0; surplus--) {
        this.#leave(standing(key).reduce((a, b) => (reluctance(b) < reluctance(a) ? b : a)));
      }
    }
  }

  #stay(replica: PlacedReplica): void {
    this.#kept.set(replica.id, replica);
    for (const gpu of replica.gpus) this.#nodes[this.#nodeOfGpu.get(gpu)!]!.free.delete(gpu);
  }

  #leave(replica: PlacedReplica): void {
    this.#kept.delete(replica.id);
    for (const gpu of replica.gpus) this.#nodes[this.#nodeOfGpu.get(gpu)!]!.free.add(gpu);
  }

  #missingItems(): Item[] {
    const items: Item[] = [];
    for (const group of this.#to) {
      const key = classKey(group);
      const kept = [...this.#kept.values()].filter((replica) => classKey(replica) === key).length;
      for (let i = kept; i < group.count; i++) items.push(...this.#itemsOf(group));
    }
    return items;
  }

  #itemsOf({ model, gpuKind, strategy }: ReplicaClass): Item[] {
    const total = gpusOf(strategy);
    const replica: NewReplica = { model, gpuKind, strategy, key: classKey({ model, gpuKind, strategy }), gpus: [] };
    this.#new.push(replica);
    const nodeSize = Math.max(...this.#nodes.filter((node) => node.gpuKind === gpuKind).map((node) => node.size));
    const items: Item[] = [];
    for (let firstRank = 0; firstRank < total; firstRank += nodeSize) {
      items.push({ replica, firstRank, size: Math.min(nodeSize, total - firstRank) });
    }
    return items;
  }

  /** GPUs of a node that neither a kept replica nor a placed item uses. */
  #room(node: NodeState): number {
    return node.free.size - node.items.reduce((sum, item) => sum + item.size, 0);
  }

  /**
   * Makes smaller replicas that stayed give way until `count` items of `size` fit.
   *
   * @returns items of those that must be placed again.
   */
  #makeRoom(kind: string, size: number, count: number): Item[] {
    const nodes = this.#nodes.filter((node) => node.gpuKind === kind);
    const evicted: Item[] = [];
    const slots = () => nodes.reduce((sum, node) => sum + Math.floor(this.#room(node) / size), 0);
    while (slots() < count) {
      let best: readonly PlacedReplica[] | null = null;
      const gpuCountOf = (replicas: readonly PlacedReplica[]) =>
        replicas.reduce((sum, { gpus }) => sum + gpus.length, 0);
      for (const node of nodes) {
        const candidate = cheapestEviction([...this.#kept.values()], node.gpus, size - (this.#room(node) % size), size);
        if (candidate && (!best || gpuCountOf(candidate) < gpuCountOf(best))) best = candidate;
      }
      if (!best) this.#refuse(kind, size, count - slots());
      for (const replica of best!) {
        this.#leave(replica);
        evicted.push(...this.#itemsOf(replica));
      }
    }
    return evicted;
  }

  #refuse(kind: string, size: number, missing: number): never {
    const free = this.#nodes.filter((node) => node.gpuKind === kind).map((node) => this.#room(node));
    throw new InfeasibleError(
      `${missing} group${missing === 1 ? '' : 's'} of ${size} ${kind} GPUs inside one node cannot be placed; GPUs left by node: ${free.join(', ')}.`,
      { hint: 'A replica that fits a node must lie in one; choose sizes that fill the nodes.' },
    );
  }

  /** Sends items of one size and kind to nodes, each where most of its bytes lie (or where its layout is parked). */
  #chooseNodes(items: readonly Item[], kind: string, size: number): void {
    const slots: { node: NodeState; nth: number }[] = [];
    for (const node of this.#nodes) {
      if (node.gpuKind !== kind) continue;
      for (let nth = 0; nth < Math.floor(this.#room(node) / size); nth++) slots.push({ node, nth });
    }
    invariant(slots.length >= items.length, 'room was made for every item');
    this.#bytesHeldCache.clear(); // the free GPUs of nodes have changed since the last size
    const worth = (item: Item, { node, nth }: { node: NodeState; nth: number }) =>
      // A parked layout saves seconds of start-up, more than any bytes can.
      (nth < this.#parkedHere(item, node).length ? 1e15 : 0) + this.#bytesHeld(item, node);
    if (slots.length > MOST_ASSIGNED_AT_ONCE) {
      for (const item of items) {
        let best = 0;
        slots.forEach((slot, i) => {
          if (worth(item, slot) > worth(item, slots[best]!)) best = i;
        });
        slots.splice(best, 1)[0]!.node.items.push(item);
      }
      return;
    }
    const n = slots.length;
    const cost = new Float64Array(n * n);
    items.forEach((item, row) => {
      slots.forEach((slot, column) => {
        cost[row * n + column] = -worth(item, slot);
      });
    });
    const slotOf = hungarian(cost, n);
    items.forEach((item, row) => {
      slots[slotOf[row]!]!.node.items.push(item);
    });
  }

  /** Disjoint parked layouts of an item's class whose GPUs are all free in this node. */
  #parkedHere(item: Item, node: NodeState): ParkedLayout[] {
    const taken = new Set<number>();
    if (item.size < gpusOf(item.replica.strategy)) return [];
    return this.#parked.filter((layout) => {
      if (classKey(layout) !== item.replica.key) return false;
      if (!layout.gpus.every((gpu) => node.free.has(gpu) && !taken.has(gpu))) return false;
      for (const gpu of layout.gpus) taken.add(gpu);
      return true;
    });
  }

  /** Bytes of an item that lie on a node's free GPUs already, at best. */
  #bytesHeld(item: Item, node: NodeState): number {
    const cached = this.#bytesHeldCache.get(item.replica.key)?.get(node)?.get(item.firstRank);
    if (cached !== undefined) return cached;
    const bytes = this.#match([item], [...node.free]).bytes;
    const byNode = this.#bytesHeldCache.get(item.replica.key) ?? new Map();
    this.#bytesHeldCache.set(item.replica.key, byNode);
    const byRank = byNode.get(node) ?? new Map();
    byNode.set(node, byRank);
    byRank.set(item.firstRank, bytes);
    return bytes;
  }
  readonly #bytesHeldCache = new Map<string, Map<NodeState, Map<number, number>>>();

  #assignGpus(node: NodeState): void {
    const open: Item[] = [];
    for (const item of node.items) {
      const layout = this.#parkedHere(item, node)[0];
      if (layout) this.#seat(item, layout.gpus, node);
      else open.push(item);
    }
    const free = [...node.free];
    const { gpuOfRank } = this.#match(open, free);
    let next = 0;
    for (const item of open) {
      this.#seat(item, gpuOfRank.slice(next, next + item.size), node);
      next += item.size;
    }
  }

  #seat({ replica, firstRank }: Item, gpus: readonly number[], node: NodeState): void {
    gpus.forEach((gpu, i) => {
      replica.gpus[firstRank + i] = gpu;
      node.free.delete(gpu);
    });
  }

  /** Ranks of the items, in order, to GPUs, so that most bytes lie where they are wanted; ties keep the order. */
  #match(items: readonly Item[], gpus: readonly number[]): { bytes: number; gpuOfRank: number[] } {
    const ranks = items.flatMap(({ replica: { model, strategy }, firstRank, size }) =>
      Array.from({ length: size }, (_, i) => holdingOf(model, strategy, firstRank + i)),
    );
    const n = gpus.length;
    invariant(ranks.length <= n, 'a node has a GPU for each rank');
    const cost = new Float64Array(n * n);
    ranks.forEach((rank, row) => {
      gpus.forEach((gpu, column) => {
        const held = this.#held.get(gpu);
        // The second term is less than a byte in all: it only keeps the GPUs of a replica together.
        cost[row * n + column] = -(held ? this.#book.overlap(rank, held) : 0) + 1e-3 * (row - column) ** 2;
      });
    });
    const columnOf = hungarian(cost, n);
    let bytes = 0;
    const gpuOfRank = ranks.map((rank, row) => {
      const gpu = gpus[columnOf[row]!]!;
      const held = this.#held.get(gpu);
      if (held) bytes += this.#book.overlap(rank, held);
      return gpu;
    });
    return { bytes, gpuOfRank };
  }

  /** Gives ids: a replica that made way and came back to its own GPUs has not moved at all. */
  #named(): PlacedDeployment {
    const inUse = [...this.#before, ...(this.#options.parkedLayouts ?? [])].flatMap(({ id }) =>
      id === undefined ? [] : [id],
    );
    const nextId = this.#options.nextId ?? replicaIdGenerator(inUse);
    const placed = [...this.#kept.values()];
    const taken = new Set(placed.map(({ id }) => id));
    const fresh: Omit<PlacedReplica, 'id'>[] = [];
    for (const replica of this.#new) {
      if (replica.gpus.length === 0) continue; // made way before it was placed, and was listed again
      const same = this.#from.find(
        (old) => !taken.has(old.id) && classKey(old) === replica.key && sameGpus(old.gpus, replica.gpus),
      );
      if (same) {
        taken.add(same.id);
        placed.push(same);
      } else {
        const { model, gpuKind, strategy, gpus } = replica;
        fresh.push({ model, gpuKind, strategy, gpus });
      }
    }
    const order = (a: Omit<PlacedReplica, 'id'>, b: Omit<PlacedReplica, 'id'>) =>
      compareClasses(a, b) || Math.min(...a.gpus) - Math.min(...b.gpus);
    for (const replica of fresh.sort(order)) {
      const parked = this.#parked.find(
        ({ id, gpus, ...rest }) =>
          id !== undefined &&
          !taken.has(id) &&
          classKey(rest) === classKey(replica) &&
          gpus.join() === replica.gpus.join(),
      );
      const id = parked?.id ?? nextId();
      taken.add(id);
      placed.push({ id, ...replica });
    }
    return placed.sort(order);
  }
}

const sameGpus = (a: readonly number[], b: readonly number[]): boolean =>
  a.length === b.length && a.every((gpu) => b.includes(gpu));
