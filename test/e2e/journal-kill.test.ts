// What the journal said was written is there after a kill -9, whole, whatever was being written at that moment.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterEach, expect, test } from 'vitest';
import { SqliteJournal } from '../../src/host/index.ts';

const writer = fileURLToPath(new URL('./fixtures/journal-writer.mjs', import.meta.url));
const directory = mkdtempSync(join(tmpdir(), 'oserve-journal-kill-'));
let child: ChildProcess | null = null;
afterEach(() => {
  child?.kill('SIGKILL');
  rmSync(directory, { recursive: true, force: true });
});

/** Starts a writer, kills it after `lines` commits, and returns the last tick that it said was on disk. */
async function writeAndKill(first: number, lines: number): Promise<number> {
  child = spawn(process.execPath, [writer, directory, String(first)], { stdio: ['ignore', 'pipe', 'inherit'] });
  const exited = once(child, 'exit');
  let last = first - 1;
  let seen = 0;
  for await (const line of createInterface({ input: child.stdout! })) {
    last = Number(line);
    seen += 1;
    if (seen === lines) child.kill('SIGKILL');
  }
  await exited;
  return last;
}

test('a journal killed in the middle of writing loses nothing that it had confirmed, five times in a row', async () => {
  let next = 0;
  for (const lines of [1, 7, 30, 61, 113]) {
    const first = next;
    const confirmed = await writeAndKill(first, lines);
    expect(confirmed).toBeGreaterThanOrEqual(first + lines - 1);

    const journal = new SqliteJournal({ directory, run: 'reader' });
    const ticks = journal.recentTicks(100_000).map(({ tick }) => tick);
    const open = journal.openSwitch();
    journal.close();
    // At most one more than confirmed: the kill may fall between the commit and the line that reports it.
    expect(ticks).toEqual(Array.from({ length: ticks.length }, (_, tick) => tick));
    expect(ticks.length - 1 - confirmed).toBeOneOf([0, 1]);
    expect(open?.id).toBe(`switch-${first}`);
    expect((open!.state as unknown as { tick: number }).tick - confirmed).toBeOneOf([0, 1]);
    next = ticks.length;
  }
});
