// The house rules that no linter knows. A checker that sees nothing is green too, so each rule is also shown something
// wrong that it must catch.
import { execFileSync } from 'node:child_process';
import { statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { describe, expect, test } from 'vitest';
import { listSettings } from '../src/host/config/index.ts';
import { cruise, cruiseFiles } from './support/tidy/cruise.ts';
import { isSource, isTest, listFiles, root, type TextFile } from './support/tidy/files.ts';
import { impurities } from './support/tidy/purity.ts';
import { styleProblems } from './support/tidy/style.ts';

const files = listFiles();
const sources = files.filter(({ path }) => isSource(path));
const code = files.filter(({ path }) => /\.(ts|mjs|js|cjs)$/.test(path));
/** The checks themselves have to name what they forbid. */
const isChecker = (path: string): boolean => path === 'test/tidy.test.ts' || path.startsWith('test/support/tidy/');

/** Paths that match, with the line, as a list that reads well when a test fails. */
function findLines(where: readonly TextFile[], pattern: RegExp): string[] {
  return where.flatMap(({ path, text }) =>
    text.split('\n').flatMap((line, index) => (pattern.test(line) ? [`${path}:${index + 1}: ${line.trim()}`] : [])),
  );
}

describe('imports', () => {
  test('every source file was looked at, and no import points the wrong way', async () => {
    const { modules, violations } = await cruise();
    expect(sources.length).toBeGreaterThan(50);
    expect([...modules].sort()).toEqual(sources.map(({ path }) => path).sort());
    expect(violations).toEqual([]);
  });

  const other = 'export const other = 1;\n';
  const imports = (path: string) => `import { other } from '${path}';\nexport const own = other;\n`;
  /** A rule, and files that break it together. */
  const wrong: readonly (readonly [rule: string, files: Readonly<Record<string, string>>])[] = [
    [
      'no-cycles',
      {
        'src/core/math/circle.ts': imports('./circle-back.ts'),
        'src/core/math/circle-back.ts': "import { own } from './circle.ts';\nexport const other: number = own;\n",
      },
    ],
    ['domain-and-math-import-nothing-of-ours', { 'src/core/math/uses-domain.ts': imports('../domain/index.ts') }],
    ['stages-do-not-know-each-other', { 'src/core/predict/uses-routing.ts': imports('../routing/index.ts') }],
    ['core-knows-only-core', { 'src/core/control/uses-world.ts': imports('../../world/index.ts') }],
    [
      'core-imports-no-builtin-and-no-package',
      { 'src/core/replica/reads.ts': "import { readFileSync } from 'node:fs';\nexport const own = readFileSync;\n" },
    ],
    [
      'core-imports-no-builtin-and-no-package',
      { 'src/core/replica/checks.ts': "import { z } from 'zod';\nexport const own = z;\n" },
    ],
    ['world-knows-only-core', { 'src/world/uses-host.ts': imports('../host/index.ts') }],
    ['wire-knows-only-domain', { 'src/wire/uses-math.ts': imports('../core/math/index.ts') }],
    ['rims-meet-in-host-only', { 'src/gateway/uses-agent.ts': imports('../agent/index.ts') }],
    ['host-does-not-know-the-rims', { 'src/host/uses-gateway.ts': imports('../gateway/index.ts') }],
    ['enter-a-folder-through-its-index', { 'src/host/reaches-in.ts': imports('../core/math/inside.ts') }],
    ['cli-is-imported-by-nobody', { 'src/agent/uses-cli.ts': imports('../cli/index.ts') }],
  ];
  const neighbours = Object.fromEntries(
    ['core/domain', 'core/math', 'core/routing', 'world', 'host', 'gateway', 'agent', 'cli', 'wire'].map((folder) => [
      `src/${folder}/index.ts`,
      other,
    ]),
  );

  test('each import rule catches a wrong file, and none complains about right ones', async () => {
    const rules = createRequire(import.meta.url)('../.dependency-cruiser.cjs') as { forbidden: { name: string }[] };
    expect(new Set(wrong.map(([rule]) => rule))).toEqual(new Set(rules.forbidden.map(({ name }) => name)));

    const right = { ...neighbours, 'src/core/math/inside.ts': other };
    const clean = await cruiseFiles(right);
    expect(clean.modules.length).toBe(Object.keys(right).length);
    expect(clean.violations).toEqual([]);

    const { violations } = await cruiseFiles(Object.assign({}, right, ...wrong.map(([, wrongFiles]) => wrongFiles)));
    const missed = wrong.filter(
      ([rule, wrongFiles]) => !violations.some((found) => found.rule === rule && found.from in wrongFiles),
    );
    expect(missed).toEqual([]);
  });
});

describe('the core is pure', () => {
  test('it touches no clock, no dice, no timer and nothing of the process', () => {
    const core = sources.filter(({ path }) => path.startsWith('src/core/') && !isTest(path));
    expect(core.length).toBeGreaterThan(20);
    expect(core.flatMap(({ path, text }) => impurities(path, text).map((what) => `${path}:${what}`))).toEqual([]);
  });

  test.each([
    'const now = Date.now();',
    'const now = new Date();',
    'const time = performance.now();',
    'const dice = Math.random();',
    'const dice = Math["random"]();',
    'setTimeout(() => {}, 1);',
    'globalThis.console.log(1);',
    'const home = process.env.HOME;',
    'console.log(1);',
    'const bytes = Buffer.alloc(1);',
    'const page = await fetch("x");',
    'const fs = await import("node:fs");',
    'const here = import.meta.url;',
    'const fs = require("fs");',
  ])('%s is found', (line) => {
    expect(impurities('wrong.ts', line)).not.toEqual([]);
  });

  test.each([
    'const log = record.console;',
    'const x = { process: 1 };',
    'Math.max(1, 2);',
    'interface A { Date: number }',
  ])('%s is allowed', (line) => {
    expect(impurities('right.ts', line)).toEqual([]);
  });
});

describe('files', () => {
  /** Named exceptions, with the reason. */
  const LONG_FILES: Readonly<Record<string, string>> = {
    'src/core/replica/replica-engine.ts': 'one hot scheduler step over shared typed arrays',
    'src/gateway/exchange.ts': 'one request from arrival to last byte, with every way that it can go wrong',
    'src/gateway/gateway.test.ts': 'the whole API of the gateway against one harness',
  };

  test('a file has at most 400 lines (a test or benchmark 600), unless it is named here with a reason', () => {
    const mostLines = (path: string): number => (isTest(path) || /^(test|bench)\//.test(path) ? 600 : 400);
    const long = code.filter(({ path, text }) => text.trimEnd().split('\n').length > mostLines(path));
    const paths = long.map(({ path }) => path);
    expect(paths.filter((path) => !LONG_FILES[path])).toEqual([]);
    expect(Object.keys(LONG_FILES).filter((path) => !paths.includes(path))).toEqual([]);
  });

  test('names are in kebab case, and a test lies beside what it tests', () => {
    expect(code.map(({ path }) => path).filter((path) => !/^[a-z0-9./-]+$/.test(path))).toEqual([]);
    const paths = new Set(files.map(({ path }) => path));
    const astray = sources
      .filter(({ path }) => isTest(path))
      .filter(({ path }) => ![...paths].some((other) => other !== path && folderOf(other) === folderOf(path)));
    expect(astray).toEqual([]);
  });

  test('every file of code opens with what it is for', () => {
    const silent = code.filter(({ path, text }) => !isTest(path) && !/^(#!.*\n)?(\/\/|\/\*)/.test(text));
    const configs = /^[^/]+\.config\.ts$/;
    expect(silent.map(({ path }) => path).filter((path) => !configs.test(path))).toEqual([]);
  });

  test('each folder of the core and of the rim is entered through an index.ts and has tests', () => {
    const folders = new Set(sources.map(({ path }) => path.match(/^src\/(core\/[^/]+|[^/]+)\//)?.[1]).filter(Boolean));
    for (const folder of folders) {
      const inside = sources.filter(({ path }) => path.startsWith(`src/${folder}/`));
      if (folder !== 'cli') expect(inside.map(({ path }) => path)).toContain(`src/${folder}/index.ts`);
      if (folder !== 'core/domain')
        expect(
          inside.some(({ path }) => isTest(path)),
          `tests in ${folder}`,
        ).toBe(true);
    }
  });

  test('the program can be executed', () => {
    expect(statSync(`${root}bin/oserve.js`).mode & 0o111).toBe(0o111);
    expect(statSync(`${root}.ci/run`).mode & 0o111).toBe(0o111);
  });
});

const folderOf = (path: string): string => path.slice(0, path.lastIndexOf('/'));

describe('words', () => {
  const texts = files.filter(({ path }) => !isChecker(path) && path !== 'package-lock.json' && path !== 'LICENSE');

  test('nothing says that it is unfinished', () => {
    const words = /\b(TODO|FIXME|XXX|HACK|WIP|TBD)\b|\b(placeholder|stubbed|not (yet )?implemented|lorem ipsum)\b/i;
    expect(findLines(texts, words)).toEqual([]);
    expect(findLines([{ path: 'x', text: '// todo: later' }], words)).toHaveLength(1);
  });

  test('no test is switched off or alone', () => {
    const off = /\b(test|it|describe)\.(only|skip|todo|fails)\(/;
    expect(
      findLines(
        code.filter(({ path }) => !isChecker(path)),
        off,
      ),
    ).toEqual([]);
    expect(findLines([{ path: 'x', text: "test.skip('a', run)" }], off)).toHaveLength(1);
  });

  test('no path of somebody’s machine', () => {
    const absolute = /(^|[\s'"`(=:])\/(work|home|root|Users|opt|mnt|private)\//;
    expect(findLines(texts, absolute)).toEqual([]);
    expect(findLines([{ path: 'x', text: "read('/home/a/b')" }], absolute)).toHaveLength(1);
  });

  test('one word per idea (style: names and units)', () => {
    const wrongNames = /\b(goodputPerSecond|qps|latencyMs|throughputPerSecond|timeToFirstToken[A-Z]?)\b/;
    expect(findLines(sources, wrongNames)).toEqual([]);
  });

  test('nothing that a scan of the syntax can see goes against the style guide', () => {
    expect(sources.flatMap(({ path, text }) => styleProblems(path, text).map((what) => `${path}:${what}`))).toEqual([]);
  });

  test.each([
    ['a default export', 'src/x.ts', 'export default 1;\n'],
    ['an enum', 'src/x.ts', 'enum A { B }\n'],
    ['an any', 'src/x.ts', 'const a: any = 1;\n'],
    ['an import without .ts', 'src/x.ts', "import { a } from './a';\n"],
    ['an import with .js', 'src/x.ts', "import { a } from './a.js';\n"],
    ['an unordered compiler escape', 'src/x.ts', '// @ts-ignore\n'],
    ['a unit test that sleeps', 'src/x.test.ts', 'await new Promise((done) => setTimeout(done, 100));\n'],
    ['a unit test that looks at the clock', 'src/x.test.ts', 'expect(performance.now()).toBeLessThan(5);\n'],
    ['a caught error that is dropped', 'src/x.ts', 'try { a(); } catch {}\n'],
  ])('%s is found', (_what, path, text) => {
    expect(styleProblems(path, text)).not.toEqual([]);
  });
});

describe('the package', () => {
  const packageJson = JSON.parse(files.find(({ path }) => path === 'package.json')!.text) as {
    dependencies: Record<string, string>;
    devDependencies: Record<string, string>;
  };

  test('dependencies have exact versions', () => {
    for (const [name, version] of Object.entries({ ...packageJson.dependencies, ...packageJson.devDependencies })) {
      expect(version, name).toMatch(/^\d+\.\d+\.\d+$/);
    }
  });

  test('the lock names no registry and has every platform’s packages, so that `npm ci` accepts it anywhere', () => {
    const lock = JSON.parse(files.find(({ path }) => path === 'package-lock.json')!.text) as {
      packages: Record<string, { resolved?: string; optionalDependencies?: Record<string, string> }>;
    };
    expect(Object.entries(lock.packages).filter(([, entry]) => entry.resolved)).toEqual([]);
    const missing = Object.values(lock.packages)
      .flatMap((entry) => Object.keys(entry.optionalDependencies ?? {}))
      .filter((name) => !lock.packages[`node_modules/${name}`]);
    expect(missing).toEqual([]);
  });

  test('no data file of the shared folder is committed', () => {
    expect(
      files
        .map(({ path }) => path)
        .filter((path) => /\.(csv|gz|jsonl|parquet)$/.test(path) && !path.startsWith(`examples/`)),
    ).toEqual([]);
  });
});

describe('configuration', () => {
  test('every setting is read somewhere', () => {
    const readers = sources.filter(({ path }) => !isTest(path) && path !== 'src/host/config/schema.ts');
    const names = listSettings().map(({ path }) => path.split(/[.[\]]+/).at(-1)!);
    expect(names.length).toBeGreaterThan(50);
    const unread = names.filter((name) => !readers.some(({ text }) => new RegExp(`\\b${name}\\b`).test(text)));
    expect(unread).toEqual([]);
  });
});

describe('error codes', () => {
  test('every code that src/ gives is described in docs/reference/errors.md', () => {
    const output = execFileSync(process.execPath, [`${root}scripts/error-codes.mjs`], { encoding: 'utf8' });
    const codes = output.trim().split('\n');
    expect(codes).toContain('config_invalid');
    const page = files.find(({ path }) => path === 'docs/reference/errors.md')!.text;
    expect(codes.filter((name) => !page.includes(`| \`${name}\` |`))).toEqual([]);
  });
});
