// The last routing update on disk, so that a gateway that was restarted routes before any controller speaks to it. Written
// to a temporary file and renamed: a reader sees the old or the new one, never a half. Bursts of updates are merged.
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Logger } from '../host/index.ts';
import { type RoutingUpdate, routingUpdateSchema } from '../wire/index.ts';

export class RoutingStateFile {
  readonly #path: string | null;
  readonly #log: Logger;
  #next: RoutingUpdate | null = null;
  #writing: Promise<void> | null = null;

  constructor(path: string | null, log: Logger) {
    this.#path = path;
    this.#log = log;
  }

  /** The last update, or null when there is none that can be read. */
  async load(): Promise<RoutingUpdate | null> {
    if (this.#path === null) return null;
    let text: string;
    try {
      text = await readFile(this.#path, 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT')
        this.#log.warn({ err: error }, 'cannot read the last routing');
      return null;
    }
    try {
      return routingUpdateSchema.parse(JSON.parse(text)) as RoutingUpdate;
    } catch (error) {
      this.#log.warn({ err: error, file: this.#path }, 'the last routing is damaged; waiting for the controller');
      return null;
    }
  }

  /** Keeps an update; a failure is logged, since routing itself works without the file. */
  save(update: RoutingUpdate): void {
    if (this.#path === null) return;
    this.#next = update;
    this.#writing ??= this.#write(this.#path).finally(() => {
      this.#writing = null;
    });
  }

  /** Resolves when everything that was saved is on disk. */
  async flush(): Promise<void> {
    while (this.#writing !== null) await this.#writing;
  }

  async #write(path: string): Promise<void> {
    while (this.#next !== null) {
      const update = this.#next;
      this.#next = null;
      try {
        await mkdir(dirname(path), { recursive: true });
        const temporary = `${path}.${process.pid}.tmp`;
        await writeFile(temporary, JSON.stringify(update));
        await rename(temporary, path);
      } catch (error) {
        this.#log.warn({ err: error, file: path }, 'cannot keep the routing on disk');
      }
    }
  }
}
