// Text files line by line, plain or gzip (known by its first bytes, not by its name), without holding the file in memory.
import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { StringDecoder } from 'node:string_decoder';
import { createGunzip } from 'node:zlib';
import { TraceError } from '../../core/domain/index.ts';

/**
 * Calls `onLine` for each line that is not blank, in order.
 *
 * @param onLine - gets the text without its line end, and the line's number from 1; what it throws ends the reading.
 * @throws {@link TraceError} when the file cannot be read or its gzip stream is broken.
 */
export async function forEachLine(file: string, onLine: (text: string, lineNumber: number) => void): Promise<void> {
  const compressed = await startsLikeGzip(file);
  const source = createReadStream(file, { highWaterMark: 1 << 18 });
  const stream = compressed ? source.pipe(createGunzip()) : source;
  // `pipe` forwards no errors: a read error must end the decompression as well.
  if (stream !== source) source.on('error', (error) => stream.destroy(error));
  const decoder = new StringDecoder('utf8');
  let rest = '';
  let lineNumber = 0;
  let parsing = false;
  const take = (line: string): void => {
    lineNumber++;
    if (lineNumber === 1 && line.startsWith('\uFEFF')) line = line.slice(1);
    if (line.endsWith('\r')) line = line.slice(0, -1);
    if (line === '' || line.trim() === '') return;
    onLine(line, lineNumber);
  };
  try {
    for await (const chunk of stream) {
      const text = rest + decoder.write(chunk as Buffer);
      let start = 0;
      parsing = true;
      for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n', start)) {
        take(text.slice(start, end));
        start = end + 1;
      }
      parsing = false;
      rest = text.slice(start);
    }
    parsing = true;
    rest += decoder.end();
    if (rest !== '') take(rest);
  } catch (error) {
    if (parsing) throw error;
    throw new TraceError(`${file}: cannot be read after line ${lineNumber}: ${(error as Error).message}.`, {
      hint: compressed ? 'The gzip file is damaged or incomplete; fetch it again.' : 'Check the file and its disk.',
      cause: error,
    });
  } finally {
    source.destroy();
  }
}

async function startsLikeGzip(file: string): Promise<boolean> {
  try {
    const handle = await open(file, 'r');
    try {
      const { buffer, bytesRead } = await handle.read(Buffer.alloc(2), 0, 2, 0);
      return bytesRead === 2 && buffer[0] === 0x1f && buffer[1] === 0x8b;
    } finally {
      await handle.close();
    }
  } catch (error) {
    const reason = (error as NodeJS.ErrnoException).code;
    const what = reason === 'ENOENT' ? 'does not exist' : `cannot be read (${(error as Error).message})`;
    throw new TraceError(`${file}: ${what}.`, {
      hint: 'Give the path of a trace or counts file: plain text or gzip.',
      cause: error,
    });
  }
}
