// What touches the machine: clock, config, journal, logs, trace files, worker, supervisor, the live fleet.
export * from './clock.ts';
export * from './config/index.ts';
export * from './controller-worker/index.ts';
export * from './journal/index.ts';
export * from './live/index.ts';
export * from './profiles/index.ts';
export * from './supervisor/index.ts';
export * from './switch-executor/index.ts';
export * from './telemetry/index.ts';
export * from './traces/index.ts';
export * from './traffic/index.ts';
