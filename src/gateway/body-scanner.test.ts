import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { RequestError } from '../core/domain/index.ts';
import { scanJsonObject } from './body-scanner.ts';

const scanText = (text: string) => scanJsonObject(Buffer.from(text));
const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** What the scanner found, read back through JSON.parse. */
function readBack(text: string): Map<string, unknown> {
  const { body, fields } = scanText(text);
  return new Map([...fields].map(([key, { start, end }]) => [key, JSON.parse(body.toString('utf8', start, end))]));
}

/** JSON text of a value with random white space and some characters written as escapes. */
const loosely = (text: string, seed: number): string => {
  let state = seed | 1;
  const dice = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
  let inString = false;
  let out = '';
  for (let i = 0; i < text.length; i++) {
    const c = text[i]!;
    if (inString && c === '\\') {
      out += c + text[++i];
      continue;
    }
    if (c === '"') inString = !inString;
    else if (inString && !/[\ud800-\udfff]/.test(c) && dice() < 0.1) {
      out += `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`;
      continue;
    } else if (!inString && /[{}[\],:]/.test(c)) {
      out += dice() < 0.3 ? ` \n${c}\t ` : c;
      continue;
    }
    out += c;
  }
  return out;
};

describe('scanJsonObject', () => {
  test('finds the same members as JSON.parse in random objects with escapes, space and duplicates', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.string({ unit: 'grapheme' }), fc.jsonValue()), { maxLength: 8 }),
        fc.nat(),
        (members, seed) => {
          const text = loosely(
            `{${members.map(([k, v]) => `${JSON.stringify(k)}:${JSON.stringify(v)}`).join(',')}}`,
            seed,
          );
          const expected = JSON.parse(text) as Record<string, unknown>;
          const found = readBack(text);
          expect([...found.keys()].sort()).toEqual(Object.keys(expected).sort());
          for (const [key, value] of found) expect(value).toEqual(expected[key]);
        },
      ),
    );
  });

  test('accepts exactly what JSON.parse accepts when bytes are changed, dropped or doubled', () => {
    const base = '{"model":"a\\u00e9\\n","n":-1.5e+3,"stop":["x",null,true,{"k":[false,0]}],"stream":true}';
    fc.assert(
      fc.property(
        fc.nat(base.length),
        fc.nat(2),
        fc.constantFrom(...'{}[]",:0-.eE+tfnu\\ \u0001é1'),
        (place, what, c) => {
          const text = base.slice(0, place) + (what === 2 ? '' : c) + base.slice(what === 1 ? place : place + 1);
          let expected: unknown;
          try {
            expected = JSON.parse(text);
          } catch {
            expected = undefined;
          }
          if (isObject(expected)) expect(Object.fromEntries(readBack(text))).toEqual(expected);
          else expect(() => scanText(text)).toThrow(RequestError);
        },
      ),
      { numRuns: 3000 },
    );
  });

  test('a byte order mark is dropped, other encodings and broken UTF-8 are refused', () => {
    expect(scanText('\uFEFF{"a":1}').fields.get('a')).toMatchObject({ kind: 'number', start: 5, end: 6 });
    expect(() => scanJsonObject(Buffer.from('{"a":1}', 'utf16le'))).toThrow(/JSON/);
    expect(() => scanJsonObject(Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d]))).toThrow(/UTF-8/);
  });

  test('only an object is a body, and only one', () => {
    for (const text of [
      '',
      ' ',
      '[]',
      '"a"',
      '1',
      'null',
      '{}{}',
      '{} x',
      '{"a":1,}',
      "{'a':1}",
      '{"a":01}',
      '{"a":.5}',
    ]) {
      expect(() => scanText(text), text).toThrow(RequestError);
    }
    expect(scanText(' {} ').fields.size).toBe(0);
  });

  test('counts text as UTF-8 bytes, whether escaped or not, and numbers and arrays', () => {
    const { fields } = scanText('{"messages":[{"role":"user","content":"\\u4f60好\\n"}],"prompt":[[1,2],[3]]}');
    expect(fields.get('messages')).toMatchObject({ textBytes: 4 + 3 + 3 + 1, stringCount: 2, arrayCount: 1 });
    expect(fields.get('prompt')).toMatchObject({ numberCount: 3, arrayCount: 3, stringCount: 0 });
  });

  test('nesting beyond the limit is refused instead of exhausting the stack', () => {
    const nested = (depth: number) => `{"a":${'['.repeat(depth)}${']'.repeat(depth)}}`;
    expect(scanText(nested(400)).fields.get('a')?.arrayCount).toBe(400);
    expect(() => scanText(nested(100_000))).toThrow(/nesting/);
  });
});
