// The journal's tables. A new version adds a step to MIGRATIONS and never changes an old one.
import type Database from 'libsql';

export const MIGRATIONS: readonly string[] = [
  `CREATE TABLE ticks (
     number INTEGER PRIMARY KEY AUTOINCREMENT,
     run TEXT NOT NULL,
     at_seconds REAL NOT NULL,
     kind TEXT NOT NULL,
     record TEXT NOT NULL
   );
   CREATE TABLE switches (
     number INTEGER PRIMARY KEY AUTOINCREMENT,
     run TEXT NOT NULL,
     id TEXT NOT NULL,
     opened_seconds REAL NOT NULL,
     changed_seconds REAL NOT NULL,
     outcome TEXT,
     state TEXT NOT NULL,
     UNIQUE (run, id)
   );
   CREATE TABLE switch_steps (
     number INTEGER PRIMARY KEY AUTOINCREMENT,
     switch_number INTEGER NOT NULL REFERENCES switches (number) ON DELETE CASCADE,
     at_seconds REAL NOT NULL,
     note TEXT NOT NULL
   );
   CREATE INDEX switch_steps_by_switch ON switch_steps (switch_number);
   CREATE TABLE history (
     run TEXT NOT NULL,
     window_end_seconds REAL NOT NULL,
     window_seconds REAL NOT NULL,
     counts TEXT NOT NULL,
     PRIMARY KEY (run, window_end_seconds)
   );`,
];

/** Brings an open database to the newest version, all or nothing. Returns the version that it had. */
export function migrate(database: Database.Database): number {
  const row = database.prepare('PRAGMA user_version').get() as { user_version: number };
  const found = row.user_version;
  MIGRATIONS.slice(found).forEach((sql, index) => {
    const version = found + index + 1;
    database.exec(`BEGIN IMMEDIATE;\n${sql}\nPRAGMA user_version = ${version};\nCOMMIT;`);
  });
  return found;
}
