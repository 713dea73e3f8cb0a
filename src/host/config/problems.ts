// zod's issues in our words: which setting, where it was written, what was expected, what was found.
import type { z } from 'zod';
import { ConfigError } from '../../core/domain/index.ts';
import { nearestWord } from './nearest.ts';
import { knownKeys } from './settings.ts';

/** `models[0].slo.tpotSeconds` */
export const formatPath = (path: readonly PropertyKey[]): string =>
  path.reduce<string>(
    (text, key) => (typeof key === 'number' ? `${text}[${key}]` : text === '' ? String(key) : `${text}.${String(key)}`),
    '',
  );

function valueAt(root: unknown, path: readonly PropertyKey[]): unknown {
  let value = root;
  for (const key of path) value = (value as Record<PropertyKey, unknown> | undefined)?.[key];
  return value;
}

const shown = (value: unknown): string => (value === undefined ? 'nothing' : JSON.stringify(value));

/** `Too small: expected number to be >0` → `expected a number > 0`. */
function expectation(issue: z.core.$ZodIssue): string {
  switch (issue.code) {
    case 'invalid_value': {
      return `expected ${issue.values.map((value) => JSON.stringify(value)).join(' or ')}`;
    }
    case 'too_small':
      if (issue.origin === 'array') return `expected at least ${issue.minimum} item(s)`;
      if (issue.origin === 'string') return 'expected a text that is not empty';
      return `expected a number ${issue.inclusive === false ? '>' : '≥'} ${issue.minimum}`;
    case 'too_big':
      return `expected a number ${issue.inclusive === false ? '<' : '≤'} ${issue.maximum}`;
    case 'invalid_type':
      return `expected ${issue.expected === 'int' ? 'a whole number' : issue.expected}`;
    default:
      return issue.message;
  }
}

/**
 * All problems as one error.
 *
 * @param locate - where a path, or a key inside it, was written.
 */
export function configError(
  issues: readonly z.core.$ZodIssue[],
  raw: unknown,
  locate: (path: readonly PropertyKey[], key?: string) => string,
): ConfigError {
  const messages: string[] = [];
  const hints: string[] = [];
  for (const issue of issues) {
    if (issue.code === 'unrecognized_keys') {
      const known = knownKeys(issue.path);
      const inside = issue.path.length === 0 ? 'at the top' : `in ${formatPath(issue.path)}`;
      for (const key of issue.keys) {
        messages.push(`${locate(issue.path, key)}: unknown key "${key}" ${inside}.`);
        const near = nearestWord(key, known);
        hints.push(near ? `Did you mean "${near}"?` : `Known keys ${inside}: ${known.join(', ')}.`);
      }
    } else {
      const found = shown(valueAt(raw, issue.path));
      messages.push(`${locate(issue.path)}: ${formatPath(issue.path)}: ${expectation(issue)}, got ${found}.`);
    }
  }
  const hint = hints.length > 0 ? hints.join(' ') : 'See docs/reference/config.md, or run `oserve config schema`.';
  if (messages.length === 1) return new ConfigError(messages[0]!, { hint });
  return new ConfigError(`${messages.length} problems in the configuration:\n  ${messages.join('\n  ')}`, { hint });
}
