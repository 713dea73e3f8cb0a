// Fails when a process of ours is still there, or somebody listens on the quick start's port.
import { connect } from 'node:net';
import { processesOf } from './processes.mjs';

const folders = process.argv.slice(2);
const left = processesOf(folders).filter(({ command }) => !/\.ci\/run/.test(command));
for (const { pid, command } of left) console.log(`left over: ${pid} ${command}`);
const open = await new Promise((resolve) => {
  const socket = connect(8080, '127.0.0.1');
  socket.on('connect', () => resolve(true)).on('error', () => resolve(false));
});
if (open) console.log('left over: somebody listens on port 8080');
process.exit(left.length === 0 && !open ? 0 : 1);
