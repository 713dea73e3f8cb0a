// Finds the top-level fields of a JSON object in raw bytes without building values: a request body is read once, byte
// by byte, checked against the whole JSON grammar, and forwarded as it came. A body of 200 kB costs a fraction of a
// millisecond and no garbage. Accepts exactly what JSON.parse accepts, given valid UTF-8 and an object at the top.
import { isUtf8 } from 'node:buffer';
import { RequestError } from '../core/domain/index.ts';

export type JsonKind = 'string' | 'number' | 'true' | 'false' | 'null' | 'array' | 'object';

/** One top-level member; `start` and `end` delimit its value in the body. */
export interface JsonField {
  readonly kind: JsonKind;
  readonly start: number;
  readonly end: number;
  /** Bytes of all strings inside the value that are not keys, as UTF-8 (escapes counted as what they stand for). */
  readonly textBytes: number;
  /** Strings that are not keys, and numbers, anywhere inside the value. */
  readonly stringCount: number;
  readonly numberCount: number;
  /** Arrays inside the value, itself included. */
  readonly arrayCount: number;
}

export interface ScannedBody {
  /** The body without a byte order mark; offsets of fields refer to it. */
  readonly body: Buffer;
  /** The last member of each name, as JSON.parse has it. */
  readonly fields: ReadonlyMap<string, JsonField>;
  /** Where a further member would be inserted: the offset of the closing brace. */
  readonly closingBrace: number;
}

/** Deeper nesting is refused: no request needs it, and engines' parsers have limits of their own. */
const MAX_DEPTH = 500;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;

// One scan at a time: the scanner is synchronous, so that its state may live beside it and needs no allocation.
let bytes: Uint8Array = new Uint8Array(0);
let at = 0;
let textBytes = 0;
let stringCount = 0;
let numberCount = 0;
let arrayCount = 0;

/**
 * @throws {@link RequestError} `invalid_json` with the offset of the first byte that is wrong.
 */
export function scanJsonObject(raw: Buffer): ScannedBody {
  const body = raw.length >= 3 && raw[0] === 0xef && raw[1] === 0xbb && raw[2] === 0xbf ? raw.subarray(3) : raw;
  if (!isUtf8(body)) throw new RequestError('invalid_json', 'The request body is not valid UTF-8.');
  bytes = body;
  at = 0;
  const fields = new Map<string, JsonField>();
  skipSpace();
  if (bytes[at] !== 0x7b) fail('a JSON object');
  at++;
  skipSpace();
  if (bytes[at] !== 0x7d) {
    for (;;) {
      const key = readKey(body);
      textBytes = 0;
      stringCount = 0;
      numberCount = 0;
      arrayCount = 0;
      const start = at;
      const kind = skipValue(1);
      fields.set(key, { kind, start, end: at, textBytes, stringCount, numberCount, arrayCount });
      skipSpace();
      if (bytes[at] === 0x7d) break;
      if (bytes[at] !== 0x2c) fail('"," or "}"');
      at++;
      skipSpace();
    }
  }
  const closingBrace = at;
  at++;
  skipSpace();
  if (at !== bytes.length) fail('the end of the body');
  bytes = new Uint8Array(0);
  return { body, fields, closingBrace };
}

function fail(expected: string): never {
  const where = at >= bytes.length ? 'at its end' : `at byte ${at}`;
  throw new RequestError('invalid_json', `The request body is not valid JSON: expected ${expected} ${where}.`);
}

function skipSpace(): void {
  for (;;) {
    const byte = bytes[at];
    if (byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09) return;
    at++;
  }
}

/** Reads `"key" :` and the space after it. */
function readKey(body: Buffer): string {
  if (bytes[at] !== QUOTE) fail('a key');
  const start = at;
  const escapes = skipString();
  const key =
    escapes === 0 ? body.toString('utf8', start + 1, at - 1) : (JSON.parse(body.toString('utf8', start, at)) as string);
  skipColon();
  return key;
}

function skipColon(): void {
  skipSpace();
  if (bytes[at] !== 0x3a) fail('":"');
  at++;
  skipSpace();
}

/**
 * Skips a string, opening quote included.
 *
 * @returns how many bytes longer the escapes are than the UTF-8 that they stand for.
 */
function skipString(): number {
  const source = bytes;
  const end = source.length;
  let i = at + 1;
  let surplus = 0;
  while (i < end) {
    const byte = source[i]!;
    if (byte === QUOTE) {
      at = i + 1;
      return surplus;
    }
    if (byte === BACKSLASH) {
      const length = escapeLength(source, i);
      if (length === 0) {
        at = i;
        fail('a valid escape');
      }
      // \uXXXX stands for at most three bytes of UTF-8, a short escape for one.
      surplus += length === 6 ? 3 : 1;
      i += length;
    } else if (byte < 0x20) {
      at = i;
      fail('no control character in a string');
    } else i++;
  }
  at = end;
  fail('the end of a string');
}

/** Length of the escape that begins at `i`, 0 when it is none. */
function escapeLength(source: Uint8Array, i: number): number {
  switch (source[i + 1]) {
    case 0x22:
    case 0x5c:
    case 0x2f:
    case 0x62:
    case 0x66:
    case 0x6e:
    case 0x72:
    case 0x74:
      return 2;
    case 0x75:
      for (let k = i + 2; k < i + 6; k++) if (!isHex(source[k])) return 0;
      return 6;
    default:
      return 0;
  }
}

const isHex = (byte: number | undefined): boolean =>
  byte !== undefined &&
  ((byte >= 0x30 && byte <= 0x39) || (byte >= 0x41 && byte <= 0x46) || (byte >= 0x61 && byte <= 0x66));

function skipValue(depth: number): JsonKind {
  if (depth > MAX_DEPTH) fail(`at most ${MAX_DEPTH} levels of nesting`);
  switch (bytes[at]) {
    case QUOTE: {
      const start = at;
      const surplus = skipString();
      textBytes += at - start - 2 - surplus;
      stringCount++;
      return 'string';
    }
    case 0x7b:
      return skipObject(depth);
    case 0x5b:
      return skipArray(depth);
    case 0x74:
      return skipWord('true');
    case 0x66:
      return skipWord('false');
    case 0x6e:
      return skipWord('null');
    default:
      skipNumber();
      numberCount++;
      return 'number';
  }
}

function skipObject(depth: number): JsonKind {
  at++;
  skipSpace();
  if (bytes[at] === 0x7d) {
    at++;
    return 'object';
  }
  for (;;) {
    if (bytes[at] !== QUOTE) fail('a key');
    skipString();
    skipColon();
    skipValue(depth + 1);
    skipSpace();
    const byte = bytes[at];
    if (byte !== 0x2c && byte !== 0x7d) fail('"," or "}"');
    at++;
    if (byte === 0x7d) return 'object';
    skipSpace();
  }
}

function skipArray(depth: number): JsonKind {
  arrayCount++;
  at++;
  skipSpace();
  if (bytes[at] === 0x5d) {
    at++;
    return 'array';
  }
  for (;;) {
    skipValue(depth + 1);
    skipSpace();
    const byte = bytes[at];
    if (byte !== 0x2c && byte !== 0x5d) fail('"," or "]"');
    at++;
    if (byte === 0x5d) return 'array';
    skipSpace();
  }
}

function skipWord(word: 'true' | 'false' | 'null'): JsonKind {
  for (let i = 0; i < word.length; i++) if (bytes[at + i] !== word.charCodeAt(i)) fail('a JSON value');
  at += word.length;
  return word;
}

const isDigit = (byte: number | undefined): boolean => byte !== undefined && byte >= 0x30 && byte <= 0x39;

function skipNumber(): void {
  if (bytes[at] === 0x2d) at++;
  if (!isDigit(bytes[at])) fail('a JSON value');
  // A leading zero stands alone.
  if (bytes[at] === 0x30) at++;
  else while (isDigit(bytes[at])) at++;
  if (bytes[at] === 0x2e) {
    at++;
    if (!isDigit(bytes[at])) fail('a digit');
    while (isDigit(bytes[at])) at++;
  }
  if (bytes[at] === 0x65 || bytes[at] === 0x45) {
    at++;
    if (bytes[at] === 0x2b || bytes[at] === 0x2d) at++;
    if (!isDigit(bytes[at])) fail('a digit');
    while (isDigit(bytes[at])) at++;
  }
}
