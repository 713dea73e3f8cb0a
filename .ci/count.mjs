// Prints "passed failed skipped" of a vitest JSON report.
//
//   node .ci/count.mjs REPORT [EXIT_CODE]            a run that failed without a failed test counts one failure
//   node .ci/count.mjs --skips-name TEXT REPORT      fails unless something was skipped, nothing failed, and the name
//                                                    of every skipped test says TEXT
import { readFileSync } from 'node:fs';

const [first, ...rest] = process.argv.slice(2);
const read = (file) => JSON.parse(readFileSync(file, 'utf8'));

if (first === '--skips-name') {
  const [text, file] = rest;
  const tests = read(file).testResults.flatMap(({ assertionResults }) => assertionResults);
  const skipped = tests.filter(({ status }) => status === 'pending' || status === 'skipped');
  const unnamed = skipped.filter(({ fullName }) => !fullName.includes(text));
  const failed = tests.filter(({ status }) => status === 'failed');
  for (const { fullName } of skipped) console.log(`skipped: ${fullName}`);
  for (const { fullName } of unnamed) console.log(`skipped without saying why: ${fullName}`);
  process.exit(skipped.length > 0 && unnamed.length === 0 && failed.length === 0 ? 0 : 1);
}

const report = read(first);
const code = Number(rest[0] ?? 0);
const skipped = report.numPendingTests + report.numTodoTests;
// A file that cannot be loaded fails without a test of its own.
const broken = report.testResults.filter(
  ({ status, assertionResults }) => status === 'failed' && assertionResults.every((test) => test.status !== 'failed'),
).length;
let failed = report.numFailedTests + broken;
if (failed === 0 && (code !== 0 || report.numTotalTests === 0)) failed = 1;
console.log(`${report.numPassedTests} ${failed} ${skipped}`);
