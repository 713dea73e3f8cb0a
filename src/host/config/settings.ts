// The schema seen as a list of settings. It is read from the JSON Schema that zod makes, so that the reference page, the
// environment variables, `config print` and the suggestions for misspelt keys all follow from one thing.
import { z } from 'zod';
import { configSchema } from './schema.ts';

/** The part of JSON Schema that zod writes for our schema. */
export interface JsonSchema {
  readonly type?: string | readonly string[];
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly required?: readonly string[];
  readonly items?: JsonSchema;
  readonly anyOf?: readonly JsonSchema[];
  readonly enum?: readonly unknown[];
  readonly default?: unknown;
  readonly description?: string;
  readonly unit?: string;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly exclusiveMinimum?: number;
  readonly minLength?: number;
}

/** One setting, or one list of settings (`isList`). */
export interface Setting {
  /** `gateway.port`; items of a list are written `models[].name`. */
  readonly path: string;
  readonly type: string;
  readonly range: string;
  readonly unit: string;
  readonly description: string;
  readonly required: boolean;
  readonly default: unknown;
  readonly isList: boolean;
}

/** JSON Schema (draft 2020-12) of a configuration file: what editors check against. */
export function configJsonSchema(): JsonSchema {
  return z.toJSONSchema(configSchema, { io: 'input' }) as JsonSchema;
}

function typeOf(schema: JsonSchema): string {
  if (schema.enum) return schema.enum.map(String).join(' \\| ');
  if (schema.anyOf) return schema.anyOf.map(typeOf).join(' or ');
  return Array.isArray(schema.type) ? schema.type.join(' or ') : String(schema.type ?? 'any');
}

/** zod writes safe-integer limits into every integer; they say nothing to a reader. */
function rangeOf(schema: JsonSchema): string {
  const inner = schema.anyOf?.find((option) => option.type !== 'null') ?? schema;
  const { minimum, exclusiveMinimum, maximum } = inner;
  const lower =
    exclusiveMinimum !== undefined && exclusiveMinimum > Number.MIN_SAFE_INTEGER
      ? `> ${exclusiveMinimum}`
      : minimum !== undefined && minimum > Number.MIN_SAFE_INTEGER
        ? `≥ ${minimum}`
        : '';
  const upper = maximum !== undefined && maximum < Number.MAX_SAFE_INTEGER ? `≤ ${maximum}` : '';
  return [lower, upper].filter(Boolean).join(', ');
}

/** All settings in the order of the schema. */
export function listSettings(): Setting[] {
  const settings: Setting[] = [];
  const visit = (schema: JsonSchema, path: string, required: boolean): void => {
    if (schema.properties) {
      for (const [key, child] of Object.entries(schema.properties)) {
        visit(child, path === '' ? key : `${path}.${key}`, schema.required?.includes(key) ?? false);
      }
      return;
    }
    settings.push({
      path,
      type: schema.type === 'array' ? 'list' : typeOf(schema),
      range: rangeOf(schema),
      unit: schema.unit ?? '',
      description: schema.description ?? '',
      required,
      default: schema.default,
      isList: schema.type === 'array',
    });
    if (schema.type === 'array' && schema.items?.properties) visit(schema.items, `${path}[]`, false);
  };
  visit(configJsonSchema(), '', false);
  return settings;
}

/** Keys that are known at a place of the configuration; empty where there are none. */
export function knownKeys(path: readonly PropertyKey[]): string[] {
  let schema: JsonSchema | undefined = configJsonSchema();
  for (const key of path) schema = typeof key === 'number' ? schema?.items : schema?.properties?.[String(key)];
  return Object.keys(schema?.properties ?? {});
}

/** `gateway.maxBodyBytes` → `OSERVE_GATEWAY_MAX_BODY_BYTES`. */
export const environmentName = (path: string): string =>
  `OSERVE_${path
    .replace(/([a-z0-9])([A-Z])/g, '$1_$2')
    .replace(/[.-]/g, '_')
    .toUpperCase()}`;
