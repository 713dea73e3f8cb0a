// A progress bar on a terminal; nothing where the output is not one.
const WIDTH = 30;

export class ProgressBar {
  readonly #stream: NodeJS.WriteStream;
  #last = '';

  constructor(stream: NodeJS.WriteStream) {
    this.#stream = stream;
  }

  /** @param share - 0..1. */
  show(share: number, label: string): void {
    if (!this.#stream.isTTY) return;
    const done = Math.round(Math.min(1, Math.max(0, share)) * WIDTH);
    const line = `[${'█'.repeat(done)}${' '.repeat(WIDTH - done)}] ${Math.floor(share * 100)} % ${label}`;
    if (line === this.#last) return;
    this.#last = line;
    this.#stream.write(`\r\x1b[2K${line}`);
  }

  clear(): void {
    if (this.#last !== '') this.#stream.write('\r\x1b[2K');
    this.#last = '';
  }
}
