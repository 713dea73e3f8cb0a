// Rates by type as people write them: a CSV `inputTokens,outputTokens,ratePerSecond`, a line per workload type.
import { TraceError } from '../../core/domain/index.ts';
import { forEachLine } from './lines.ts';
import { splitCsv } from './table.ts';

export interface TypeRate {
  readonly inputTokens: number;
  readonly outputTokens: number;
  /** requests/s. */
  readonly ratePerSecond: number;
}

const HEADER = 'inputTokens,outputTokens,ratePerSecond';

/** @throws {@link TraceError} with file, line, what was found and what was expected. */
export async function readRates(file: string): Promise<TypeRate[]> {
  const rates: TypeRate[] = [];
  let headerSeen = false;
  await forEachLine(file, (line, lineNumber) => {
    const where = `${file}, line ${lineNumber}`;
    if (!headerSeen) {
      if (line.replaceAll(' ', '') !== HEADER) {
        throw new TraceError(`${where}: found "${line.slice(0, 60)}"; expected the header ${HEADER}.`);
      }
      headerSeen = true;
      return;
    }
    const cells = splitCsv(line);
    const [inputTokens, outputTokens, ratePerSecond] = cells.map(Number);
    if (cells.length !== 3 || !(inputTokens! >= 1) || !(outputTokens! >= 1) || !(ratePerSecond! >= 0)) {
      throw new TraceError(
        `${where}: found "${line}"; expected two lengths of 1 token or more and a rate of 0 or more.`,
        {
          hint: 'For example 1000,200,3.5 for 3.5 requests/s of 1000 prompt and 200 answer tokens.',
        },
      );
    }
    rates.push({ inputTokens: inputTokens!, outputTokens: outputTokens!, ratePerSecond: ratePerSecond! });
  });
  if (!rates.some((rate) => rate.ratePerSecond > 0)) {
    throw new TraceError(`${file}: no line with a rate above 0.`, {
      hint: `Write a header ${HEADER} and a line per type.`,
    });
  }
  return rates;
}
