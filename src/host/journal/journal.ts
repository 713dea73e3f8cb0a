// The journal: why the pool is as it is, on disk before it acts. One SQLite file in WAL mode with a full sync at every
// commit, so that a kill -9 at any moment leaves each record either whole or absent.
//
// When the disk is full or gone, records of plain ticks are dropped (and reported once) and the loop goes on: routing
// and requests need no journal. Whatever must be on disk before it happens, a switch and its steps, throws instead, so
// that no switch starts, and requests stay where they are.
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'libsql';
import type { Journal, TickRecord } from '../../core/domain/index.ts';
import type { SwitchExecutionState } from '../../core/switching/index.ts';
import { JournalError, journalError } from './journal-error.ts';
import { MIGRATIONS, migrate } from './schema.ts';

export interface JournalOptions {
  /** Created when it does not exist. One process at a time may hold it. */
  readonly directory: string;
  /** Names this life of the pool: seconds of different runs have different epochs. */
  readonly run: string;
  /** Older ticks, switches and history rows are removed. */
  readonly keptTicks?: number;
  readonly keptSwitches?: number;
  readonly keptHistory?: number;
  /** Largest size of the database file, bytes; when it is reached, the older half of the ticks goes. */
  readonly maxBytes?: number;
  /** Called when writing begins to fail, and with null when it works again. */
  readonly onProblem?: (problem: JournalError | null) => void;
}

export interface JournalledSwitch {
  readonly id: string;
  readonly run: string;
  readonly openedSeconds: number;
  readonly changedSeconds: number;
  /** Hand it to `SwitchExecution.fromJSON` to go on. */
  readonly state: SwitchExecutionState;
}

export interface SwitchProgress {
  readonly state: SwitchExecutionState;
  readonly atSeconds: number;
  /** For people: `fill r7 started`. */
  readonly note: string;
}

/** Arrivals of one window; an entry per workload type id. */
export interface HistoryRow {
  readonly run: string;
  readonly windowEndSeconds: number;
  readonly windowSeconds: number;
  readonly counts: Readonly<Record<string, number>>;
}

/** Rows are removed in batches: a prune costs a scan, and a few rows too many cost nothing. */
const PRUNE_EVERY = 200;
const PAGE_BYTES = 4096;

export class SqliteJournal implements Journal {
  readonly #database: Database.Database;
  readonly #lock: Database.Database;
  readonly #options: Required<JournalOptions>;
  readonly #statements: ReturnType<typeof prepare>;
  #writes = 0;
  #problem: JournalError | null = null;

  /** @throws {@link JournalError} when the directory cannot be used, is in use, or holds a newer version's journal. */
  constructor(options: JournalOptions) {
    this.#options = {
      keptTicks: 5_000,
      keptSwitches: 500,
      keptHistory: 20_000,
      maxBytes: 512 * 1024 * 1024,
      onProblem: () => {},
      ...options,
    };
    const file = join(options.directory, 'journal.db');
    let lock: Database.Database | null = null;
    try {
      mkdirSync(options.directory, { recursive: true });
      lock = takeLock(join(options.directory, 'journal.lock'));
      this.#database = openDatabase(file, this.#options.maxBytes);
    } catch (error) {
      lock?.close();
      throw journalError(error, `Cannot open the journal ${file}`);
    }
    this.#lock = lock;
    this.#statements = prepare(this.#database);
  }

  /** What is wrong with the disk at present, or null. */
  get problem(): JournalError | null {
    return this.#problem;
  }

  /** @throws {@link JournalError} only when the record decides a switch: that must be on disk first. */
  append(record: TickRecord): void {
    this.appendTick(record);
  }

  /** See {@link append}. */
  appendTick(record: TickRecord): void {
    const written = this.#write('a tick record', () => {
      this.#statements.appendTick.run(this.#options.run, record.atSeconds, record.kind, JSON.stringify(record));
    });
    if (!written && record.decision.kind === 'switch') throw this.#problem!;
  }

  /**
   * Notes where a switch stands: before its first step (which opens it), before each step, and after the last one.
   *
   * @throws {@link JournalError} when it could not be written; the step must not start then.
   */
  switchStep({ state, atSeconds, note }: SwitchProgress): void {
    const { run } = this.#options;
    const { id } = state.plan;
    const written = this.#write(`a step of switch ${id}`, () => {
      this.#database.transaction(() => {
        this.#statements.saveSwitch.run(run, id, atSeconds, atSeconds, state.outcome, JSON.stringify(state));
        this.#statements.addStep.run(run, id, atSeconds, note);
      })();
    });
    if (!written) throw this.#problem!;
  }

  /** The switch that was begun and has not ended, or null. Of several, which a crash cannot leave, the newest. */
  openSwitch(): JournalledSwitch | null {
    const row = this.#statements.openSwitch.get() as SwitchRow | undefined;
    return row ? readSwitch(row) : null;
  }

  /** The newest switch of this run, ended or not; null when there was none. */
  lastSwitch(): JournalledSwitch | null {
    const row = this.#statements.lastSwitch.get(this.#options.run) as SwitchRow | undefined;
    return row ? readSwitch(row) : null;
  }

  /** What happened in a switch, oldest first. */
  switchNotes(id: string): { atSeconds: number; note: string }[] {
    const rows = this.#statements.switchNotes.all(this.#options.run, id) as { at_seconds: number; note: string }[];
    return rows.map((row) => ({ atSeconds: row.at_seconds, note: row.note }));
  }

  /** The last `count` records of any run, oldest first. */
  recentTicks(count: number): TickRecord[] {
    const rows = this.#statements.recentTicks.all(count) as { record: string }[];
    return rows.map((row) => JSON.parse(row.record) as TickRecord).reverse();
  }

  /** The last `count` records of this run, newest first, read one by one as they are asked for. */
  *ticksOfRun(count: number): Generator<TickRecord> {
    for (const row of this.#statements.ticksOfRun.iterate(this.#options.run, count)) {
      yield JSON.parse((row as { record: string }).record) as TickRecord;
    }
  }

  /** Keeps the arrivals of one window; the same window again replaces it (as-of counts are revised). Never throws. */
  keepHistory(row: Omit<HistoryRow, 'run'>): void {
    this.#write('history', () => {
      const { windowEndSeconds, windowSeconds, counts } = row;
      this.#statements.keepHistory.run(this.#options.run, windowEndSeconds, windowSeconds, JSON.stringify(counts));
    });
  }

  /** The last `count` windows of this run, oldest first. */
  history(count: number): HistoryRow[] {
    const rows = this.#statements.history.all(this.#options.run, count) as HistoryTableRow[];
    return rows.reverse().map((row) => ({
      run: row.run,
      windowEndSeconds: row.window_end_seconds,
      windowSeconds: row.window_seconds,
      counts: JSON.parse(row.counts) as Record<string, number>,
    }));
  }

  close(): void {
    this.#database.close();
    this.#lock.close();
  }

  /** Runs one write. Returns whether it is on disk; a failure is kept as the problem and reported when it is new. */
  #write(what: string, write: () => void): boolean {
    try {
      this.#writeOrShrink(write);
      this.#writes += 1;
      if (this.#writes % PRUNE_EVERY === 0) this.#prune();
    } catch (error) {
      const isNew = this.#problem === null;
      this.#problem = journalError(error, `Cannot write ${what} to the journal in ${this.#options.directory}`);
      if (isNew) this.#options.onProblem(this.#problem);
      return false;
    }
    if (this.#problem !== null) {
      this.#problem = null;
      this.#options.onProblem(null);
    }
    return true;
  }

  #writeOrShrink(write: () => void): void {
    try {
      write();
    } catch (error) {
      if ((error as { code?: string }).code !== 'SQLITE_FULL') throw error;
      this.#statements.pruneTicks.run(Math.floor(this.#tickCount() / 2));
      write();
    }
  }

  #tickCount(): number {
    return (this.#statements.countTicks.get() as { count: number }).count;
  }

  #prune(): void {
    const { keptTicks, keptSwitches, keptHistory } = this.#options;
    this.#statements.pruneTicks.run(keptTicks);
    this.#statements.pruneSwitches.run(keptSwitches);
    this.#statements.pruneHistory.run(keptHistory);
  }
}

interface SwitchRow {
  readonly run: string;
  readonly id: string;
  readonly opened_seconds: number;
  readonly changed_seconds: number;
  readonly state: string;
}

interface HistoryTableRow {
  readonly run: string;
  readonly window_end_seconds: number;
  readonly window_seconds: number;
  readonly counts: string;
}

const readSwitch = (row: SwitchRow): JournalledSwitch => ({
  id: row.id,
  run: row.run,
  openedSeconds: row.opened_seconds,
  changedSeconds: row.changed_seconds,
  state: JSON.parse(row.state) as SwitchExecutionState,
});

/** An exclusive lock that the kernel gives back whenever the process ends, however it ends. */
function takeLock(file: string): Database.Database {
  const lock = new Database(file);
  try {
    lock.exec('BEGIN EXCLUSIVE');
  } catch (cause) {
    lock.close();
    throw new JournalError(`${file} is held by another running oserve.`, {
      hint: 'Stop the other pool, or give this one its own stateDirectory.',
      cause,
    });
  }
  return lock;
}

function openDatabase(file: string, maxBytes: number): Database.Database {
  const database = new Database(file);
  database.pragma('journal_mode = WAL');
  database.pragma('synchronous = FULL');
  database.pragma('foreign_keys = ON');
  database.pragma(`max_page_count = ${Math.ceil(maxBytes / PAGE_BYTES)}`);
  const found = migrate(database);
  if (found > MIGRATIONS.length) {
    database.close();
    throw new JournalError(`${file} has version ${found}; this oserve knows up to ${MIGRATIONS.length}.`, {
      hint: 'Use the newer oserve that wrote it, or another stateDirectory.',
    });
  }
  return database;
}

function prepare(database: Database.Database) {
  const switchNumber = '(SELECT number FROM switches WHERE run = ? AND id = ?)';
  const keepNewest = (table: string) =>
    `DELETE FROM ${table} WHERE rowid <= (SELECT rowid FROM ${table} ORDER BY rowid DESC LIMIT 1 OFFSET ?)`;
  return {
    appendTick: database.prepare('INSERT INTO ticks (run, at_seconds, kind, record) VALUES (?, ?, ?, ?)'),
    recentTicks: database.prepare('SELECT record FROM ticks ORDER BY number DESC LIMIT ?'),
    saveSwitch: database.prepare(
      `INSERT INTO switches (run, id, opened_seconds, changed_seconds, outcome, state) VALUES (?, ?, ?, ?, ?, ?)
       ON CONFLICT (run, id) DO UPDATE
       SET changed_seconds = excluded.changed_seconds, outcome = excluded.outcome, state = excluded.state`,
    ),
    addStep: database.prepare(
      `INSERT INTO switch_steps (switch_number, at_seconds, note) VALUES (${switchNumber}, ?, ?)`,
    ),
    openSwitch: database.prepare('SELECT * FROM switches WHERE outcome IS NULL ORDER BY number DESC LIMIT 1'),
    lastSwitch: database.prepare('SELECT * FROM switches WHERE run = ? ORDER BY number DESC LIMIT 1'),
    ticksOfRun: database.prepare('SELECT record FROM ticks WHERE run = ? ORDER BY number DESC LIMIT ?'),
    switchNotes: database.prepare(
      `SELECT at_seconds, note FROM switch_steps WHERE switch_number = ${switchNumber} ORDER BY number`,
    ),
    keepHistory: database.prepare(
      'INSERT OR REPLACE INTO history (run, window_end_seconds, window_seconds, counts) VALUES (?, ?, ?, ?)',
    ),
    history: database.prepare('SELECT * FROM history WHERE run = ? ORDER BY window_end_seconds DESC LIMIT ?'),
    countTicks: database.prepare('SELECT count(*) AS count FROM ticks'),
    pruneTicks: database.prepare(keepNewest('ticks')),
    pruneSwitches: database.prepare(keepNewest('switches')),
    pruneHistory: database.prepare(keepNewest('history')),
  };
}
