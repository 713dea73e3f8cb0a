// Loads the configuration: flag beats OSERVE_* environment beats YAML beats default, every value knows where it came
// from, and nothing leaves here that a later stage would have to refuse.
import type { Cluster } from '../../core/domain/index.ts';
import { checkAcrossSettings } from './checks.ts';
import { environmentOverrides, type Override } from './overrides.ts';
import { configError, formatPath } from './problems.ts';
import {
  baseDirectoryOf,
  type ConfiguredModel,
  clusterOf,
  modelsOf,
  type ParkedPlace,
  parkedPlacesOf,
  trafficFile,
} from './resolve.ts';
import { type Config, configSchema } from './schema.ts';
import { type Environment, parseYaml, readYamlFile, type YamlFile } from './yaml-file.ts';

export interface ConfigSource {
  readonly kind: 'default' | 'file' | 'environment' | 'flag';
  /** `oserve.yaml:12:5`, `OSERVE_GATEWAY_PORT`, `--port`; empty for a default. */
  readonly where: string;
}

export interface LoadedConfig {
  readonly config: Config;
  readonly cluster: Cluster;
  readonly models: readonly ConfiguredModel[];
  /** Every parked engine of the pool. */
  readonly parkedPlaces: readonly ParkedPlace[];
  /** Absolute path of the trace in `traffic.source`; null for `none` and `generated`. */
  readonly trafficFile: string | null;
  /** By path of each value, for example `gateway.port` or `models[0].name`. */
  readonly sources: ReadonlyMap<string, ConfigSource>;
  /** For people: variables that look like ours but are no setting. */
  readonly warnings: readonly string[];
}

export interface LoadOptions {
  /** YAML file; null or absent for defaults alone. */
  readonly file?: string | null | undefined;
  /** From the command line; later ones win. */
  readonly flags?: readonly Override[];
  readonly environment?: Environment;
}

/** @throws {@link ConfigError} that names the setting, where it was written, and what was expected. */
export function loadConfig(options: LoadOptions = {}): LoadedConfig {
  const environment = options.environment ?? process.env;
  const file = options.file ?? null;
  const yaml = file === null ? parseYaml('', 'defaults', environment) : readYamlFile(file, environment);
  const fromEnvironment = environmentOverrides(environment);
  const overrides = [...fromEnvironment.overrides, ...(options.flags ?? [])];
  const raw = structuredClone(yaml.content) as Record<string, unknown>;
  for (const { path, value } of overrides) setPath(raw, path.split('.'), value);

  const parsed = configSchema.safeParse(raw);
  if (!parsed.success) {
    throw configError(parsed.error.issues, raw, (path, key) => {
      const full = formatPath(key === undefined ? path : [...path, key]);
      return overrideFor(overrides, full)?.from ?? yaml.locate(path, key);
    });
  }
  const config = parsed.data;
  const baseDirectory = baseDirectoryOf(file);
  const cluster = clusterOf(config);
  const models = modelsOf(config, cluster, baseDirectory);
  const parkedPlaces = parkedPlacesOf(config, cluster, models);
  checkAcrossSettings({ config, cluster, models, parkedPlaces });
  const environmentNames = new Set(fromEnvironment.overrides.map(({ from }) => from));
  const trafficFlag = overrideFor(options.flags ?? [], 'traffic.source');
  return {
    config,
    cluster,
    models,
    parkedPlaces,
    trafficFile: trafficFile(config, trafficFlag ? process.cwd() : baseDirectory),
    sources: sourcesOf(config, yaml, overrides, environmentNames),
    warnings: fromEnvironment.warnings,
  };
}

function setPath(root: Record<string, unknown>, path: readonly string[], value: unknown): void {
  let place = root;
  for (const key of path.slice(0, -1)) {
    // A scalar where a section belongs is left for the schema to complain about.
    if (typeof place[key] !== 'object' || place[key] === null) place[key] = {};
    place = place[key] as Record<string, unknown>;
  }
  place[path.at(-1)!] = value;
}

/** The last override that set this path or something around it. */
const overrideFor = (overrides: readonly Override[], path: string): Override | undefined =>
  overrides.findLast(
    (override) =>
      override.path === path || path.startsWith(`${override.path}.`) || path.startsWith(`${override.path}[`),
  );

function sourcesOf(
  config: Config,
  yaml: YamlFile,
  overrides: readonly Override[],
  environmentNames: ReadonlySet<string>,
): Map<string, ConfigSource> {
  const sources = new Map<string, ConfigSource>();
  for (const { path } of listValues(config)) {
    const name = formatPath(path);
    const override = overrideFor(overrides, name);
    if (override) {
      sources.set(name, { kind: environmentNames.has(override.from) ? 'environment' : 'flag', where: override.from });
    } else if (yaml.has(path)) {
      sources.set(name, { kind: 'file', where: yaml.locate(path) });
    } else {
      sources.set(name, { kind: 'default', where: '' });
    }
  }
  return sources;
}

/** Every single value of a configuration with its path, in order. */
export function listValues(
  value: unknown,
  path: readonly PropertyKey[] = [],
): { path: PropertyKey[]; value: unknown }[] {
  if (typeof value !== 'object' || value === null) return [{ path: [...path], value }];
  if (Array.isArray(value)) {
    return value.length === 0
      ? [{ path: [...path], value }]
      : value.flatMap((item, index) => listValues(item, [...path, index]));
  }
  return Object.entries(value).flatMap(([key, item]) => listValues(item, [...path, key]));
}
