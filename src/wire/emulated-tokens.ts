// The language of emulated models: which token follows which prefix, and how tokens look as text. The next token is a
// hash of the whole prefix, so an answer that goes on elsewhere is identical, and one lost or repeated token changes all
// that follows. The emulated engine speaks it; `replay` and the tests check it. Integers below 2^53 only: exact and fast.

export const EMULATED_VOCABULARY = 32000;
/** Ids below are special tokens (unknown, begin, end): never part of an answer's text. */
export const FIRST_ORDINARY_TOKEN = 3;
/** Without a stated length, an answer ends after this many tokens on average. */
export const EMULATED_MEAN_OUTPUT_TOKENS = 200;

/** Prefixes up to this length have states of their own; no model's context is longer. */
const MOST_POSITIONS = 2 ** 20;
const HASHES = 2 ** 32;

/** State of an empty prefix. A state is position × 2^32 + hash, an exact integer below 2^53. */
export const startState = (): number => 0x2545f491;

/**
 * State after one more token. The hash is MurmurHash3's body over (position, token): for each of them a permutation.
 * The position keeps long answers from running in circles, which 32 bits alone would do after some 2^16 tokens.
 */
export function fold(state: number, token: number): number {
  const position = Math.floor(state / HASHES);
  let k = Math.imul(token + 1 + Math.imul(position, 0x9e3779b1), 0xcc9e2d51);
  k = Math.imul((k << 15) | (k >>> 17), 0x1b873593);
  const mixed = state ^ k;
  const hash = (Math.imul((mixed << 13) | (mixed >>> 19), 5) + 0xe6546b64) >>> 0;
  return ((position + 1) % MOST_POSITIONS) * HASHES + hash;
}

export function foldAll(state: number, tokens: ArrayLike<number>): number {
  let folded = state;
  for (let i = 0; i < tokens.length; i++) folded = fold(folded, tokens[i]!);
  return folded;
}

/** The token that follows the prefix with this state. */
export const nextToken = (state: number): number =>
  FIRST_ORDINARY_TOKEN + (scramble(state) % (EMULATED_VOCABULARY - FIRST_ORDINARY_TOKEN));

/** Whether an answer of no stated length ends after the prefix with this state. */
export const isEndOfSequence = (state: number): boolean =>
  scramble(state ^ 0x5bd1e995) % EMULATED_MEAN_OUTPUT_TOKENS === 0;

/** MurmurHash3's finaliser over the hash of a state: unsigned 32 bits. */
function scramble(state: number): number {
  let h = state | 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

// One token is a space and one to three syllables (its id in base 100); some carry an accent, so that text has
// characters of more than one byte. A character never crosses two tokens.
const CONSONANTS = 'bcdfghjklmnpqrstvwxz';
const VOWELS = 'aeiou';
const ACCENTED = 'áéíóú';
const ACCENT_EVERY = 16;

const texts = new Array<string | undefined>(EMULATED_VOCABULARY);

/** Text of a token, with its leading space; special tokens have none. */
export function tokenText(token: number): string {
  const known = texts[token];
  if (known !== undefined) return known;
  const text = token < FIRST_ORDINARY_TOKEN || token >= EMULATED_VOCABULARY ? '' : spell(token);
  if (token < EMULATED_VOCABULARY) texts[token] = text;
  return text;
}

function spell(token: number): string {
  let rest = token;
  let word = '';
  do {
    const syllable = rest % 100;
    const accent = word === '' && token % ACCENT_EVERY === 0;
    word += CONSONANTS[Math.floor(syllable / 5)]! + (accent ? ACCENTED : VOWELS)[syllable % 5]!;
    rest = Math.floor(rest / 100);
  } while (rest > 0);
  return ` ${word}`;
}

/** Pieces of any text: a word with at most one space before it, one digit, one other character, a run of white space. */
const PIECES = / ?\p{L}+| ?\p{N}|[^\s\p{L}\p{N}]|\s+/gu;

/**
 * Token ids of a text. Text made of {@link tokenText} gives back its tokens; other words become a token for every four
 * letters, hashed from their letters.
 */
export function tokenize(text: string): number[] {
  const tokens: number[] = [];
  for (const [piece] of text.matchAll(PIECES)) {
    const token = read(piece);
    if (token >= 0) {
      tokens.push(token);
      continue;
    }
    const letters = [...piece];
    for (let i = 0; i < letters.length; i += 4) {
      let state = startState();
      for (const letter of letters.slice(i, i + 4)) state = fold(state, letter.codePointAt(0)!);
      tokens.push(nextToken(state));
    }
  }
  return tokens;
}

/** The token that spells exactly this piece (the leading space may be missing), or -1. */
function read(piece: string): number {
  const word = piece.startsWith(' ') ? piece.slice(1) : piece;
  if (word.length % 2 !== 0 || word.length < 2 || word.length > 6) return -1;
  let token = 0;
  for (let i = word.length - 2; i >= 0; i -= 2) {
    const consonant = CONSONANTS.indexOf(word[i]!);
    const vowel = Math.max(VOWELS.indexOf(word[i + 1]!), ACCENTED.indexOf(word[i + 1]!));
    if (consonant < 0 || vowel < 0) return -1;
    token = token * 100 + consonant * 5 + vowel;
  }
  return token >= FIRST_ORDINARY_TOKEN && token < EMULATED_VOCABULARY && spell(token).slice(1) === word ? token : -1;
}
