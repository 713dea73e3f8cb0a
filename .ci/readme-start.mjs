// Runs the README's first command in the clone, verbatim, and does what its reader would: waits for the server, asks it
// something with the README's own curl command, watches a switch go by in the log, and presses Ctrl-C. Five checks,
// counted one by one.
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { processesOf, snapshot } from './processes.mjs';
import { readmeCommands } from './readme.mjs';

const clone = process.argv[2];
const before = snapshot();
const url = 'http://127.0.0.1:8080';
const { start, curl } = readmeCommands(clone);
console.log(`$ ${start}`);

let log = '';
// A process group of its own, as a terminal makes one: Ctrl-C reaches everybody in it.
const child = spawn('bash', ['-c', start], { cwd: clone, detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
for (const stream of [child.stdout, child.stderr]) {
  stream.setEncoding('utf8').on('data', (text) => {
    log += text;
  });
}
const exited = once(child, 'exit');
let ended = false;
exited.then(() => {
  ended = true;
});

/** Asks until it is answered; an error, or the end of the program, is "not yet" or "never". */
async function until(seconds, ask) {
  const deadline = Date.now() + seconds * 1000;
  while (Date.now() < deadline && !ended) {
    const answer = await ask().catch(() => null);
    if (answer) return answer;
    await sleep(500);
  }
  return null;
}

const results = [];
const check = (what, holds) => {
  console.log(`${holds ? 'ok' : 'FAILED'}: ${what}`);
  results.push(Boolean(holds));
};

const ready = await until(300, async () => (await fetch(`${url}/readyz`)).ok);
check('the server gets ready', ready);
const answer = await until(60, async () => {
  const { stdout } = spawnSync('bash', ['-c', curl], { encoding: 'utf8', timeout: 60_000 });
  return /"content":\s*"[^"]/.test(stdout) && stdout;
});
check(`curl is answered with text (${String(answer).length} characters)`, answer);
const switched = await until(150, async () => /switch\b.*\bdone\b/i.exec(log));
check(`a switch is done within two minutes: ${switched?.[0] ?? 'none in the log'}`, switched);

if (!ended) process.kill(-child.pid, 'SIGINT');
const code = await Promise.race([exited.then(([value, signal]) => value ?? signal), sleep(60_000, 'no end')]);
check(`Ctrl-C ends it in order (exit: ${code})`, [0, 130, 'SIGINT'].includes(code));
await sleep(1000);
const left = processesOf([clone], before);
for (const { pid, command } of left) console.log(`left over: ${pid} ${command}`);
check('no process is left behind', left.length === 0);

if (results.includes(false)) console.log(`--- log of npm start\n${log.slice(-20_000)}\n---`);
for (const { pid } of left) process.kill(pid, 'SIGKILL');
if (!ended) process.kill(-child.pid, 'SIGKILL');
const passed = results.filter(Boolean).length;
if (process.env.COUNTS) writeFileSync(process.env.COUNTS, `${passed} ${results.length - passed} 0`);
process.exit(passed === results.length ? 0 : 1);
