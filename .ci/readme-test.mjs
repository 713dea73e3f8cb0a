// Runs the README's second command in the clone, verbatim. Its tests write the report that .ci/run counts.
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { readmeCommands } from './readme.mjs';

const clone = process.argv[2];
const { test } = readmeCommands(clone);
console.log(`$ ${test}`);
const { status } = spawnSync('bash', ['-c', test], { cwd: clone, stdio: 'inherit' });

const report = JSON.parse(readFileSync(process.env.OSERVE_TEST_REPORT, 'utf8'));
const files = report.testResults.map(({ name }) => name);
for (const part of ['/src/', '/test/contract/', '/test/e2e/', '/test/tidy.test.ts']) {
  const found = files.filter((name) => name.includes(part)).length;
  console.log(`${found} test files in ${part}`);
  if (found === 0) process.exit(1);
}
process.exit(status ?? 1);
