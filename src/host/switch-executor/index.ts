// Carries switch plans out on a live pool, and takes them up again after a crash.
export {
  type SwitchEvent,
  SwitchExecutor,
  type SwitchExecutorOptions,
  type SwitchJournal,
} from './switch-executor.ts';
export { type SwitchLine, switchLine } from './switch-line.ts';
