// Writes an event stream to a client with one socket write per call. Node's own res.write makes four writes of each chunk
// (size, line end, data, line end), which is the largest single cost of a streamed token. The response's head, its end,
// keep-alive and everything about parsing stay node:http's; only the framing of chunks in between is written here.
import type { ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

export class EventStreamWriter {
  readonly #res: ServerResponse;
  /** The connection, once chunks may go straight to it. */
  #socket: Socket | null = null;
  #begun = false;

  constructor(res: ServerResponse) {
    this.#res = res;
  }

  /**
   * @param data - text is latin1; never empty, since an empty chunk would end the response.
   * @returns false when the client has to read first; `onDrain` then tells.
   */
  write(data: Buffer | string): boolean {
    if (this.#socket !== null) {
      const size = data.length.toString(16);
      if (typeof data === 'string') return this.#socket.write(`${size}\r\n${data}\r\n`, 'latin1');
      return this.#socket.write(Buffer.concat([Buffer.from(`${size}\r\n`, 'latin1'), data, LINE_END]));
    }
    const res = this.#res;
    const flows = typeof data === 'string' ? res.write(data, 'latin1') : res.write(data);
    if (!this.#begun) {
      this.#begun = true;
      // The head and this first chunk are on the socket now. An answer that waits behind another on its connection has no
      // socket yet, and one to an HTTP/1.0 client has no chunks: those stay with res.write.
      if (res.socket !== null && res.headersSent && res.chunkedEncoding) this.#socket = res.socket;
    }
    return flows;
  }

  /** Calls back once, when a write that returned false has been read. */
  onDrain(callback: () => void): void {
    (this.#socket ?? this.#res).once('drain', callback);
  }
}

const LINE_END = Buffer.from('\r\n');
