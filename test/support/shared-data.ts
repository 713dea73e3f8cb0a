// Tests that need the shared data. Where it is absent they are counted as skipped and say so in their name; with
// OSERVE_REQUIRE_DATA=1 (CI) its absence is a failure.
import { existsSync } from 'node:fs';
import { test } from 'vitest';
import { sharedDataDirectory, sharedDataFile } from '../../src/host/traces/shared-data.ts';

export const sharedDataIsPresent = existsSync(sharedDataFile('MANIFEST.csv'));

/**
 * A test over shared data.
 *
 * @param run - gets a function from a name inside the shared data (`traces/x.csv.gz`) to its path.
 */
export function sharedDataTest(
  name: string,
  run: (file: (name: string) => string) => void | Promise<void>,
  timeoutMs?: number,
): void {
  const required = process.env.OSERVE_REQUIRE_DATA === '1';
  const skip = !sharedDataIsPresent && !required;
  test.skipIf(skip)(
    skip ? `${name} [needs the shared data: ${sharedDataDirectory()} is absent]` : name,
    async () => {
      if (!sharedDataIsPresent)
        throw new Error(`OSERVE_REQUIRE_DATA=1, but there is no shared data in ${sharedDataDirectory()}`);
      await run(sharedDataFile);
    },
    timeoutMs,
  );
}
