// Profiles (fitted step times) and measured kernel tables, read from files.
export { calibrate } from './calibrate.ts';
export { KERNEL_TABLE_GPUS, readKernelTables } from './kernel-tables.ts';
export { loadProfile, loadProfiles, PROFILE_DIRECTORY, writeProfile } from './load-profiles.ts';
export { closedLoops, type NamedLoop, offlineRuns, staticBatches } from './measured-serving.ts';
export { numbers as columnOfNumbers, type Row as TableRow, readRows as readTableRows } from './read-table.ts';
export {
  type ReferenceRun,
  type ReferenceThroughput,
  referenceCollectives,
  referenceRuns,
  referenceThroughputs,
} from './reference-runs.ts';
