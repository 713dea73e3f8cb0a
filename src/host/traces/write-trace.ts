// Writes traces in our own schema, which `readTrace` reads back to equal requests.
import { writeFile } from 'node:fs/promises';
import { gzipSync } from 'node:zlib';
import { ConfigError, type TraceRequest } from '../../core/domain/index.ts';

/** The trace as CSV: `tenant` and `model` columns where some request has one. */
export function formatTrace(requests: readonly TraceRequest[]): string {
  const withTenant = requests.some((request) => request.tenant !== undefined);
  const withModel = requests.some((request) => request.model !== undefined);
  const header = [
    'arrival_s',
    'input_tokens',
    'output_tokens',
    ...(withTenant ? ['tenant'] : []),
    ...(withModel ? ['model'] : []),
  ];
  const lines = requests.map((request) => {
    const fields: (string | number)[] = [request.arrivalSeconds, request.inputTokens, request.outputTokens];
    if (withTenant) fields.push(quoted(request.tenant ?? ''));
    if (withModel) fields.push(quoted(request.model ?? ''));
    return fields.join(',');
  });
  return `${[header.join(','), ...lines].join('\n')}\n`;
}

/** Writes CSV, compressed when the name ends in .gz. */
export async function writeTrace(file: string, requests: readonly TraceRequest[]): Promise<void> {
  const text = formatTrace(requests);
  try {
    await writeFile(file, file.endsWith('.gz') ? gzipSync(text) : text);
  } catch (error) {
    throw new ConfigError(`${file}: cannot be written (${(error as Error).message}).`, {
      hint: 'Give a file in a folder that exists and can be written.',
      cause: error,
    });
  }
}

const quoted = (text: string): string => (/[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
