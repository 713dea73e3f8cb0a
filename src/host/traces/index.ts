// Trace files in and out, and traffic made from fitted distributions.

export type { TraceFormatName } from './formats.ts';
export { type CountSeries, readCounts } from './read-counts.ts';
export * from './read-trace.ts';
export * from './scale-trace.ts';
export * from './shared-data.ts';
