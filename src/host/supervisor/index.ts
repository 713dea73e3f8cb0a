// Starts, restarts and ends the processes of a pool; and what those processes do at their end of the line.
export { type ChildEvent, type ChildSpec, type ReadyMessage, SupervisedChild } from './child.ts';
export { endWithParent, onParentMessage, processOptions, tellParent } from './child-process.ts';
export { assertPortFree, findFreePort } from './ports.ts';
export { type PoolState, readPoolState, writePoolState } from './state-file.ts';
export { Supervisor, type SupervisorOptions } from './supervisor.ts';
