// Reads the YAML file: syntax errors with their line, `${NAME}` and `${NAME:-default}` from the environment, and where
// in the file each value stands, so that a later complaint can point at it.
import { readFileSync } from 'node:fs';
import { isMap, isNode, isScalar, LineCounter, parse, parseDocument, visit } from 'yaml';
import { ConfigError } from '../../core/domain/index.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

export interface YamlFile {
  readonly content: Readonly<Record<string, unknown>>;
  /** Whether the file itself says something here. */
  has(path: readonly PropertyKey[]): boolean;
  /** `file:line:column` of a value, or of the nearest enclosing one; of a key when `key` is given. */
  locate(path: readonly PropertyKey[], key?: string): string;
}

const VARIABLE = /\$(\$\{)|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}/g;

/**
 * Replaces `${NAME}` and `${NAME:-default}`; `$${` stands for a plain `${`.
 *
 * @throws {@link ConfigError} when a variable is not set and has no default.
 */
export function expandVariables(text: string, environment: Environment, where: string): string {
  return text.replace(VARIABLE, (_whole, escaped: string | undefined, name: string, fallback: string | undefined) => {
    if (escaped !== undefined) return '${';
    const value = environment[name] ?? fallback;
    if (value === undefined) {
      throw new ConfigError(`${where}: the environment variable ${name} is not set.`, {
        hint: `Set ${name}, or write \${${name}:-default}.`,
      });
    }
    return value;
  });
}

/** @throws {@link ConfigError} when the file cannot be read or is not YAML with a mapping at its top. */
export function readYamlFile(file: string, environment: Environment): YamlFile {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (cause) {
    throw new ConfigError(`Cannot read the configuration ${file}: ${(cause as Error).message}.`, {
      hint: 'Give an existing file with --config, or leave it out to use the defaults.',
      cause,
    });
  }
  return parseYaml(text, file, environment);
}

/** See {@link readYamlFile}; `file` is only a name here. */
export function parseYaml(text: string, file: string, environment: Environment): YamlFile {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const at = (offset: number): string => {
    const { line, col } = lines.linePos(offset);
    return `${file}:${line}:${col}`;
  };
  const broken = document.errors[0];
  if (broken) {
    throw new ConfigError(`${at(broken.pos[0])}: ${broken.message}`, { hint: 'The file must be valid YAML 1.2.' });
  }
  if (document.contents !== null && !isMap(document.contents)) {
    throw new ConfigError(`${file}: the top of a configuration must be a mapping of settings.`, {
      hint: 'Write for example:\n  gateway:\n    port: 8080',
    });
  }
  visit(document, {
    Scalar(_key, node) {
      if (typeof node.value !== 'string' || !node.value.includes('${')) return;
      const expanded = expandVariables(node.value, environment, at(node.range?.[0] ?? 0));
      // An unquoted value takes the type of what was put in; a quoted one stays text.
      const value: unknown = node.type === 'PLAIN' ? parse(expanded) : expanded;
      node.value = typeof value === 'object' && value !== null ? expanded : value;
    },
  });
  return {
    content: (document.toJS() ?? {}) as Record<string, unknown>,
    has: (path) => document.hasIn(path),
    locate(path, key) {
      for (let depth = path.length; depth >= 0; depth--) {
        const node = depth === 0 ? document.contents : document.getIn(path.slice(0, depth), true);
        if (key !== undefined && depth === path.length && isMap(node)) {
          const pair = node.items.find((item) => isScalar(item.key) && item.key.value === key);
          if (pair && isScalar(pair.key) && pair.key.range) return at(pair.key.range[0]);
        }
        if (isNode(node) && node.range) return at(node.range[0]);
      }
      return file;
    },
  };
}
