// CSV rows with named columns, and the checks of their fields. Every complaint names file, line, what was found and what
// was expected.
import { TraceError } from '../../core/domain/index.ts';

/** Splits one line of CSV; quoted fields may hold commas and doubled quotes, but no line ends. */
export function splitCsv(line: string): string[] {
  if (!line.includes('"')) return line.split(',');
  const fields: string[] = [];
  let field = '';
  let quoted = false;
  for (let i = 0; i < line.length; i++) {
    const character = line[i]!;
    if (quoted) {
      if (character !== '"') field += character;
      else if (line[i + 1] === '"') {
        field += '"';
        i++;
      } else quoted = false;
    } else if (character === '"') quoted = true;
    else if (character === ',') {
      fields.push(field);
      field = '';
    } else field += character;
  }
  fields.push(field);
  return fields;
}

/** Where a value stands; `describe` names it in complaints. */
export class Place {
  readonly #file: string;
  lineNumber = 0;

  constructor(file: string) {
    this.#file = file;
  }

  /** The error for this line: what was found, what was expected instead. */
  wrong(
    what: string,
    found: string,
    expected: string,
    hint = 'Correct the line, or remove it from the file.',
  ): TraceError {
    const shown = found.length > 80 ? `${found.slice(0, 77)}...` : found;
    return new TraceError(`${this.#file}:${this.lineNumber}: ${what} is "${shown}"; expected ${expected}.`, { hint });
  }
}

const wholeNumber = /^\d{1,12}(?:\.0*)?$/;
const decimalNumber = /^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$/;

/** A count of tokens: a whole number, 0 or more. */
export function tokenCount(place: Place, column: string, text: string | undefined): number {
  const found = (text ?? '').trim();
  if (!wholeNumber.test(found)) throw place.wrong(column, found, 'a whole number of tokens, 0 or more');
  return Number(found);
}

/** A time or another real number, 0 or more. */
export function nonNegative(place: Place, column: string, text: string | undefined, unit: string): number {
  const found = (text ?? '').trim();
  const value = decimalNumber.test(found) ? Number(found) : Number.NaN;
  if (!(value >= 0 && value < Number.POSITIVE_INFINITY)) throw place.wrong(column, found, `${unit}, 0 or more`);
  return value;
}
