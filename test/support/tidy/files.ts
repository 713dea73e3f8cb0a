// The files that the tidy test looks at: what git tracks or would track.
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('../../../', import.meta.url));

export interface TextFile {
  /** Relative to the package root. */
  readonly path: string;
  readonly text: string;
}

/** All tracked files and those that git does not ignore; deleted and binary ones left out. */
export function listFiles(): TextFile[] {
  const output = execFileSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], {
    cwd: root,
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
  });
  return [...new Set(output.split('\0'))]
    .filter((path) => path !== '' && existsSync(root + path) && statSync(root + path).isFile())
    .map((path) => ({ path, text: readFileSync(root + path, 'utf8') }))
    .filter(({ text }) => !text.includes('\0'));
}

export const isSource = (path: string): boolean => /^src\/.*\.ts$/.test(path);
export const isTest = (path: string): boolean => path.endsWith('.test.ts');
