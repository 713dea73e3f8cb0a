// Reads a request's body into memory, up to a limit.
import type { IncomingMessage } from 'node:http';

export type BodyResult = Buffer | 'too-large' | 'closed';

/** Calls back once: with the body, or with why there is none. */
export function readBody(req: IncomingMessage, limit: number, done: (result: BodyResult) => void): void {
  if (Number(req.headers['content-length'] ?? 0) > limit) {
    done('too-large');
    return;
  }
  let first: Buffer | null = null;
  let chunks: Buffer[] | null = null;
  let length = 0;
  let over = false;
  const finish = (result: BodyResult) => {
    if (over) return;
    over = true;
    done(result);
  };
  req.on('data', (chunk: Buffer) => {
    length += chunk.length;
    if (length > limit) return finish('too-large');
    // Nearly all bodies come in one piece: no list, no copy.
    if (first === null) first = chunk;
    else {
      chunks ??= [first];
      chunks.push(chunk);
    }
  });
  req.on('end', () => finish(chunks === null ? (first ?? Buffer.alloc(0)) : Buffer.concat(chunks)));
  req.on('error', () => finish('closed'));
  req.on('close', () => finish('closed'));
}
