// From one placed deployment to the next: which replicas go and come, what each newcomer's way up is, where its bytes
// come from, and in which order everything happens. Components (replicas that share GPUs) change in waves; inside a
// component there are three handovers, the first that fits:
//
//   fill-first    (old and new fit side by side)   wake → fill → verify → admit, then drain old → park
//   after-fill    (their weights do, without KV)   drain old → wake → fill from what lies there → park old → verify → admit
//   before-wake   (what agents do that take        drain old → park → wake → fill from elsewhere → verify → admit
//                  weights and KV cache at once)
//
// A component's own old weights are a source only where they stay until the fill has ended. Where the last copy of some
// bytes would be overwritten before it is read, the bytes come from host memory: components are ordered to avoid that.
import {
  ConfigError,
  classKey,
  gpuCountOf,
  invariant,
  nodeIndexByGpu,
  type PlacedReplica,
  type ReplicaId,
  type Rung,
  type SwitchAction,
  SwitchError,
  type SwitchPlan,
  type SwitchStep,
} from '../domain/index.ts';
import { componentsOf } from './components.ts';
import { type Holding, holdingByGpu, holdingOf, ShardBook } from './holdings.ts';
import { lowerBoundSeconds } from './lower-bound.ts';
import { type Handover, MemoryCheck, sameLayout } from './memory-check.ts';
import { inOrder, restoreSteps, secondsFromFirstDrain } from './step-times.ts';
import type { SwitchRequest } from './switch-request.ts';
import { AtomBook, type FillTarget, greedyTransfers, type PieceTransfer, PortLoads } from './transfers.ts';
import { orderInWaves } from './waves.ts';

interface PlannedChange {
  readonly leaving: readonly PlacedReplica[];
  readonly arriving: readonly PlacedReplica[];
  readonly handover: Handover;
}

/** A plan with the transfers behind its fills, wave by wave. */
export interface DetailedPlan {
  readonly plan: SwitchPlan;
  readonly waves: readonly {
    readonly arriving: readonly PlacedReplica[];
    /** What each GPU that can be read from holds during the fills. */
    readonly readable: ReadonlyMap<number, Holding>;
    readonly targets: readonly FillTarget[];
    readonly transfers: readonly PieceTransfer[];
  }[];
  readonly shards: ShardBook;
}

/**
 * Plans a switch.
 *
 * @throws {@link ConfigError} for a planner that does not exist yet, {@link InfeasibleError} when a replica does not
 *   fit its GPUs, {@link SwitchError} when some bytes are nowhere to be had.
 */
export const planSwitch = (request: SwitchRequest): SwitchPlan => planSwitchInDetail(request).plan;

export function planSwitchInDetail(request: SwitchRequest): DetailedPlan {
  if (request.planner !== 'greedy') {
    throw new ConfigError(`The planner "${request.planner}" is not part of this version.`, {
      hint: 'Use --planner greedy.',
    });
  }
  return new Planner(request).plan();
}

class Planner {
  readonly #request: SwitchRequest;
  readonly #shards: ShardBook;
  readonly #atoms: AtomBook;
  readonly #memory: MemoryCheck;
  readonly #lost: ReadonlySet<number>;
  readonly #to: readonly PlacedReplica[];
  readonly #kept: readonly PlacedReplica[];
  readonly #leaving: readonly PlacedReplica[];
  readonly #arriving: readonly PlacedReplica[];
  readonly #rungs = new Map<ReplicaId, Rung>();
  readonly #steps: SwitchStep[] = [];
  readonly #loads: PortLoads;

  constructor(request: SwitchRequest) {
    this.#request = request;
    const { cluster, models, from, engine, costs } = request;
    this.#shards = new ShardBook(models);
    this.#memory = new MemoryCheck(cluster, this.#shards, engine, costs, request.parkedReserveBytes ?? 0);
    this.#lost = new Set(request.lostGpus ?? []);
    for (const replica of from) this.#memory.checkAlone(replica);
    this.#to = request.to.map((replica) => this.#asItStands(replica));
    const stays = (replica: PlacedReplica) =>
      from.some((old) => old.id === replica.id && sameLayout(old, replica)) && !this.#isLost(replica);
    this.#kept = this.#to.filter(stays);
    this.#arriving = this.#to.filter((replica) => !stays(replica));
    this.#leaving = from.filter((old) => !this.#kept.some(({ id }) => id === old.id));
    for (const { id, gpus } of this.#arriving) {
      invariant(!this.#leaving.some((old) => old.id === id), `replica ${id} does not change its layout under its id`);
      const lost = gpus.find((gpu) => this.#lost.has(gpu));
      invariant(lost === undefined, `replica ${id} is not placed on lost GPU ${lost}`);
    }
    const holdings = [...holdingByGpu(from).values(), ...holdingByGpu(this.#to).values()];
    this.#atoms = new AtomBook(this.#shards, holdings);
    this.#loads = new PortLoads(cluster);
  }

  plan(): DetailedPlan {
    const { id, cluster, from } = this.#request;
    const changes = componentsOf(this.#leaving, this.#arriving).map((component) =>
      this.#withHandover(
        component.leaving.map((i) => this.#leaving[i]!),
        component.arriving.map((i) => this.#arriving[i]!),
      ),
    );
    const { mostUnavailableShare: share = 0.25 } = this.#request;
    const waves = orderInWaves(changes, this.#kept, Math.floor(share * gpuCountOf(cluster)));

    const detailed: DetailedPlan['waves'][number][] = [];
    let before: readonly number[] = [];
    waves.forEach((wave, index) => {
      const filled = this.#planFills(wave, waves.slice(0, index), waves.slice(index + 1));
      detailed.push(filled);
      const first = this.#steps.length;
      for (const change of wave) this.#addSteps(change, filled, before);
      this.#holdReadableUntilRead(wave, filled, first);
      before = this.#steps.map((_, i) => i).slice(first);
    });

    const steps = inOrder(this.#steps);
    const links = this.#loads.links();
    const alive = from.filter((replica) => !this.#isLost(replica));
    const plan: SwitchPlan = {
      id,
      from,
      to: this.#to,
      kept: this.#kept.map((replica) => replica.id),
      leaving: this.#leaving,
      arriving: this.#arriving.map((replica) => ({ replica, rung: this.#rungs.get(replica.id)! })),
      steps,
      restore: [...this.#leaving, ...this.#arriving].flatMap((replica) =>
        restoreSteps(replica, this.#shardBytes(replica), this.#request.costs),
      ),
      bytes: links.reduce((sum, { bytes }) => sum + bytes, 0),
      links,
      seconds: secondsFromFirstDrain(steps),
      lowerBoundSeconds: lowerBoundSeconds(cluster, this.#atoms, holdingByGpu(alive), holdingByGpu(this.#arriving)),
    };
    return { plan, waves: detailed, shards: this.#shards };
  }

  #isLost({ gpus }: PlacedReplica): boolean {
    return gpus.some((gpu) => this.#lost.has(gpu));
  }

  /** On the GPUs of a standing replica, or of a parked layout, of its class, a replica takes their order of ranks. */
  #asItStands(replica: PlacedReplica): PlacedReplica {
    const sameGpus = (other: { readonly gpus: readonly number[] }) =>
      other.gpus.length === replica.gpus.length && other.gpus.every((gpu) => replica.gpus.includes(gpu));
    const standing = this.#request.from.find((old) => classKey(old) === classKey(replica) && sameGpus(old));
    if (standing) return standing;
    const parked = this.#request.parkedLayouts.filter((old) => classKey(old) === classKey(replica) && sameGpus(old));
    if (parked.length === 0 || parked.some((layout) => sameLayout(layout, replica))) return replica;
    return { ...replica, gpus: parked[0]!.gpus };
  }

  #withHandover(leaving: readonly PlacedReplica[], arriving: readonly PlacedReplica[]): PlannedChange {
    const parked = this.#request.parkedLayouts;
    for (const replica of arriving) {
      this.#memory.checkAlone(replica);
      this.#memory.checkBesideParked(replica, parked);
    }
    const living = leaving.filter((replica) => !this.#isLost(replica));
    const wanted: Handover[] =
      this.#request.oldWeightsLeave === 'after-fill' ? ['fill-first', 'after-fill'] : ['fill-first'];
    const handover = wanted.find((each) => this.#memory.fits(each, living, arriving, parked)) ?? 'before-wake';
    return { leaving, arriving, handover };
  }

  /** Rungs and sources of a wave. Everything that is readable now stays so until these fills have ended. */
  #planFills(
    wave: readonly PlannedChange[],
    earlier: readonly (readonly PlannedChange[])[],
    later: readonly (readonly PlannedChange[])[],
  ): DetailedPlan['waves'][number] {
    const stillThere = wave.flatMap(({ handover, leaving }) => (handover === 'before-wake' ? [] : leaving));
    const unchanged = later.flat().flatMap(({ leaving }) => leaving);
    const changed = earlier.flat().flatMap(({ arriving }) => arriving);
    const sources = [...this.#kept, ...unchanged, ...stillThere].filter((replica) => !this.#isLost(replica));
    const readable = holdingByGpu([...sources, ...changed]);
    const local = holdingByGpu(stillThere.filter((replica) => !this.#isLost(replica)));
    const arriving = wave.flatMap((change) => change.arriving);
    const available = this.#availableBytes(readable);

    const targets: FillTarget[] = [];
    for (const replica of arriving) {
      const rung = this.#rungOf(replica, available);
      this.#rungs.set(replica.id, rung);
      if (rung === 'wake' || rung === 'cold') continue;
      for (const [gpu, wanted] of holdingByGpu([replica])) targets.push({ gpu, wanted, local: local.get(gpu) ?? null });
    }
    // Fills of a wave share the ports; so do they in the plan's totals.
    const transfers = greedyTransfers(
      this.#request.cluster,
      this.#atoms,
      targets,
      readable,
      new PortLoads(this.#request.cluster),
    );
    for (const { source, targetGpu, bytes } of transfers) this.#loads.add(source, targetGpu, bytes);
    return { arriving, readable, targets, transfers };
  }

  /** Models of which every byte is on some readable GPU. */
  #availableBytes(readable: ReadonlyMap<number, Holding>): ReadonlySet<string> {
    const seen = new Map<string, Set<number>>();
    for (const holding of readable.values()) {
      const atoms = seen.get(holding.model) ?? new Set();
      seen.set(holding.model, atoms);
      for (const atom of this.#atoms.atomsOf(holding)) atoms.add(atom);
    }
    return new Set(
      [...seen].filter(([model, atoms]) => atoms.size === this.#atoms.space(model).atoms.length).map(([m]) => m),
    );
  }

  /** The cheapest way up that is there. */
  #rungOf(replica: PlacedReplica, available: ReadonlySet<string>): Rung {
    const { parkedLayouts, rungs, hostCache = true } = this.#request;
    const may = (rung: Rung) => rungs === undefined || rungs.includes(rung);
    const parked = parkedLayouts.find((layout) => sameLayout(layout, replica));
    if (parked?.holdsWeights && may('wake')) return 'wake';
    const filled = hostCache || available.has(replica.model);
    if (parked && filled && may('parked-fill')) return 'parked-fill';
    if (filled && may('new-process')) return 'new-process';
    if (may('cold')) return 'cold';
    throw new SwitchError(
      `${replica.model} on GPUs ${replica.gpus.join(', ')} cannot come up: allowed are ${rungs?.join(', ')}, and ${
        filled ? 'no layout of it is parked there' : 'no GPU and no host memory holds all of its weights'
      }.`,
      { hint: 'Allow the rung "new-process" or "cold".' },
    );
  }

  #addSteps(change: PlannedChange, filled: DetailedPlan['waves'][number], before: readonly number[]): void {
    const { leaving, arriving, handover } = change;
    const sharing = (
      replica: PlacedReplica,
      indexOf: ReadonlyMap<ReplicaId, number>,
      others: readonly PlacedReplica[],
    ) =>
      others.flatMap((other) => {
        const index = indexOf.get(other.id);
        return index !== undefined && other.gpus.some((gpu) => replica.gpus.includes(gpu)) ? [index] : [];
      });
    const drained = new Map<ReplicaId, number>();
    const gone = new Map<ReplicaId, number>();
    const up = new Map<ReplicaId, number>();
    const drain = (old: PlacedReplica, after: readonly number[]) =>
      drained.set(old.id, this.#add(old, 'drain', this.#request.costs.drainSeconds, after));
    const putAway = (old: PlacedReplica, after: readonly number[]) => {
      const parkable = this.#memory.parkable(
        old,
        this.#to,
        this.#request.parkedLayouts,
        this.#request.mostParkedLayouts ?? Number.POSITIVE_INFINITY,
      );
      gone.set(
        old.id,
        parkable ? this.#add(old, 'park', this.#request.costs.parkSeconds, after) : this.#add(old, 'release', 0, after),
      );
    };
    const orBefore = (indices: readonly number[]) => (indices.length > 0 ? indices : before);

    // What was lost with its GPU cannot drain; it is released where its other GPUs are wanted.
    const living = leaving.filter((old) => !this.#isLost(old));
    for (const old of leaving) {
      const wanted = arriving.some(({ gpus }) => gpus.some((gpu) => old.gpus.includes(gpu)));
      if (this.#isLost(old) && wanted) gone.set(old.id, this.#add(old, 'release', 0, before));
    }
    switch (handover) {
      case 'fill-first':
        for (const replica of arriving) {
          const filledAt = this.#bringUp(replica, filled, orBefore(sharing(replica, gone, leaving)));
          up.set(replica.id, this.#letIn(replica, [filledAt]));
        }
        for (const old of living) {
          drain(old, orBefore(sharing(old, up, arriving)));
          putAway(old, [drained.get(old.id)!]);
        }
        return;
      case 'after-fill': {
        for (const old of living) drain(old, before);
        for (const replica of arriving) {
          const after = orBefore([...sharing(replica, drained, living), ...sharing(replica, gone, leaving)]);
          up.set(replica.id, this.#bringUp(replica, filled, after));
        }
        for (const old of living) putAway(old, [drained.get(old.id)!, ...sharing(old, up, arriving)]);
        for (const replica of arriving) {
          this.#letIn(replica, [up.get(replica.id)!, ...sharing(replica, gone, leaving)]);
        }
        return;
      }
      case 'before-wake':
        for (const old of living) {
          drain(old, before);
          putAway(old, [drained.get(old.id)!]);
        }
        for (const replica of arriving) {
          this.#letIn(replica, [this.#bringUp(replica, filled, orBefore(sharing(replica, gone, leaving)))]);
        }
    }
  }

  /** From nothing, or parked, to filled. Returns the index of its last step. */
  #bringUp(replica: PlacedReplica, filled: DetailedPlan['waves'][number], after: readonly number[]): number {
    const { costs } = this.#request;
    const rung = this.#rungs.get(replica.id)!;
    let last = after;
    if (rung === 'new-process' || rung === 'cold') last = [this.#add(replica, 'create', costs.newProcessSeconds, last)];
    last = [this.#add(replica, 'wake', costs.wakeSeconds, last)];
    return this.#addFill(replica, rung, filled, last);
  }

  #letIn(replica: PlacedReplica, after: readonly number[]): number {
    return this.#add(replica, 'admit', 0, [this.#add(replica, 'verify', this.#request.costs.verifySeconds, after)]);
  }

  #addFill(
    replica: PlacedReplica,
    rung: Rung,
    filled: DetailedPlan['waves'][number],
    after: readonly number[],
  ): number {
    const { cluster, costs } = this.#request;
    if (rung === 'cold') {
      // From disk through host memory, at the pace of a cold start.
      const bytes = this.#weightBytes(replica);
      const nodeOf = nodeIndexByGpu(cluster);
      for (const [gpu, wanted] of holdingByGpu([replica])) {
        this.#loads.add({ kind: 'host', nodeIndex: nodeOf[gpu]! }, gpu, this.#shards.bytes(wanted));
      }
      const seconds = Math.max(0, costs.coldSeconds - costs.newProcessSeconds);
      return this.#add(replica, 'fill', seconds, after, bytes, 'host');
    }
    const waveLoads = new PortLoads(cluster);
    for (const { source, targetGpu, bytes } of filled.transfers) waveLoads.add(source, targetGpu, bytes);
    const own = filled.transfers.filter(({ targetGpu }) => replica.gpus.includes(targetGpu));
    const seconds = own.reduce(
      (most, { source, targetGpu }) => Math.max(most, waveLoads.secondsInto(targetGpu, source)),
      0,
    );
    const bytes = own.reduce((sum, transfer) => sum + transfer.bytes, 0);
    const fromHost = rung === 'wake' || own.some(({ source }) => source.kind === 'host');
    return this.#add(replica, 'fill', seconds, after, bytes, fromHost ? 'host' : 'peers');
  }

  /** Old replicas whose weights are read in this wave, also by other components, go only after those fills. */
  #holdReadableUntilRead(wave: readonly PlannedChange[], filled: DetailedPlan['waves'][number], first: number): void {
    const readers = new Map<number, Set<number>>();
    const fillOf = new Map<number, number>();
    this.#steps.forEach(({ action, replica }, index) => {
      if (index < first || action !== 'fill') return;
      for (const gpu of filled.arriving.find(({ id }) => id === replica)!.gpus) fillOf.set(gpu, index);
    });
    for (const { source, targetGpu } of filled.transfers) {
      if (source.kind !== 'gpu') continue;
      readers.set(source.gpu, (readers.get(source.gpu) ?? new Set()).add(fillOf.get(targetGpu)!));
    }
    const leaving = wave.flatMap((change) => change.leaving);
    for (let i = first; i < this.#steps.length; i++) {
      const step = this.#steps[i]!;
      if (step.action !== 'park' && step.action !== 'release') continue;
      const gpus = leaving.find(({ id }) => id === step.replica)?.gpus ?? [];
      const after = new Set([...step.after, ...gpus.flatMap((gpu) => [...(readers.get(gpu) ?? [])])]);
      this.#steps[i] = { ...step, after: [...after].sort((a, b) => a - b) };
    }
  }

  /** By rank. */
  #shardBytes({ model, strategy, gpus }: PlacedReplica): number[] {
    return gpus.map((_, rank) => this.#shards.bytes(holdingOf(model, strategy, rank)));
  }

  #weightBytes(replica: PlacedReplica): number {
    return this.#shardBytes(replica).reduce((sum, bytes) => sum + bytes, 0);
  }

  #add(
    replica: PlacedReplica,
    action: SwitchAction,
    seconds: number,
    after: readonly number[],
    bytes = 0,
    source?: 'host' | 'peers',
  ): number {
    const step = { replica: replica.id, action, seconds, after: [...after], bytes, ...(source && { source }) };
    return this.#steps.push(step) - 1;
  }
}
