// Where traces and measurements lie that are not part of the repository.
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Root of the package, seen from src/host/traces and from dist/host/traces alike. */
const packageRoot = fileURLToPath(new URL('../../..', import.meta.url));

/**
 * The folder of shared data: `OSERVE_DATA`, else `../shared/data` beside the working directory, else beside the package.
 * It need not exist.
 */
export function sharedDataDirectory(environment: NodeJS.ProcessEnv = process.env): string {
  if (environment.OSERVE_DATA) return resolve(environment.OSERVE_DATA);
  const besideWorkingDirectory = resolve('../shared/data');
  return existsSync(besideWorkingDirectory) ? besideWorkingDirectory : resolve(packageRoot, '../shared/data');
}

/** Path of one file of the shared data. */
export const sharedDataFile = (name: string): string => join(sharedDataDirectory(), name);
