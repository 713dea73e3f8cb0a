// Runs every benchmark of this folder, one after the other, each in a process of its own.
//
//   npm run bench                        all, in full
//   npm run bench -- --quick             all, short: does everything still run?
//   npm run bench -- simulator plan      only those whose name contains one of the words
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const folder = fileURLToPath(new URL('.', import.meta.url));
const flags = process.argv.slice(2).filter((argument) => argument.startsWith('--'));
const words = process.argv.slice(2).filter((argument) => !argument.startsWith('--'));
const names = readdirSync(folder)
  .filter((name) => name.endsWith('.mjs') && name !== 'run.mjs')
  .filter((name) => words.length === 0 || words.some((word) => name.includes(word)))
  .sort();
if (names.length === 0) {
  console.error(`error: no benchmark matches ${words.join(', ')}`);
  process.exit(1);
}
const failed = names.filter((name) => {
  const { status, signal } = spawnSync(process.execPath, [folder + name, ...flags], { stdio: 'inherit' });
  if (status !== 0) console.error(`${name} failed (${signal ?? `exit code ${status}`})`);
  return status !== 0;
});
console.log(`\n${names.length - failed.length} benchmarks ran, ${failed.length} failed`);
process.exit(failed.length === 0 ? 0 : 1);
