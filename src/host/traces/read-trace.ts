// Reads a trace in any known format into requests sorted by arrival. Nothing is dropped in silence: rows that recorded no
// answer and rows out of order are counted and reported.
import { TraceError, type TraceRequest } from '../../core/domain/index.ts';
import {
  type RowReader,
  requestOf,
  TRACE_FORMATS,
  type TraceFormat,
  type TraceFormatName,
  type TraceRow,
} from './formats.ts';
import { forEachLine } from './lines.ts';
import { Place } from './table.ts';

export interface TraceFile {
  readonly format: TraceFormatName;
  /** Sorted by arrival; ties stay in the order of the file. */
  readonly requests: TraceRequest[];
  /**
   * Rows left out because they have no input or no output tokens. Sources record failed calls like that (BurstGPT: 0
   * response tokens); a request without a prompt or without an answer cannot be served or timed, so it is no request.
   */
  readonly skippedRows: number;
  /** Rows that arrived before the row above them; they were sorted in. */
  readonly rowsOutOfOrder: number;
  /** Sentences for people about the two above; empty for a clean file. */
  readonly notes: readonly string[];
}

/** Ten years: beyond it, a time is in milliseconds or broken, and nothing per minute would fit in memory. */
const LONGEST_SPAN_SECONDS = 3650 * 86_400;

/**
 * @throws {@link TraceError} with file, line, what was found and what was expected.
 */
export async function readTraceFile(file: string): Promise<TraceFile> {
  const rows: TraceRow[] = [];
  const place = new Place(file);
  let format: TraceFormat | null = null;
  let read: RowReader | null = null;
  let skippedRows = 0;
  let firstSkipped = 0;
  await forEachLine(file, (line, lineNumber) => {
    place.lineNumber = lineNumber;
    if (!read) {
      ({ format, read } = detect(line, place));
      if (!format.firstLineIsData) return;
    }
    const row = read(line, place);
    if (row.inputTokens === 0 || row.outputTokens === 0) {
      skippedRows++;
      firstSkipped ||= lineNumber;
      return;
    }
    rows.push(row);
  });
  if (!format || !read) throw new TraceError(`${file}: the file is empty.`, { hint: formatHint() });
  return arrange(file, format, rows, skippedRows, firstSkipped);
}

/**
 * The requests of a trace alone.
 *
 * @param onNote - is told what was left out or sorted; by default a Node warning (stderr) says it.
 */
export async function readTrace(
  file: string,
  onNote: (note: string) => void = (note) => process.emitWarning(note, 'TraceWarning'),
): Promise<TraceRequest[]> {
  const trace = await readTraceFile(file);
  for (const note of trace.notes) onNote(note);
  return trace.requests;
}

function detect(firstLine: string, place: Place): { format: TraceFormat; read: RowReader } {
  for (const format of TRACE_FORMATS) {
    const read = format.open(firstLine);
    if (read) return { format, read };
  }
  throw place.wrong('the first line', firstLine, 'the first line of a known trace format', formatHint());
}

const formatHint = (): string =>
  `Known formats and their first lines: ${TRACE_FORMATS.map((format) => `${format.name}: ${format.firstLine}`).join('; ')}`;

function arrange(
  file: string,
  format: TraceFormat,
  rows: TraceRow[],
  skippedRows: number,
  firstSkipped: number,
): TraceFile {
  if (rows.length === 0)
    throw new TraceError(`${file}: no request in it (${skippedRows} rows without input or output tokens).`, {
      hint: formatHint(),
    });
  const earlier = (a: TraceRow, b: TraceRow): number => a.at.whole - b.at.whole || a.at.rest - b.at.rest;
  let rowsOutOfOrder = 0;
  for (let i = 1; i < rows.length; i++) if (earlier(rows[i]!, rows[i - 1]!) < 0) rowsOutOfOrder++;
  if (rowsOutOfOrder > 0) rows.sort(earlier);
  const spanSeconds = requestOf(rows[rows.length - 1]!, rows[0]!.at).arrivalSeconds;
  if (spanSeconds > LONGEST_SPAN_SECONDS)
    throw new TraceError(
      `${file}: its rows span ${(spanSeconds / 86_400).toFixed(0)} days; expected at most ${LONGEST_SPAN_SECONDS / 86_400}.`,
      { hint: 'Are its times in another unit, or is one of them wrong?' },
    );
  const origin = format.rebase ? rows[0]!.at : { whole: 0, rest: 0 };
  const notes: string[] = [];
  if (skippedRows > 0)
    notes.push(
      `${file}: ${skippedRows} rows without input or output tokens left out (the first at line ${firstSkipped}).`,
    );
  if (rowsOutOfOrder > 0)
    notes.push(`${file}: ${rowsOutOfOrder} rows arrived before the row above them; they were sorted in.`);
  return {
    format: format.name,
    requests: rows.map((row) => requestOf(row, origin)),
    skippedRows,
    rowsOutOfOrder,
    notes,
  };
}
