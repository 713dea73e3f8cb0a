// The trace formats we read, as their sources publish them. A format is recognised by the first line of a file and turns
// each row into a request; times may have any origin (`rebase`: the reader shifts the first arrival to 0).
import type { TraceRequest } from '../../core/domain/index.ts';
import { nonNegative, type Place, splitCsv, tokenCount } from './table.ts';

export type TraceFormatName = 'oserve-csv' | 'azure-llm-csv' | 'mooncake-jsonl' | 'burstgpt-csv';

/** A time as whole seconds and a remainder, so that differences of calendar times keep their last digits. */
export interface SplitSeconds {
  readonly whole: number;
  readonly rest: number;
}

export interface TraceRow {
  readonly at: SplitSeconds;
  readonly inputTokens: number;
  readonly outputTokens: number;
  readonly tenant?: string;
  readonly model?: string;
}

export type RowReader = (line: string, place: Place) => TraceRow;

export interface TraceFormat {
  readonly name: TraceFormatName;
  /** How a file of this format begins, for the message when none fits. */
  readonly firstLine: string;
  /** Whether times have an origin of their own that means nothing here. */
  readonly rebase: boolean;
  /** Whether the first line holds data (JSONL) or names (CSV). */
  readonly firstLineIsData: boolean;
  /** A reader for files whose first line is this, or null when it is another format's. */
  open(firstLine: string): RowReader | null;
}

/** Indices of the named columns, or null when a required one is missing; -1 for optional ones that are not there. */
function columns(firstLine: string, required: readonly string[], optional: readonly string[] = []): number[] | null {
  const names = splitCsv(firstLine).map((name) => name.trim());
  const found = required.map((name) => names.indexOf(name));
  return found.includes(-1) ? null : [...found, ...optional.map((name) => names.indexOf(name)), names.length];
}

function fieldsOf(line: string, place: Place, count: number): string[] {
  const fields = splitCsv(line);
  if (fields.length !== count) throw place.wrong('the row', line, `${count} fields as in the header`);
  return fields;
}

const seconds = (value: number): SplitSeconds => ({ whole: 0, rest: value });

/** Our own schema (shared data, `oserve trace generate`): `source` or `client` tells tenants apart. */
const oserveCsv: TraceFormat = {
  name: 'oserve-csv',
  firstLine: 'arrival_s,input_tokens,output_tokens[,prefix_hashes][,source|client|tenant][,model]',
  rebase: false,
  firstLineIsData: false,
  open(firstLine) {
    const found = columns(
      firstLine,
      ['arrival_s', 'input_tokens', 'output_tokens'],
      ['tenant', 'source', 'client', 'model'],
    );
    if (!found) return null;
    const [arrival, input, output, tenantColumn, source, client, model, count] = found as [
      number,
      number,
      number,
      number,
      number,
      number,
      number,
      number,
    ];
    const tenant = [tenantColumn, source, client].find((index) => index >= 0) ?? -1;
    return (line, place) => {
      const fields = fieldsOf(line, place, count);
      return {
        at: seconds(nonNegative(place, 'arrival_s', fields[arrival], 'seconds')),
        inputTokens: tokenCount(place, 'input_tokens', fields[input]),
        outputTokens: tokenCount(place, 'output_tokens', fields[output]),
        ...(tenant >= 0 && fields[tenant] ? { tenant: fields[tenant] } : {}),
        ...(model >= 0 && fields[model] ? { model: fields[model] } : {}),
      };
    };
  },
};

/** github.com/Azure/AzurePublicDataset, AzureLLMInferenceTrace_*.csv of 2023 and 2024. */
const azureCsv: TraceFormat = {
  name: 'azure-llm-csv',
  firstLine: 'TIMESTAMP,ContextTokens,GeneratedTokens',
  rebase: true,
  firstLineIsData: false,
  open(firstLine) {
    const found = columns(firstLine, ['TIMESTAMP', 'ContextTokens', 'GeneratedTokens']);
    if (!found) return null;
    const [timestamp, input, output, count] = found as [number, number, number, number];
    return (line, place) => {
      const fields = fieldsOf(line, place, count);
      return {
        at: calendarTime(place, 'TIMESTAMP', fields[timestamp]!),
        inputTokens: tokenCount(place, 'ContextTokens', fields[input]),
        outputTokens: tokenCount(place, 'GeneratedTokens', fields[output]),
      };
    };
  },
};

/**
 * github.com/HPMLL/BurstGPT, all releases (later ones add `Session ID` and `Elapsed time`). `Model` names the service that
 * was asked there, which is no model of ours: it becomes, with the log type, the tenant.
 */
const burstGptCsv: TraceFormat = {
  name: 'burstgpt-csv',
  firstLine: 'Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type',
  rebase: true,
  firstLineIsData: false,
  open(firstLine) {
    const found = columns(firstLine, ['Timestamp', 'Model', 'Request tokens', 'Response tokens', 'Log Type']);
    if (!found) return null;
    const [timestamp, model, input, output, logType, count] = found as [number, number, number, number, number, number];
    return (line, place) => {
      const fields = fieldsOf(line, place, count);
      return {
        at: seconds(nonNegative(place, 'Timestamp', fields[timestamp], 'seconds')),
        inputTokens: tokenCount(place, 'Request tokens', fields[input]),
        outputTokens: tokenCount(place, 'Response tokens', fields[output]),
        tenant: `${fields[model]}, ${fields[logType]}`,
      };
    };
  },
};

/** github.com/kvcache-ai/Mooncake, FAST25-release/traces: one JSON object a line, timestamps in milliseconds. */
const mooncakeJsonl: TraceFormat = {
  name: 'mooncake-jsonl',
  firstLine: '{"timestamp": 0, "input_length": 6758, "output_length": 500, "hash_ids": [0, 1]}',
  rebase: true,
  firstLineIsData: true,
  open(firstLine) {
    if (!firstLine.trimStart().startsWith('{')) return null;
    return (line, place) => {
      const row = jsonObject(line, place);
      if ('hash_ids' in row && !Array.isArray(row.hash_ids))
        throw place.wrong('hash_ids', JSON.stringify(row.hash_ids), 'a list of block ids');
      return {
        at: seconds(nonNegative(place, 'timestamp', numberText(row.timestamp), 'milliseconds') / 1000),
        inputTokens: tokenCount(place, 'input_length', numberText(row.input_length)),
        outputTokens: tokenCount(place, 'output_length', numberText(row.output_length)),
      };
    };
  },
};

export const TRACE_FORMATS: readonly TraceFormat[] = [oserveCsv, azureCsv, burstGptCsv, mooncakeJsonl];

function jsonObject(line: string, place: Place): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    throw place.wrong('the row', line, 'one complete JSON object a line');
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw place.wrong('the row', line, 'one JSON object a line');
  return value as Record<string, unknown>;
}

const numberText = (value: unknown): string =>
  typeof value === 'number' ? String(value) : JSON.stringify(value ?? '');

const calendar = /^(\d{4})-(\d\d)-(\d\d)[ T](\d\d):(\d\d):(\d\d)(\.\d+)?\s*(?:Z|UTC|([+-])(\d\d):?(\d\d))?$/;

/** `2023-11-16 18:15:46.6805900`, with or without a zone; without one it is UTC, as the source says. */
function calendarTime(place: Place, column: string, text: string): SplitSeconds {
  const found = text.trim();
  const match = calendar.exec(found);
  const expected = 'a time like 2023-11-16 18:15:46.6805900';
  if (!match) throw place.wrong(column, found, expected);
  const [year, month, day, hour, minute, second] = match.slice(1, 7).map(Number) as [
    number,
    number,
    number,
    number,
    number,
    number,
  ];
  const date = new Date(Date.UTC(year, month - 1, day, hour, minute, second));
  // Date.UTC rolls over (31 February → 2 March): what comes back must be what went in.
  if (date.getUTCMonth() !== month - 1 || date.getUTCDate() !== day || hour > 23 || minute > 59 || second > 59)
    throw place.wrong(column, found, `${expected} that exists`);
  const zoneSeconds = match[8] ? (match[8] === '-' ? -1 : 1) * (Number(match[9]) * 3600 + Number(match[10]) * 60) : 0;
  return { whole: date.getTime() / 1000 - zoneSeconds, rest: match[7] ? Number(match[7]) : 0 };
}

/**
 * A request of the row, as seconds after `origin`. Optional fields are left out where the row has none.
 */
export function requestOf(row: TraceRow, origin: SplitSeconds): TraceRequest {
  const request: { -readonly [Key in keyof TraceRequest]: TraceRequest[Key] } = {
    arrivalSeconds: row.at.whole - origin.whole + (row.at.rest - origin.rest),
    inputTokens: row.inputTokens,
    outputTokens: row.outputTokens,
  };
  if (row.tenant !== undefined) request.tenant = row.tenant;
  if (row.model !== undefined) request.model = row.model;
  return request;
}
