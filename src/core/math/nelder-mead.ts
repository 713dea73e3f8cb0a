// Nelder and Mead's downhill simplex (1965): minimises a function of a few variables without derivatives. Deterministic.

export interface NelderMeadOptions {
  /** Edge of the first simplex, per variable. */
  readonly step?: number;
  readonly maxEvaluations?: number;
  /** Ends when all corners are this near to the best one, in value and in every variable. */
  readonly tolerance?: number;
}

/** @returns the best point found and its value. */
export function nelderMead(
  f: (x: readonly number[]) => number,
  start: readonly number[],
  { step = 0.25, maxEvaluations = 400 * start.length, tolerance = 1e-10 }: NelderMeadOptions = {},
): { readonly x: readonly number[]; readonly value: number } {
  const n = start.length;
  let evaluations = 0;
  const at = (x: readonly number[]) => {
    evaluations++;
    return { x, value: f(x) };
  };
  const corners = [at(start), ...start.map((_, i) => at(start.map((v, j) => (i === j ? v + step : v))))];
  const sort = () => corners.sort((a, b) => a.value - b.value);
  sort();
  // Equal values alone do not mean that the bottom is found: corners may stand on either side of it.
  const isSpread = () =>
    corners[n]!.value - corners[0]!.value > tolerance ||
    corners.some((corner) => corner.x.some((v, j) => Math.abs(v - corners[0]!.x[j]!) > tolerance));
  while (evaluations < maxEvaluations && isSpread()) {
    const worst = corners[n]!;
    const centre = start.map((_, j) => corners.slice(0, n).reduce((sum, c) => sum + c.x[j]!, 0) / n);
    // The point on the line from the worst corner through the centre of the others; 1 is the mirror image.
    const along = (t: number) => at(centre.map((c, j) => c + t * (c - worst.x[j]!)));
    const mirrored = along(1);
    if (mirrored.value < corners[0]!.value) {
      const further = along(2);
      corners[n] = further.value < mirrored.value ? further : mirrored;
    } else if (mirrored.value < corners[n - 1]!.value) {
      corners[n] = mirrored;
    } else {
      const nearer = along(mirrored.value < worst.value ? 0.5 : -0.5);
      if (nearer.value < Math.min(mirrored.value, worst.value)) corners[n] = nearer;
      else
        for (let i = 1; i <= n; i++) {
          corners[i] = at(corners[i]!.x.map((v, j) => corners[0]!.x[j]! + 0.5 * (v - corners[0]!.x[j]!)));
        }
    }
    sort();
  }
  return corners[0]!;
}
