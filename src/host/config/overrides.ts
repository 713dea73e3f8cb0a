// Values from outside the file: environment variables and command-line flags, each with the name to blame.
import { parse } from 'yaml';
import { ConfigError, uniformCluster } from '../../core/domain/index.ts';
import { nearestWord } from './nearest.ts';
import { environmentName, listSettings } from './settings.ts';
import type { Environment } from './yaml-file.ts';

/** One value that beats the file. */
export interface Override {
  /** `gateway.port`. */
  readonly path: string;
  readonly value: unknown;
  /** Where it came from, as the user wrote it: `--port` or `OSERVE_GATEWAY_PORT`. */
  readonly from: string;
}

/** Variables of ours that are no settings. */
const OTHER_VARIABLES = new Set([
  'OSERVE_CONFIG',
  'OSERVE_DATA',
  'OSERVE_LOG_FORMAT',
  'OSERVE_LOG_LEVEL',
  'OSERVE_POOL_ID',
  'OSERVE_PROCESS_OPTIONS',
  'OSERVE_REQUIRE_DATA',
  'OSERVE_TEST_REPORT',
  'OSERVE_TEST_WITHOUT_BUILD',
]);

/**
 * Reads `OSERVE_…` variables. Lists are given as YAML or JSON text. A variable that fits no setting is only warned
 * about, since a container platform may make variables of that form by itself (a Kubernetes service named `oserve`).
 */
export function environmentOverrides(environment: Environment): { overrides: Override[]; warnings: string[] } {
  const settings = new Map(
    listSettings()
      .filter((setting) => !setting.path.includes('[]'))
      .map((setting) => [environmentName(setting.path), setting]),
  );
  const overrides: Override[] = [];
  const warnings: string[] = [];
  for (const [name, text] of Object.entries(environment)) {
    if (!name.startsWith('OSERVE_') || text === undefined || OTHER_VARIABLES.has(name)) continue;
    const setting = settings.get(name);
    if (!setting) {
      const near = nearestWord(name, [...settings.keys()]);
      warnings.push(`${name} is no setting and is ignored${near ? `; did you mean ${near}?` : '.'}`);
      continue;
    }
    overrides.push({ path: setting.path, value: readText(text, setting.type, name), from: name });
  }
  return { overrides, warnings };
}

/** Text settings take the text as it is; everything else is read as YAML, so that 8080 is a number. */
function readText(text: string, type: string, name: string): unknown {
  if (type === 'string') return text;
  try {
    const value: unknown = parse(text);
    return type.includes('string') && value !== null ? text : value;
  } catch (cause) {
    throw new ConfigError(`${name} cannot be read: ${(cause as Error).message}`, { cause });
  }
}

/** Flags that several commands have, as overrides; a flag that was not given changes nothing. */
export function flagOverrides(flags: {
  readonly model?: string | undefined;
  readonly gpus?: number | undefined;
  readonly objective?: string | undefined;
  readonly seed?: number | undefined;
  readonly port?: number | undefined;
  readonly speed?: number | undefined;
  readonly traffic?: string | undefined;
}): Override[] {
  const overrides: Override[] = [];
  const add = (path: string, value: unknown, from: string) => {
    if (value !== undefined) overrides.push({ path, value, from });
  };
  add('models', flags.model === undefined ? undefined : [{ name: flags.model }], '--model');
  add('cluster.nodes', flags.gpus === undefined ? undefined : nodesFor(flags.gpus), '--gpus');
  add('control.objective', flags.objective, '--objective');
  add('control.seed', flags.seed, '--seed');
  add('traffic.seed', flags.seed, '--seed');
  add('gateway.port', flags.port, '--port');
  add('emulation.speed', flags.speed, '--speed');
  add('traffic.source', flags.traffic, '--traffic');
  return overrides;
}

/** `--gpus N`: nodes of 8 H100; a last, smaller node holds the rest. */
function nodesFor(gpuCount: number): object[] {
  if (!Number.isInteger(gpuCount) || gpuCount < 1) {
    throw new ConfigError(`--gpus must be a whole number of at least 1; got ${gpuCount}.`);
  }
  return uniformCluster(gpuCount).nodes.map((node) => ({
    count: 1,
    gpuKind: node.gpuKind,
    gpusPerNode: node.gpuCount,
  }));
}
