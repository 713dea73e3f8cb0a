// Reads counts per minute: CSV `minute,COLUMN...`, plain or gzip. Empty cells and missing minutes are gaps (NaN), since a
// minute that nobody measured is not a minute without requests.
import { TraceError } from '../../core/domain/index.ts';
import { forEachLine } from './lines.ts';
import { nonNegative, Place, splitCsv } from './table.ts';

export interface CountSeries {
  /** Names of the types, J. */
  readonly columns: readonly string[];
  readonly firstMinute: number;
  /** One row of J counts per minute from the first to the last, NaN where nothing is known. */
  readonly counts: readonly Float64Array[];
  readonly gapCells: number;
}

/** A longer hole is a mistake in the file rather than a gap in a measurement. */
const LONGEST_GAP_MINUTES = 366 * 1440;

/** @throws {@link TraceError} with file, line, what was found and what was expected. */
export async function readCounts(file: string): Promise<CountSeries> {
  const place = new Place(file);
  const counts: Float64Array[] = [];
  let columns: string[] | null = null;
  let firstMinute = 0;
  let gapCells = 0;
  await forEachLine(file, (line, lineNumber) => {
    place.lineNumber = lineNumber;
    if (!columns) {
      columns = headerOf(line, place);
      return;
    }
    const fields = splitCsv(line);
    if (fields.length !== columns.length + 1)
      throw place.wrong('the row', line, `${columns.length + 1} fields as in the header`);
    const minute = nonNegative(place, 'minute', fields[0], 'a whole number of minutes');
    if (!Number.isInteger(minute)) throw place.wrong('minute', fields[0]!, 'a whole number of minutes, 0 or more');
    if (counts.length === 0) firstMinute = minute;
    const next = firstMinute + counts.length;
    if (minute < next) throw place.wrong('minute', fields[0]!, `${next} or later: rows in order, one a minute`);
    if (minute - next > LONGEST_GAP_MINUTES)
      throw place.wrong('minute', fields[0]!, `a minute within a year of the row above it, which is ${next - 1}`);
    for (let missing = next; missing < minute; missing++) {
      counts.push(new Float64Array(columns.length).fill(Number.NaN));
      gapCells += columns.length;
    }
    const row = Float64Array.from(columns, (column, j) => {
      const field = fields[j + 1]!.trim();
      return field === '' ? Number.NaN : nonNegative(place, column, field, 'a count');
    });
    for (const value of row) if (Number.isNaN(value)) gapCells++;
    counts.push(row);
  });
  if (!columns || counts.length === 0)
    throw new TraceError(`${file}: no counts in it.`, { hint: 'Expected CSV: minute,COLUMN... and a row a minute.' });
  return { columns, firstMinute, counts, gapCells };
}

function headerOf(line: string, place: Place): string[] {
  const [first, ...names] = splitCsv(line).map((name) => name.trim());
  if (first !== 'minute' || names.length === 0 || names.includes(''))
    throw place.wrong('the header', line, 'minute,COLUMN... with a name for each column');
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  if (twice !== undefined) throw place.wrong('the header', line, `each column once (${twice} is there twice)`);
  return names;
}
