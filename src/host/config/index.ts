// The configuration: one schema, one loader, and the core's values made from it.

export { type ConfigSource, type LoadedConfig, type LoadOptions, listValues, loadConfig } from './load.ts';
export { nearestWord } from './nearest.ts';
export { flagOverrides, type Override } from './overrides.ts';
export { formatPath } from './problems.ts';
export { renderConfigReference } from './reference.ts';
export {
  type ConfiguredModel,
  generatorOptionsOf,
  notationDefaults,
  type ParkedPlace,
  switchCostsOf,
} from './resolve.ts';
export { type Config, configSchema } from './schema.ts';
export { configJsonSchema, environmentName, listSettings, type Setting } from './settings.ts';
