// Trace files in and out, and traffic made from fitted distributions.
export { fitService, type ServiceModel } from './fit-service.ts';
export type { TraceFormatName } from './formats.ts';
export {
  DEFAULT_FROM,
  DEFAULT_TO,
  driftShare,
  type GeneratorOptions,
  generateRequests,
  generateTrace,
  type ServiceMix,
  serviceName,
  type TraceGeneratorOptions,
} from './generate-trace.ts';
export { type CountSeries, readCounts } from './read-counts.ts';
export { readRates, type TypeRate } from './read-rates.ts';
export { readTrace, readTraceFile, type TraceFile } from './read-trace.ts';
export { scaleTrace } from './scale-trace.ts';
export { SERVICES, type ServiceName } from './services.ts';
export { sharedDataDirectory, sharedDataFile } from './shared-data.ts';
export { type LengthStats, type TraceStats, traceStats } from './trace-stats.ts';
export { formatTrace, writeTrace } from './write-trace.ts';
