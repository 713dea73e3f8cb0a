// Sends requests so that every class of replicas gets its share of each workload type (deficit round robin), and inside
// a class to the least loaded replica.
//
// Each type keeps one credit per class. A request adds its share to every class that could take it, and the class with
// the most credit pays 1 and gets the request. Credits of a type sum to 0 and each stays above -1 (the payer held at
// least the mean, which is positive after adding), so none can reach K - 1: any prefix stays near its shares, whatever
// the order of requests. A type is a guess at arrival; shares are mixed by the posterior, and the credit is kept in the
// row of the most probable type, so that long and short requests do not pay for each other.
import type { Assignment, RequestView } from '../domain/index.ts';
import { NestedConfinement } from './nested-confinement.ts';
import {
  claimedTokens,
  leastLoaded,
  type ReplicaLoads,
  ReplicasByModel,
  type Router,
  type RouterReplica,
} from './router.ts';

/** Shares below this are noise of the linear program. */
const NO_SHARE = 1e-9;

/** Replica groups of one model: `from..to` into the groups. */
interface GroupRange {
  readonly from: number;
  readonly to: number;
}

export class ShareRouter implements Router {
  readonly #replicas: readonly RouterReplica[];
  readonly #byModel: ReplicasByModel;
  readonly #nested: NestedConfinement | null;
  readonly #typeIds: readonly string[];
  readonly #groupKeys: readonly string[];
  readonly #groupsOf = new Map<string, GroupRange>();
  /** Replica indices, group by group; group g is members[start[g] .. start[g + 1]). */
  readonly #members: Int32Array;
  readonly #start: Int32Array;
  /** Longest request that some replica of the group holds, tokens. */
  readonly #longest: Float64Array;
  /** J × G, rows sum to at most 1: what lacks went to classes that take no requests now. */
  readonly #share: Float64Array;
  /** J × G. */
  readonly #credit: Float64Array;
  /** G, of the request being routed. */
  readonly #mix: Float64Array;

  constructor(assignment: Assignment, replicas: readonly RouterReplica[]) {
    this.#replicas = replicas;
    this.#byModel = new ReplicasByModel(replicas);
    this.#nested = assignment.variant.kind === 'nested' ? new NestedConfinement(assignment.variant, replicas) : null;
    this.#typeIds = assignment.typeIds;

    // Groups lie model by model, so that a request looks only at its own model's.
    const keys: string[] = [];
    const members: number[] = [];
    const start: number[] = [];
    for (const model of this.#byModel.models()) {
      const from = keys.length;
      const own = this.#byModel.of(model);
      const classKeys = [...new Set(Array.from(own, (index) => replicas[index]!.classKey))];
      for (const key of classKeys) {
        keys.push(key);
        start.push(members.length);
        for (const index of own) if (replicas[index]!.classKey === key) members.push(index);
      }
      this.#groupsOf.set(model, { from, to: keys.length });
    }
    this.#groupKeys = keys;
    this.#members = Int32Array.from(members);
    this.#start = Int32Array.from([...start, members.length]);
    this.#longest = Float64Array.from(keys, (_, group) =>
      Math.max(...members.slice(start[group], start[group + 1]).map((index) => replicas[index]!.maxModelLen)),
    );
    this.#share = groupShares(assignment, keys);
    this.#credit = new Float64Array(this.#share.length);
    this.#mix = new Float64Array(keys.length);
  }

  /**
   * Takes over the credits of the router that this one replaces, by type and class. Without it, a table that is replaced
   * more often than requests of a type arrive would send every one of them to the class with the largest share.
   */
  inherit(previous: ShareRouter): this {
    const groups = this.#groupKeys.length;
    const oldGroups = previous.#groupKeys.length;
    this.#typeIds.forEach((typeId, type) => {
      const oldType = previous.#typeIds.indexOf(typeId);
      if (oldType < 0) return;
      this.#groupKeys.forEach((key, group) => {
        const oldGroup = previous.#groupKeys.indexOf(key);
        if (oldGroup >= 0) this.#credit[type * groups + group] = previous.#credit[oldType * oldGroups + oldGroup]!;
      });
      for (const range of this.#groupsOf.values()) settle(this.#credit, type * groups + range.from, range);
    });
    return this;
  }

  choose(view: RequestView, posterior: ArrayLike<number>, loads: ReplicaLoads): number {
    if (this.#nested !== null) return this.#nested.choose(view, loads);
    const range = this.#groupsOf.get(view.model);
    if (range === undefined) return -1;
    const need = claimedTokens(view);
    const groups = this.#groupKeys.length;
    const types = Math.min(posterior.length, this.#typeIds.length);

    let likeliest = 0;
    for (let type = 1; type < types; type++) if (posterior[type]! > posterior[likeliest]!) likeliest = type;
    let total = 0;
    for (let group = range.from; group < range.to; group++) {
      let mixed = 0;
      if (this.#longest[group]! >= need) {
        for (let type = 0; type < types; type++) mixed += posterior[type]! * this.#share[type * groups + group]!;
      }
      this.#mix[group] = mixed;
      total += mixed;
    }
    if (!(total > NO_SHARE)) {
      // No class with a share takes it now (switch under way, unknown type): any replica that fits.
      const own = this.#byModel.of(view.model);
      return leastLoaded(this.#replicas, own, 0, own.length, need, loads);
    }

    const row = likeliest * groups;
    let payer = -1;
    for (let group = range.from; group < range.to; group++) {
      const mixed = this.#mix[group]! / total;
      if (mixed <= NO_SHARE) continue;
      this.#credit[row + group] = this.#credit[row + group]! + mixed;
      if (payer < 0 || this.#credit[row + group]! > this.#credit[row + payer]!) payer = group;
    }
    this.#credit[row + payer] = this.#credit[row + payer]! - 1;
    return leastLoaded(this.#replicas, this.#members, this.#start[payer]!, this.#start[payer + 1]!, need, loads);
  }
}

/** Shares by group of replicas that are there, J × G; each type's row is scaled by its sum over all classes. */
function groupShares(assignment: Assignment, groupKeys: readonly string[]): Float64Array {
  const shares = new Float64Array(assignment.typeIds.length * groupKeys.length);
  assignment.share.forEach((row, type) => {
    const sum = row.reduce((total, share) => total + share, 0);
    if (sum <= NO_SHARE) return;
    groupKeys.forEach((key, group) => {
      const index = assignment.classKeys.indexOf(key);
      if (index >= 0) shares[type * groupKeys.length + group] = row[index]! / sum;
    });
  });
  return shares;
}

/** Makes inherited credits of one model sum to 0 again after classes came or went. */
function settle(credit: Float64Array, offset: number, range: GroupRange): void {
  const count = range.to - range.from;
  let sum = 0;
  for (let i = 0; i < count; i++) sum += credit[offset + i]!;
  for (let i = 0; i < count; i++) credit[offset + i] = credit[offset + i]! - sum / count;
}
