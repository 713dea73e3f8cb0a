// In which order components change. Waves come one after the other, so that what has not changed yet, or has changed
// already, keeps serving and can be read from:
//   first those that only add replicas (nothing is lost by them), then those that replace, a bounded share of the GPUs at
//   a time, and last those that only take replicas away (their weights stay readable as long as possible).
import type { PlacedReplica } from '../domain/index.ts';

export interface Change {
  readonly leaving: readonly PlacedReplica[];
  readonly arriving: readonly PlacedReplica[];
}

/**
 * Orders changes into waves.
 *
 * @param standing - replicas that serve throughout.
 * @param mostGpus - GPUs that may be out of service at once; a single larger change still gets a wave of its own.
 */
export function orderInWaves<T extends Change>(
  changes: readonly T[],
  standing: readonly PlacedReplica[],
  mostGpus: number,
): T[][] {
  const waves: T[][] = [];
  const adding = changes.filter(({ leaving }) => leaving.length === 0);
  const removing = changes.filter(({ arriving }) => arriving.length === 0);
  let waiting = changes.filter(({ leaving, arriving }) => leaving.length > 0 && arriving.length > 0);
  if (adding.length > 0) waves.push(adding);
  /** Serving now, beside the leaving replicas of changes that wait. */
  const serving = [...standing, ...adding.flatMap(({ arriving }) => arriving)];

  while (waiting.length > 0) {
    const wave: T[] = [];
    let gpus = 0;
    for (;;) {
      const candidates = waiting.filter(
        (change) => !wave.includes(change) && (wave.length === 0 || gpus + gpusTaken(change) <= mostGpus),
      );
      const next = best(candidates, (change) => {
        const down = [...wave, change];
        const others = waiting.filter((other) => !down.includes(other));
        const alive = new Set(
          [...serving, ...[...others, ...removing].flatMap(({ leaving }) => leaving)].map(({ model }) => model),
        );
        // Models that nobody serves meanwhile; then models whose last copy goes before another change has read it.
        const served = new Set(down.flatMap(({ leaving }) => leaving.map(({ model }) => model)));
        const dark = [...served].filter((model) => !alive.has(model)).length;
        const after = new Set([...alive, ...down.flatMap(({ arriving }) => arriving.map(({ model }) => model))]);
        const needed = new Set(others.flatMap(({ arriving }) => arriving.map(({ model }) => model)));
        const lost = [...needed].filter((model) => served.has(model) && !after.has(model)).length;
        return [dark, lost, gpusTaken(change)];
      });
      if (!next || (wave.length > 0 && next.score[0]! + next.score[1]! > 0)) break;
      wave.push(next.change);
      gpus += gpusTaken(next.change);
    }
    waves.push(wave);
    waiting = waiting.filter((change) => !wave.includes(change));
    serving.push(...wave.flatMap(({ arriving }) => arriving));
  }
  if (removing.length > 0) waves.push(removing);
  return waves;
}

const gpusTaken = ({ leaving }: Change): number => leaving.reduce((sum, { gpus }) => sum + gpus.length, 0);

/** Smallest score, compared entry by entry; of equals the first. */
function best<T>(candidates: readonly T[], scoreOf: (candidate: T) => readonly number[]) {
  let found: { change: T; score: readonly number[] } | null = null;
  for (const change of candidates) {
    const score = scoreOf(change);
    const difference = found ? score.map((value, i) => value - found!.score[i]!).find((d) => d !== 0) : -1;
    if (difference !== undefined && difference < 0) found = { change, score };
  }
  return found;
}
