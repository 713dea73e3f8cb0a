// Which deployments are allowed at all: what packs into the nodes, and what was asked for by model.
//
// A replica no larger than a node lies inside one node; a larger one takes whole nodes that have lost no GPU. For a size
// s, a replica of g GPUs holds floor(g / s) units of s, and a node of n GPUs has floor(n / s) of them; counting units gives
// one row per size. These rows always hold, and when each size divides the next larger one they suffice (packing greedily
// uses up exactly these units). For other sizes (3 and 6 in nodes of 8) a packing is searched as well.
import { gpusOf, InfeasibleError, invariant } from '../domain/index.ts';
import { packIntoBins } from '../math/index.ts';
import type { DeploymentProblem } from './search-problem.ts';

const NO_LIMIT = 2 ** 30;

/** Σ coefficient × count ≤ limit. */
export interface PackingRow {
  readonly coefficients: Float64Array;
  readonly limit: number;
}

/** lower ≤ Σ counts of `classes` ≤ upper. */
export interface CountRow {
  readonly classes: readonly number[];
  readonly lower: number;
  readonly upper: number;
}

interface GpuKindNodes {
  readonly nodeSize: number;
  readonly capacities: readonly number[];
  /** Nodes of the largest size that have lost nothing. */
  readonly intactCount: number;
  readonly classes: readonly number[];
  /** Distinct replica sizes that fit inside a node. */
  readonly sizes: readonly number[];
  readonly rowsSuffice: boolean;
}

export class DeploymentSpace {
  readonly problem: DeploymentProblem;
  readonly classCount: number;
  /** GPUs of one replica of each class. */
  readonly gpus: Int32Array;
  readonly packingRows: readonly PackingRow[];
  readonly countRows: readonly CountRow[];
  /** Classes by model, models in order of first appearance. */
  readonly classesByModel: ReadonlyMap<string, readonly number[]>;
  readonly lower: Int32Array;
  readonly upper: Int32Array;
  readonly #kinds: readonly GpuKindNodes[];

  /** @throws {@link InfeasibleError} when what is asked for cannot fit. */
  constructor(problem: DeploymentProblem) {
    const { classes, nodes, holdsFullLength, limits = {}, pinnedCounts } = problem;
    this.problem = problem;
    this.classCount = classes.length;
    invariant(
      problem.serviceRate.length === classes.length * problem.arrivalRate.length,
      'service rates are classes × types',
    );
    invariant(holdsFullLength.length === classes.length, 'one flag per class');
    this.gpus = Int32Array.from(classes, ({ strategy }) => gpusOf(strategy));

    const kindNames = [...new Set(classes.map(({ gpuKind }) => gpuKind))];
    this.#kinds = kindNames.map((name) => {
      const own = nodes.filter((node) => node.gpuKind === name);
      const nodeSize = own.reduce((most, node) => Math.max(most, node.gpuCount), 0);
      const ownClasses = classes.flatMap(({ gpuKind }, k) => (gpuKind === name ? [k] : []));
      const sizes = [...new Set(ownClasses.map((k) => this.gpus[k]!))]
        .filter((g) => g <= nodeSize)
        .sort((a, b) => b - a);
      return {
        nodeSize,
        capacities: own.map((node) => node.usableCount),
        intactCount: own.filter((node) => node.gpuCount === nodeSize && node.usableCount === nodeSize).length,
        classes: ownClasses,
        sizes,
        rowsSuffice: sizes.every((size, i) => i === 0 || sizes[i - 1]! % size === 0),
      };
    });
    this.packingRows = this.#kinds.flatMap((kind) => this.#rowsOf(kind));

    this.lower = Int32Array.from({ length: classes.length }, (_, k) => pinnedCounts?.[k] ?? 0);
    this.upper = Int32Array.from({ length: classes.length }, (_, k) =>
      this.packingRows.reduce((most, { coefficients, limit }) => {
        const units = coefficients[k]!;
        return units > 0 ? Math.min(most, Math.floor(limit / units)) : most;
      }, NO_LIMIT),
    );
    const byModel = new Map<string, number[]>();
    classes.forEach(({ model }, k) => {
      const own = byModel.get(model);
      if (own) own.push(k);
      else byModel.set(model, [k]);
    });
    this.classesByModel = byModel;
    this.countRows = [...byModel].flatMap(([model, own]) => {
      const { minReplicas = 0, maxReplicas = Number.POSITIVE_INFINITY } = limits[model] ?? {};
      const full = own.filter((k) => holdsFullLength[k]);
      const rows: CountRow[] = [{ classes: full, lower: 1, upper: Number.POSITIVE_INFINITY }];
      if (minReplicas > 1 || maxReplicas < Number.POSITIVE_INFINITY) {
        rows.push({ classes: own, lower: minReplicas, upper: maxReplicas });
      }
      return rows;
    });
    this.#refuseTheImpossible();
  }

  /** Every model has what it must have, and everything lies in the nodes. */
  isAllowed(counts: ArrayLike<number>): boolean {
    for (let k = 0; k < this.classCount; k++) {
      if (counts[k]! < this.lower[k]! || counts[k]! > this.upper[k]!) return false;
    }
    for (const { classes, lower, upper } of this.countRows) {
      let sum = 0;
      for (const k of classes) sum += counts[k]!;
      if (sum < lower || sum > upper) return false;
    }
    return this.packs(counts);
  }

  /** Everything lies in the nodes, and no model has too many replicas. Whoever is refused is refused with more as well. */
  fits(counts: ArrayLike<number>): boolean {
    for (const { classes, upper } of this.countRows) {
      let sum = 0;
      for (const k of classes) sum += counts[k]!;
      if (sum > upper) return false;
    }
    return this.packs(counts);
  }

  packs(counts: ArrayLike<number>): boolean {
    for (const { coefficients, limit } of this.packingRows) {
      let units = 0;
      for (let k = 0; k < coefficients.length; k++) units += coefficients[k]! * counts[k]!;
      if (units > limit) return false;
    }
    return this.#kinds.every((kind) => kind.rowsSuffice || this.#findsPacking(kind, counts));
  }

  /** GPUs that a deployment takes, without the idle rest of nodes. */
  gpusUsed(counts: ArrayLike<number>): number {
    let used = 0;
    for (let k = 0; k < this.classCount; k++) used += counts[k]! * this.gpus[k]!;
    return used;
  }

  #rowsOf({ nodeSize, capacities, intactCount, classes, sizes }: GpuKindNodes): PackingRow[] {
    const rows: PackingRow[] = [];
    const total = capacities.reduce((sum, capacity) => sum + capacity, 0);
    for (const size of new Set([1, ...sizes])) {
      // Where every node is a whole number of units, the row follows from the one for single GPUs.
      if (size > 1 && capacities.every((capacity) => capacity % size === 0)) continue;
      const coefficients = new Float64Array(this.classCount);
      for (const k of classes) {
        const g = this.gpus[k]!;
        coefficients[k] = g <= nodeSize ? Math.floor(g / size) : Math.ceil(g / nodeSize) * Math.floor(nodeSize / size);
      }
      const limit = size === 1 ? total : capacities.reduce((sum, capacity) => sum + Math.floor(capacity / size), 0);
      rows.push({ coefficients, limit });
    }
    if (classes.some((k) => this.gpus[k]! > nodeSize)) {
      const coefficients = new Float64Array(this.classCount);
      for (const k of classes) if (this.gpus[k]! > nodeSize) coefficients[k] = Math.ceil(this.gpus[k]! / nodeSize);
      rows.push({ coefficients, limit: intactCount });
    }
    return rows;
  }

  #findsPacking({ nodeSize, capacities, classes, sizes }: GpuKindNodes, counts: ArrayLike<number>): boolean {
    let wholeNodes = 0;
    const bySize = new Int32Array(sizes.length);
    for (const k of classes) {
      const g = this.gpus[k]!;
      if (g > nodeSize) wholeNodes += counts[k]! * Math.ceil(g / nodeSize);
      else bySize[sizes.indexOf(g)] = bySize[sizes.indexOf(g)]! + counts[k]!;
    }
    const left = [...capacities].sort((a, b) => b - a).slice(wholeNodes);
    return packIntoBins(sizes, bySize, left) !== null;
  }

  #refuseTheImpossible(): void {
    const { classes, nodes } = this.problem;
    const usable = nodes.reduce((sum, node) => sum + node.usableCount, 0);
    for (const [model, own] of this.classesByModel) {
      if (!own.some((k) => this.problem.holdsFullLength[k] && this.upper[k]! > 0)) {
        throw new InfeasibleError(
          `No kind of replica on ${usable} usable GPUs holds a request of ${model}'s full length.`,
          { hint: `Lower maxModelLen of ${model}, allow larger replicas, or add GPUs.` },
        );
      }
    }
    const tooMany = classes.findIndex((_, k) => this.lower[k]! > this.upper[k]!);
    if (tooMany >= 0) {
      const { model } = classes[tooMany]!;
      throw new InfeasibleError(
        `${this.lower[tooMany]} pinned replicas of ${model} with ${this.gpus[tooMany]} GPUs each do not fit: at most ${this.upper[tooMany]} do.`,
        { hint: 'Unpin replicas or add GPUs.' },
      );
    }
  }
}
