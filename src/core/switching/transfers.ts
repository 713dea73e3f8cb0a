// The paper's greedy transfer plan: for each part of each target shard, among the GPUs that hold it at that moment the
// one with the least communication load; links inside the node before links between nodes; where no GPU holds it, the
// memory of the target's own host. Parts are cut fine (layer by layer where that balances), so that load evens out.
import {
  type Cluster,
  gpuKind,
  type LinkLoad,
  nodeIndexByGpu,
  type Transfer,
  type TransferSource,
} from '../domain/index.ts';
import { AtomSpace } from './atoms.ts';
import type { Holding, ShardBook } from './holdings.ts';
import { boxesOf, type Piece } from './shards.ts';

/** Each target shard is cut into about this many parts, which may come from different GPUs. */
const PARTS_PER_SHARD = 16;

/** A piece of a model on its way to one GPU; {@link boxTransfers} spells out its boxes. */
export interface PieceTransfer {
  readonly source: TransferSource;
  readonly targetGpu: number;
  readonly model: string;
  readonly piece: Piece;
  readonly bytes: number;
}

/** One GPU that is filled, and what of it lies there already (and stays readable while it is filled). */
export interface FillTarget {
  readonly gpu: number;
  readonly wanted: Holding;
  readonly local: Holding | null;
}

/** Bytes through each port: into and out of GPUs inside a node, from host memory, and between nodes. */
export class PortLoads {
  readonly #cluster: Cluster;
  readonly #nodeOf: Int32Array;
  readonly gpuOut: Float64Array;
  readonly gpuIn: Float64Array;
  readonly hostIn: Float64Array;
  readonly netOut: Float64Array;
  readonly netIn: Float64Array;
  readonly #links = new Map<string, { from: string; to: string; bytes: number; bytesPerSecond: number }>();

  constructor(cluster: Cluster) {
    this.#cluster = cluster;
    this.#nodeOf = nodeIndexByGpu(cluster);
    this.gpuOut = new Float64Array(this.#nodeOf.length);
    this.gpuIn = new Float64Array(this.#nodeOf.length);
    this.hostIn = new Float64Array(this.#nodeOf.length);
    this.netOut = new Float64Array(cluster.nodes.length);
    this.netIn = new Float64Array(cluster.nodes.length);
  }

  add(source: TransferSource, targetGpu: number, bytes: number): void {
    const target = this.#nodeOf[targetGpu]!;
    const node = this.#cluster.nodes[target]!;
    if (source.kind === 'host') {
      this.hostIn[targetGpu]! += bytes;
      this.#link(`host:${source.nodeIndex}`, `gpu:${targetGpu}`, bytes, gpuKind(node.gpuKind).hostBytesPerSecond);
      return;
    }
    const from = this.#nodeOf[source.gpu]!;
    if (from === target) {
      this.gpuOut[source.gpu]! += bytes;
      this.gpuIn[targetGpu]! += bytes;
      this.#link(`gpu:${source.gpu}`, `gpu:${targetGpu}`, bytes, gpuKind(node.gpuKind).linkBytesPerSecond);
    } else {
      this.netOut[from]! += bytes;
      this.netIn[target]! += bytes;
      const slower = Math.min(this.#cluster.nodes[from]!.networkBytesPerSecond, node.networkBytesPerSecond);
      this.#link(`net:${from}`, `net:${target}`, bytes, slower);
    }
  }

  #link(from: string, to: string, bytes: number, bytesPerSecond: number): void {
    const key = `${from}>${to}`;
    const link = this.#links.get(key);
    if (link) link.bytes += bytes;
    else this.#links.set(key, { from, to, bytes, bytesPerSecond });
  }

  /** In the order in which links were first used. */
  links(): LinkLoad[] {
    return [...this.#links.values()].map(({ from, to, bytes, bytesPerSecond }) => ({
      from,
      to,
      bytes,
      seconds: bytes / bytesPerSecond,
    }));
  }

  /** Seconds until everything that enters this GPU from `source` is through, all ports shared by what was added. */
  secondsInto(gpu: number, source: TransferSource): number {
    const node = this.#nodeOf[gpu]!;
    const { gpuKind: kind, networkBytesPerSecond } = this.#cluster.nodes[node]!;
    const { linkBytesPerSecond, hostBytesPerSecond } = gpuKind(kind);
    if (source.kind === 'host') return this.hostIn[gpu]! / hostBytesPerSecond;
    const from = this.#nodeOf[source.gpu]!;
    if (from === node) return Math.max(this.gpuIn[gpu]!, this.gpuOut[source.gpu]!) / linkBytesPerSecond;
    const sender = this.#cluster.nodes[from]!.networkBytesPerSecond;
    return Math.max(this.netIn[node]! / networkBytesPerSecond, this.netOut[from]! / sender);
  }

  /** Seconds of the busiest port. */
  busiestSeconds(): number {
    let seconds = 0;
    this.#nodeOf.forEach((node, gpu) => {
      const kind = gpuKind(this.#cluster.nodes[node]!.gpuKind);
      const inNode = Math.max(this.gpuIn[gpu]!, this.gpuOut[gpu]!) / kind.linkBytesPerSecond;
      seconds = Math.max(seconds, inNode, this.hostIn[gpu]! / kind.hostBytesPerSecond);
    });
    this.#cluster.nodes.forEach(({ networkBytesPerSecond }, node) => {
      seconds = Math.max(seconds, Math.max(this.netIn[node]!, this.netOut[node]!) / networkBytesPerSecond);
    });
    return seconds;
  }
}

/** Atoms of every model in play, and the atoms of each holding. */
export class AtomBook {
  readonly #shards: ShardBook;
  readonly #spaces = new Map<string, AtomSpace>();
  readonly #atoms = new Map<readonly Piece[], Int32Array>();

  constructor(shards: ShardBook, holdings: Iterable<Holding>) {
    this.#shards = shards;
    const byModel = new Map<string, Set<readonly Piece[]>>();
    for (const holding of holdings) {
      const pieces = byModel.get(holding.model) ?? new Set();
      byModel.set(holding.model, pieces.add(shards.pieces(holding)));
    }
    for (const [name, pieces] of byModel) this.#spaces.set(name, new AtomSpace(shards.model(name), pieces));
  }

  space(model: string): AtomSpace {
    return this.#spaces.get(model)!;
  }

  atomsOf(holding: Holding): Int32Array {
    const pieces = this.#shards.pieces(holding); // one array per holding, so it serves as the key
    let atoms = this.#atoms.get(pieces);
    if (!atoms) {
      atoms = this.space(holding.model).atomsOf(pieces);
      this.#atoms.set(pieces, atoms);
    }
    return atoms;
  }
}

/** What a target needs and does not hold. */
export function missingAtoms(book: AtomBook, { wanted, local }: FillTarget): Int32Array {
  const atoms = book.atomsOf(wanted);
  if (!local || local.model !== wanted.model) return atoms;
  const held = new Set(book.atomsOf(local));
  return atoms.filter((atom) => !held.has(atom));
}

/**
 * Sources for everything that some GPUs are to be filled with at the same time.
 *
 * @param readable - GPUs that hold weights until these fills have ended.
 * @param loads - ports; what is planned here is added.
 * @returns one transfer for each part of each target that does not lie there already; parts that no GPU holds come
 *   from the target's host.
 */
export function greedyTransfers(
  cluster: Cluster,
  book: AtomBook,
  targets: readonly FillTarget[],
  readable: ReadonlyMap<number, Holding>,
  loads: PortLoads,
): PieceTransfer[] {
  const nodeOf = nodeIndexByGpu(cluster);
  const holders = holdersByAtom(book, readable);
  const needs: { target: FillTarget; atom: number; inNode: number[]; elsewhere: number[] }[] = [];
  for (const target of targets) {
    const ofModel = holders.get(target.wanted.model);
    for (const atom of missingAtoms(book, target)) {
      const all = ofModel?.[atom] ?? [];
      const inNode = all.filter((gpu) => nodeOf[gpu] === nodeOf[target.gpu]);
      needs.push({ target, atom, inNode, elsewhere: inNode.length > 0 ? [] : all });
    }
  }
  const bytesOf = ({ target, atom }: (typeof needs)[number]) => book.space(target.wanted.model).bytes[atom]!;
  // Whoever has the least choice goes first, then the largest: what can be spread evens out the rest.
  needs.sort(
    (a, b) => a.inNode.length + a.elsewhere.length - b.inNode.length - b.elsewhere.length || bytesOf(b) - bytesOf(a),
  );

  const transfers: PieceTransfer[] = [];
  for (const need of needs) {
    const { target, atom, inNode, elsewhere } = need;
    const { model } = target.wanted;
    const whole = book.space(model).atoms[atom]!;
    const layers = whole.layerEnd - whole.layerStart;
    const bytes = bytesOf(need);
    const choices = inNode.length + elsewhere.length;
    const parts = choices < 2 ? 1 : Math.min(layers, Math.ceil((bytes / shardBytes(book, target)) * PARTS_PER_SHARD));
    let last = null as PieceTransfer | null;
    for (let part = 0; part < parts; part++) {
      const piece: Piece = {
        ...whole,
        layerStart: whole.layerStart + Math.floor((layers * part) / parts),
        layerEnd: whole.layerStart + Math.floor((layers * (part + 1)) / parts),
      };
      const partBytes = (bytes / layers) * (piece.layerEnd - piece.layerStart);
      const source = leastLoaded(cluster, nodeOf, inNode, elsewhere, loads, target.gpu);
      loads.add(source, target.gpu, partBytes);
      if (last && sameSource(last.source, source)) {
        last = { ...last, piece: { ...last.piece, layerEnd: piece.layerEnd }, bytes: last.bytes + partBytes };
        transfers[transfers.length - 1] = last;
      } else {
        last = { source, targetGpu: target.gpu, model, piece, bytes: partBytes };
        transfers.push(last);
      }
    }
  }
  return transfers;
}

/** The boxes of a transfer, tensor by tensor. */
export function boxTransfers(shards: ShardBook, { source, targetGpu, model, piece }: PieceTransfer): Transfer[] {
  return boxesOf(shards.model(model), piece).map((box) => ({ source, targetGpu, ...box }));
}

function shardBytes(book: AtomBook, { wanted }: FillTarget): number {
  const { bytes } = book.space(wanted.model);
  return book.atomsOf(wanted).reduce((sum, atom) => sum + bytes[atom]!, 0);
}

function holdersByAtom(book: AtomBook, readable: ReadonlyMap<number, Holding>): Map<string, number[][]> {
  const holders = new Map<string, number[][]>();
  for (const [gpu, holding] of readable) {
    let ofModel = holders.get(holding.model);
    if (!ofModel) {
      ofModel = book.space(holding.model).atoms.map(() => []);
      holders.set(holding.model, ofModel);
    }
    for (const atom of book.atomsOf(holding)) ofModel[atom]!.push(gpu);
  }
  return holders;
}

/** Ties go to the GPU listed first. */
function leastLoaded(
  cluster: Cluster,
  nodeOf: Int32Array,
  inNode: readonly number[],
  elsewhere: readonly number[],
  loads: PortLoads,
  targetGpu: number,
): TransferSource {
  let best = -1;
  let bestLoad = Number.POSITIVE_INFINITY;
  for (const gpu of inNode) {
    if (loads.gpuOut[gpu]! < bestLoad) {
      best = gpu;
      bestLoad = loads.gpuOut[gpu]!;
    }
  }
  if (best < 0) {
    for (const gpu of elsewhere) {
      const node = nodeOf[gpu]!;
      const load = loads.netOut[node]! / cluster.nodes[node]!.networkBytesPerSecond;
      if (load < bestLoad) {
        best = gpu;
        bestLoad = load;
      }
    }
  }
  return best < 0 ? { kind: 'host', nodeIndex: nodeOf[targetGpu]! } : { kind: 'gpu', gpu: best };
}

const sameSource = (a: TransferSource, b: TransferSource): boolean =>
  a.kind === 'gpu' ? b.kind === 'gpu' && a.gpu === b.gpu : b.kind === 'host';
