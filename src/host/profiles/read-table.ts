// Measurement files as columns: CSV, plain or gzip, small enough to be read at once.
import { existsSync, readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { ConfigError, TraceError } from '../../core/domain/index.ts';

/** One row as text by column name. */
export type Row = Readonly<Record<string, string>>;

/** Splits a CSV line; quoted fields may hold commas. */
function fields(line: string): string[] {
  if (!line.includes('"')) return line.split(',');
  return [...line.matchAll(/("([^"]*)"|[^,]*)(?:,|$)/g)].slice(0, -1).map((match) => match[2] ?? match[1] ?? '');
}

/**
 * All rows of a CSV file that `keep` wants.
 *
 * @throws {@link ConfigError} when the file is not there, {@link TraceError} when a row has the wrong number of fields.
 */
export function readRows(file: string, keep: (row: Row) => boolean = () => true): Row[] {
  if (!existsSync(file)) {
    throw new ConfigError(`The measurements ${file} are not there.`, {
      hint: 'Set OSERVE_DATA to the folder that holds profiles/, reference/ and traces/.',
    });
  }
  const bytes = readFileSync(file);
  const text = (bytes[0] === 0x1f && bytes[1] === 0x8b ? gunzipSync(bytes) : bytes).toString('utf8');
  const lines = text.split(/\r?\n/);
  const names = fields(lines[0]!);
  const rows: Row[] = [];
  for (let i = 1; i < lines.length; i++) {
    if (lines[i] === '') continue;
    const values = fields(lines[i]!);
    if (values.length !== names.length) {
      throw new TraceError(`${basename(file)}:${i + 1}: ${values.length} fields; expected ${names.length}.`, {
        hint: 'Fetch the file again.',
      });
    }
    const row: Record<string, string> = {};
    for (let column = 0; column < names.length; column++) row[names[column]!] = values[column]!;
    if (keep(row)) rows.push(row);
  }
  return rows;
}

/** A column as numbers, times `factor`. An empty or odd field becomes NaN, which no fit survives in silence. */
export const numbers = (rows: readonly Row[], column: string, factor = 1): Float64Array =>
  Float64Array.from(rows, (row) => (row[column] === '' ? Number.NaN : Number(row[column]) * factor));
