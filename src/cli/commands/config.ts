// `oserve config print|validate|schema`: what is configured, whether a file is right, and the schema for editors.
import type { Command } from 'commander';
import {
  type ConfigSource,
  configJsonSchema,
  formatPath,
  type LoadedConfig,
  listValues,
  loadConfig,
} from '../../host/index.ts';

const sourceText = ({ kind, where }: ConfigSource): string => (kind === 'default' ? 'default' : where);

/** `path = value   # where from`, aligned. */
export function renderValues({ config, sources }: LoadedConfig): string {
  const rows = listValues(config).map(({ path, value }) => {
    const name = formatPath(path);
    return [`${name} = ${JSON.stringify(value)}`, sourceText(sources.get(name)!)] as const;
  });
  const width = Math.max(...rows.map(([left]) => left.length));
  return rows.map(([left, right]) => `${left.padEnd(width)}  # ${right}\n`).join('');
}

/** One object: `{ config, sources: { path: { kind, where } } }`. */
export const renderJson = ({ config, sources }: LoadedConfig): string =>
  `${JSON.stringify({ config, sources: Object.fromEntries(sources) }, null, 2)}\n`;

const example = (text: string): string => `\nExample:\n  $ ${text}`;

export function register(program: Command): void {
  const config = program
    .command('config')
    .description('Prints, checks or describes the configuration.')
    .addHelpText('after', example('oserve config print --config examples/quickstart.yaml'));

  config
    .command('print')
    .description('Prints each value and where it came from.')
    .option('--config <file>', 'YAML file; without it, defaults and environment')
    .option('--json', 'print one JSON object')
    .addHelpText('after', example('OSERVE_GATEWAY_PORT=9000 oserve config print --config examples/quickstart.yaml'))
    .action((options: { config?: string; json?: boolean }) => {
      const loaded = loadConfig({ file: options.config });
      for (const warning of loaded.warnings) process.stderr.write(`warning: ${warning}\n`);
      process.stdout.write(options.json ? renderJson(loaded) : renderValues(loaded));
    });

  config
    .command('validate')
    .description('Checks a file; exits with 0 only when it can be used.')
    .argument('<file>', 'YAML file')
    .addHelpText('after', example('oserve config validate examples/quickstart.yaml'))
    .action((file: string) => {
      const { models, cluster, warnings } = loadConfig({ file });
      for (const warning of warnings) process.stderr.write(`warning: ${warning}\n`);
      const gpuCount = cluster.nodes.reduce((sum, node) => sum + node.gpuCount, 0);
      const names = models.map(({ spec }) => spec.name).join(', ');
      process.stdout.write(`${file} is valid: ${cluster.nodes.length} node(s), ${gpuCount} GPUs, ${names}.\n`);
    });

  config
    .command('schema')
    .description('Prints the JSON Schema of a configuration file, for editors.')
    .addHelpText('after', example('oserve config schema > oserve.schema.json'))
    .action(() => {
      process.stdout.write(`${JSON.stringify(configJsonSchema(), null, 2)}\n`);
    });
}
