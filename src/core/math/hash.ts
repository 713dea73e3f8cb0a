// Hashes of texts and numbers: seeds of named random streams, and noise that is a pure function of its key (the same
// replica in the same second always has the same noise, whoever asks, in whatever order). Two 32-bit multiply-xor lanes
// in the manner of MurmurHash3's mixing; not for secrets.

export type Hashable = string | number;

const doubles = new Float64Array(1);
const words = new Uint32Array(doubles.buffer);

/** Two 32-bit lanes of the hash of all parts so far. Reused between calls: read them before the next one. */
const lanes = new Uint32Array(2);

function absorb(word: number): void {
  let a = lanes[0]!;
  let b = lanes[1]!;
  a = Math.imul(a ^ word, 0x9e3779b1);
  a = Math.imul((a << 13) | (a >>> 19), 5) + 0xe6546b64;
  b = Math.imul(b ^ word, 0x85ebca77);
  b = Math.imul((b << 15) | (b >>> 17), 3) + 0x52dce729;
  lanes[0] = a ^ (b >>> 16);
  lanes[1] = b ^ (a >>> 16);
}

function finish(): void {
  let a = lanes[0]!;
  let b = lanes[1]!;
  a = Math.imul(a ^ (a >>> 16), 0x85ebca6b) ^ Math.imul(b ^ (b >>> 13), 0xc2b2ae35);
  b = Math.imul(b ^ (b >>> 16), 0x85ebca6b) ^ Math.imul(a ^ (a >>> 13), 0xc2b2ae35);
  lanes[0] = a ^ (a >>> 15);
  lanes[1] = b ^ (b >>> 15);
}

function begin(): void {
  lanes[0] = 0x243f6a88;
  lanes[1] = 0x85a308d3;
}

// A part is its kind, its content and its length, so that ('ab', 'c') ≠ ('a', 'bc') and 1 ≠ '1'.
function absorbPart(part: Hashable): void {
  if (typeof part === 'number') {
    doubles[0] = part === 0 ? 0 : part; // −0 is 0
    absorb(1);
    absorb(words[0]!);
    absorb(words[1]!);
    return;
  }
  absorb(2);
  for (let i = 0; i < part.length; i++) absorb(part.charCodeAt(i));
  absorb(part.length);
}

/** 64 hashed bits as two unsigned 32-bit words. */
export function hashWords(...parts: readonly Hashable[]): [high: number, low: number] {
  begin();
  for (const part of parts) absorbPart(part);
  finish();
  return [lanes[0]!, lanes[1]!];
}

/** Uniform in [0, 1) as a pure function of the parts, with 53 bits. */
export function hashUnit(...parts: readonly Hashable[]): number {
  begin();
  for (let i = 0; i < parts.length; i++) absorbPart(parts[i]!);
  finish();
  return unitOf(lanes[0]!, lanes[1]!);
}

/** A double in [0, 1) from 53 of 64 random bits. */
export const unitOf = (high: number, low: number): number => ((high >>> 5) * 67108864 + (low >>> 6)) / 9007199254740992;
