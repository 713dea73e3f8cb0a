// `pool.json` in the state directory: who runs where, for people and for tools. Replaced as a whole, never half-written.
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';

const poolStateSchema = z.object({
  /** Names this run of the pool; a later run over the same directory has another. */
  poolId: z.string(),
  supervisorPid: z.int(),
  url: z.string(),
  adminUrl: z.string(),
  agents: z.array(z.object({ name: z.string(), url: z.string() })),
  /** Children that run now; null while one is being restarted. */
  processes: z.array(z.object({ name: z.string(), pid: z.int().nullable() })),
});
export type PoolState = z.infer<typeof poolStateSchema>;

const fileIn = (stateDirectory: string): string => join(stateDirectory, 'pool.json');

export function writePoolState(stateDirectory: string, state: PoolState): void {
  mkdirSync(stateDirectory, { recursive: true });
  const file = fileIn(stateDirectory);
  const next = `${file}.${process.pid}.next`;
  writeFileSync(next, `${JSON.stringify(state, null, 2)}\n`);
  renameSync(next, file);
}

/** What the last pool over this directory wrote, or null when there was none or its file cannot be read. */
export function readPoolState(stateDirectory: string): PoolState | null {
  let text: string;
  try {
    text = readFileSync(fileIn(stateDirectory), 'utf8');
  } catch {
    return null;
  }
  try {
    return poolStateSchema.parse(JSON.parse(text));
  } catch {
    return null;
  }
}
