// docs/reference/config.md, made from the schema.
import { configJsonSchema, environmentName, listSettings, type Setting } from './settings.ts';

const cell = (text: string): string => text.replace(/\n/g, ' ');

function defaultOf(setting: Setting): string {
  if (setting.required) return 'required';
  if (setting.isList) return Array.isArray(setting.default) ? `\`${JSON.stringify(setting.default)}\`` : 'empty';
  return `\`${JSON.stringify(setting.default)}\``;
}

function row(setting: Setting): string {
  const range = [setting.range, setting.unit].filter(Boolean).join(' ');
  return `| \`${setting.path}\` | ${setting.type} | ${range} | ${cell(defaultOf(setting))} | ${cell(setting.description)} |`;
}

/** The whole page as Markdown. */
export function renderConfigReference(): string {
  const sections = Object.entries(configJsonSchema().properties ?? {});
  const settings = listSettings();
  const lines = [
    '# Configuration',
    '',
    '<!-- Made by `npm run generate` from src/host/config/schema.ts; edit that file instead. -->',
    '',
    'A configuration is one YAML file. A command-line flag beats an `OSERVE_…` environment variable, which beats the file,',
    'which beats the default; `oserve config print` shows each value and where it came from. Unknown keys are errors.',
    `\`\${NAME}\` and \`\${NAME:-default}\` in a value are replaced from the environment; \`$\${\` is a plain \`\${\`.`,
    '',
    `The variable of a setting is its path in capitals, for example \`${environmentName('gateway.maxBodyBytes')}\` for \`gateway.maxBodyBytes\`;`,
    'lists are given as YAML or JSON text. Editors can check a file against [config.schema.json](config.schema.json).',
  ];
  for (const [name, schema] of sections) {
    const own = settings.filter(
      ({ path }) => path === name || path.startsWith(`${name}.`) || path.startsWith(`${name}[]`),
    );
    lines.push('', `## ${name}`, '', schema.description ?? '', '');
    lines.push('| setting | type | range, unit | default | meaning |', '|---|---|---|---|---|', ...own.map(row));
  }
  return `${lines.join('\n')}\n`;
}
