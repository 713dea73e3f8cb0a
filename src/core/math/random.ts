// Seeded random streams that split by name. The generator is xoshiro128++ (Blackman, Vigna 2019), whose 32-bit steps are
// exact in JavaScript; a stream's seed is the hash of its parent's seed and its name, so that forking depends on neither
// how much was drawn before nor on the order of forks: one more draw here moves nothing there.
import { hashWords, unitOf } from './hash.ts';

/** The shape of the domain's `Random`, said again because mathematics imports nothing of ours. */
export interface Random {
  /** Uniform in [0, 1). */
  next(): number;
  /** An independent stream; equal seed and equal name give equal draws. */
  fork(name: string): Random;
}

/** A stream of its own for each seed; texts and numbers are both welcome, and 1 is not '1'. */
export function random(seed: number | string): Random {
  return new Xoshiro(hashWords('seed', seed));
}

class Xoshiro implements Random {
  readonly #seed: readonly [number, number];
  #a: number;
  #b: number;
  #c: number;
  #d: number;

  constructor(seed: readonly [number, number]) {
    this.#seed = seed;
    const [a, b] = hashWords(seed[0], seed[1], 'first half');
    const [c, d] = hashWords(seed[0], seed[1], 'second half');
    this.#a = a | 0;
    this.#b = b | 0;
    this.#c = c | 0;
    this.#d = d | 0 || 1; // the all-zero state is the one that never leaves itself
  }

  next(): number {
    const high = this.#word();
    return unitOf(high, this.#word());
  }

  fork(name: string): Random {
    return new Xoshiro(hashWords(this.#seed[0], this.#seed[1], name));
  }

  #word(): number {
    const sum = (this.#a + this.#d) | 0;
    const result = (((sum << 7) | (sum >>> 25)) + this.#a) >>> 0;
    const shifted = this.#b << 9;
    this.#c ^= this.#a;
    this.#d ^= this.#b;
    this.#b ^= this.#c;
    this.#a ^= this.#d;
    this.#c ^= shifted;
    this.#d = (this.#d << 11) | (this.#d >>> 21);
    return result;
  }
}
