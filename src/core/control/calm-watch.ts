// Each look at the same two deployments is another chance for luck to make one look better. A pool that is looked at
// every minute would in the end switch for a gain that is hardly there, and some day back, though nothing changed. So a
// small gain needs a cause: it is taken soon after the traffic changed, or not at all. A large gain is always taken.

/** Looks at unchanged traffic in which a small gain may be found: the first ten minutes of slow ticks. */
const LOOKS = 10;
/** The traffic changed when its load on the pool left this range around what it was. */
const CHANGED_SHARE = 0.25;
/** What a switch must gain in calm traffic, in multiples of the usual margin. */
const CALM_MARGINS = 4;

export class CalmWatch {
  #load = Number.NaN;
  #looks = 0;

  /**
   * To be called once a slow tick.
   *
   * @param load - forecast work on the pool, 1 = all that the present deployment can do. It changes with a switch too, so
   *   each switch may be corrected for as long.
   * @returns how many times the usual margin a switch must gain now.
   */
  look(load: number): number {
    if (!(Math.abs(load / this.#load - 1) <= CHANGED_SHARE)) {
      this.#load = load;
      this.#looks = 0;
    }
    this.#looks += 1;
    return this.#looks <= LOOKS ? 1 : CALM_MARGINS;
  }

  /** Something else changed: other GPUs, requests of another kind. */
  changed(): void {
    this.#looks = 0;
  }
}
