// Which way imports point (ARCHITECTURE.md). `$1` is the folder an import comes from.
const stages = 'workload|predict|replica|schedule|switching|routing';
const test = '\\.test\\.ts$';
module.exports = {
  forbidden: [
    {
      name: 'no-cycles',
      severity: 'error',
      from: { path: '^src/' },
      // Two files of one folder may know each other's types; a circle of values has no right order to load in.
      to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } },
    },
    {
      name: 'domain-and-math-import-nothing-of-ours',
      severity: 'error',
      from: { path: '^src/core/(domain|math)/', pathNot: test },
      to: { path: '^src/', pathNot: '^src/core/$1/' },
    },
    {
      name: 'stages-do-not-know-each-other',
      severity: 'error',
      from: { path: `^src/core/(${stages})/`, pathNot: test },
      to: { path: '^src/', pathNot: '^src/core/(domain|math|$1)/' },
    },
    {
      name: 'core-knows-only-core',
      severity: 'error',
      from: { path: '^src/core/' },
      to: { path: '^src/', pathNot: '^src/core/' },
    },
    {
      name: 'core-imports-no-builtin-and-no-package',
      severity: 'error',
      from: { path: '^src/core/', pathNot: test },
      to: { dependencyTypes: ['core', 'npm', 'npm-dev', 'npm-optional', 'npm-peer', 'npm-no-pkg', 'npm-unknown'] },
    },
    {
      name: 'world-knows-only-core',
      severity: 'error',
      from: { path: '^src/world/', pathNot: test },
      to: { path: '^src/', pathNot: '^src/(core|world)/' },
    },
    {
      name: 'wire-knows-only-domain',
      severity: 'error',
      from: { path: '^src/wire/', pathNot: test },
      to: { path: '^src/', pathNot: '^src/(core/domain|wire)/' },
    },
    {
      name: 'rims-meet-in-host-only',
      severity: 'error',
      from: { path: '^src/(gateway|agent)/', pathNot: test },
      to: { path: '^src/', pathNot: '^src/(core|wire|host|$1)/' },
    },
    {
      name: 'host-does-not-know-the-rims',
      severity: 'error',
      from: { path: '^src/host/', pathNot: test },
      to: { path: '^src/', pathNot: '^src/(core|wire|host)/' },
    },
    {
      name: 'enter-a-folder-through-its-index',
      severity: 'error',
      from: { path: '^src/(?:core/)?([^/]+)/', pathNot: test },
      to: {
        path: '^src/(?:core/)?(?:[^/]+)/.+',
        pathNot: ['^src/(?:core/)?$1/', '^src/(?:core/)?[^/]+/index\\.ts$'],
      },
    },
    {
      name: 'cli-is-imported-by-nobody',
      severity: 'error',
      from: { pathNot: '^src/cli/' },
      to: { path: '^src/cli/' },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: {
      extensions: ['.ts', '.js', '.json'],
      exportsFields: ['exports'],
      conditionNames: ['import', 'node'],
    },
  },
};
