import fc from 'fast-check';
import { expect, test } from 'vitest';
import { editDistance, nearestWord } from './nearest.ts';
import { renderConfigReference } from './reference.ts';
import { configSchema } from './schema.ts';
import { configJsonSchema, environmentName, knownKeys, listSettings } from './settings.ts';

test('every setting has a sentence, and every number has a unit or says what it counts', () => {
  const settings = listSettings();
  expect(settings.length).toBeGreaterThan(50);
  for (const setting of settings) {
    expect(setting.description, setting.path).not.toBe('');
    const named = /Seconds|Bytes|Tokens|Share$/.test(setting.path);
    if (named && setting.type.includes('number')) expect(setting.unit, setting.path).not.toBe('');
  }
});

test('no two settings share an environment variable', () => {
  const names = listSettings().map(({ path }) => environmentName(path));
  expect(new Set(names).size).toBe(names.length);
});

test('the defaults shown are the defaults used', () => {
  const parsed: unknown = configSchema.parse({});
  for (const { path, default: shown } of listSettings()) {
    if (path.includes('[]')) continue;
    const used = path.split('.').reduce<unknown>((value, key) => (value as Record<string, unknown>)[key], parsed);
    if (shown !== undefined && path !== 'models') expect(used, path).toEqual(shown);
  }
});

test('the reference page has a row for every setting', () => {
  const page = renderConfigReference();
  for (const { path } of listSettings()) expect(page).toContain(`| \`${path}\` |`);
});

test('objects of the JSON Schema refuse unknown keys, down to items of lists', () => {
  const check = (schema: ReturnType<typeof configJsonSchema>): void => {
    if (schema.properties) {
      expect(schema).toMatchObject({ additionalProperties: false });
      Object.values(schema.properties).forEach(check);
    }
    if (schema.items) check(schema.items);
  };
  check(configJsonSchema());
  expect(knownKeys(['models', 0, 'slo'])).toEqual(['ttftSeconds', 'ttftSecondsPerInputToken', 'tpotSeconds']);
});

test('the edit distance is a metric, and one slip of the finger costs one', () => {
  const word = fc.string({ unit: fc.constantFrom('a', 'b', 'c'), maxLength: 6 });
  fc.assert(
    fc.property(word, word, (a, b) => {
      expect(editDistance(a, b)).toBe(editDistance(b, a));
      expect(editDistance(a, b) === 0).toBe(a === b);
      expect(editDistance(a, b)).toBeGreaterThanOrEqual(Math.abs(a.length - b.length));
      expect(editDistance(a, b)).toBeLessThanOrEqual(Math.max(a.length, b.length));
    }),
  );
  expect(editDistance('prot', 'port')).toBe(1);
  expect(nearestWord('Gatway', ['gateway', 'cluster'])).toBe('gateway');
  expect(nearestWord('zzzzzz', ['gateway', 'cluster'])).toBeNull();
});
