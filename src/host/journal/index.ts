// What the pool decided and did, on disk.

export {
  type HistoryRow,
  type JournalledSwitch,
  type JournalOptions,
  SqliteJournal,
  type SwitchProgress,
} from './journal.ts';
export { JournalError } from './journal-error.ts';
