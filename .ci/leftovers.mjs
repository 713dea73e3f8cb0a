// Fails when a process of ours is still there, or somebody listens on the quick start's port.
//
//   node .ci/leftovers.mjs --snapshot FILE        before anything was started
//   node .ci/leftovers.mjs FILE FOLDER...         afterwards
import { readFileSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { processesOf, snapshot } from './processes.mjs';

const [first, ...rest] = process.argv.slice(2);
if (first === '--snapshot') {
  writeFileSync(rest[0], JSON.stringify(snapshot()));
  process.exit(0);
}
const left = processesOf(rest, JSON.parse(readFileSync(first, 'utf8')));
for (const { pid, command } of left) console.log(`left over: ${pid} ${command}`);
const open = await new Promise((resolve) => {
  const socket = connect(8080, '127.0.0.1');
  socket.on('connect', () => resolve(true)).on('error', () => resolve(false));
});
if (open) console.log('left over: somebody listens on port 8080');
process.exit(left.length === 0 && !open ? 0 : 1);
