// The journal's own error: the disk, not the plan, is the problem.
import { OserveError, type OserveErrorOptions } from '../../core/domain/index.ts';

/** The journal cannot be opened or written. */
export class JournalError extends OserveError {
  constructor(message: string, options?: OserveErrorOptions) {
    super('journal_failed', message, options);
  }
}

const HINTS: Readonly<Record<string, string>> = {
  SQLITE_FULL: 'Free disk space; the pool serves on, but makes no switch until the journal can be written.',
  SQLITE_READONLY: 'Make stateDirectory writable.',
  SQLITE_NOTADB: 'The file is damaged or no journal: move it away and start again.',
  SQLITE_CORRUPT: 'The file is damaged: move it away and start again.',
  SQLITE_BUSY: 'Another process holds the file.',
};

/** Wraps whatever SQLite or the file system threw; a JournalError is passed on as it is. */
export function journalError(error: unknown, what: string): JournalError {
  if (error instanceof JournalError) return error;
  const { code, message } = error as { code?: string; message?: string };
  return new JournalError(`${what}: ${message ?? String(error)}.`, {
    hint: HINTS[code ?? ''] ?? 'Check that stateDirectory exists, is writable and has free space.',
    cause: error,
  });
}
