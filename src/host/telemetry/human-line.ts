// One pino JSON record → one line for people: `12:01:03.250 warn  gateway  replica lost  replica=r3 running=4`.

const LEVEL_NAMES: Readonly<Record<number, string>> = {
  10: 'trace',
  20: 'debug',
  30: 'info',
  40: 'warn',
  50: 'error',
  60: 'fatal',
};

/** Fields that every record has; the rest is printed as `key=value`. */
const COMMON = new Set(['level', 'time', 'name', 'msg', 'pid', 'hostname', 'err', 'error']);

/** Numbers are cut to what an eye can use; text is quoted only where it would be ambiguous. */
function formatValue(value: unknown): string {
  if (typeof value === 'number') return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(4)));
  if (typeof value === 'string') return value === '' || /[\s"=]/.test(value) ? JSON.stringify(value) : value;
  return JSON.stringify(value) ?? 'undefined';
}

function formatError(error: unknown): string {
  if (typeof error !== 'object' || error === null) return ` error=${formatValue(error)}`;
  const { message, code, hint } = error as { message?: unknown; code?: unknown; hint?: unknown };
  const parts = [` error=${formatValue(message ?? error)}`];
  if (code !== undefined) parts.push(`code=${formatValue(code)}`);
  if (hint !== undefined) parts.push(`hint=${formatValue(hint)}`);
  return parts.join(' ');
}

/** @param json - one record as pino writes it; anything else is passed through unchanged. */
export function formatLine(json: string): string {
  let record: Record<string, unknown>;
  try {
    record = JSON.parse(json) as Record<string, unknown>;
  } catch {
    return json;
  }
  const time = new Date(Number(record.time)).toISOString().slice(11, 23);
  const level = (LEVEL_NAMES[Number(record.level)] ?? 'info').padEnd(5);
  const fields = Object.entries(record)
    .filter(([key]) => !COMMON.has(key))
    .map(([key, value]) => ` ${key}=${formatValue(value)}`)
    .join('');
  const failure = record.err ?? record.error;
  const head = `${time} ${level} ${String(record.name ?? 'oserve').padEnd(10)} ${String(record.msg ?? '')}`;
  return `${head}${fields ? ` ${fields}` : ''}${failure === undefined ? '' : formatError(failure)}\n`;
}
