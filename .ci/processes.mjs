// Which processes on this machine belong to a folder, and were not there before: those that work in it or name it on
// their command line.
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

/** All processes as `pid:start`, since numbers are used again. */
export function snapshot() {
  return listProcesses().map(({ key }) => key);
}

/**
 * @param known - processes to leave out, as {@link snapshot} gives them.
 * @returns {{ pid: number, command: string }[]} without this process and its parents.
 */
export function processesOf(folders, known = []) {
  const own = new Set();
  for (let pid = process.pid; pid > 1; pid = parentOf(pid)) own.add(pid);
  const before = new Set(known);
  const belongs = ({ cwd, command }) =>
    folders.some((folder) => cwd === folder || cwd.startsWith(`${folder}/`) || command.includes(`${folder}/`));
  return listProcesses().filter((found) => !own.has(found.pid) && !before.has(found.key) && belongs(found));
}

const listProcesses = () =>
  readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((name) => describe(Number(name)))
    .filter((found) => found !== null);

function parentOf(pid) {
  try {
    return Number(/^PPid:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))[1]);
  } catch {
    return 0;
  }
}

function describe(pid) {
  try {
    const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim();
    // A kernel thread or a process that has ended and waits for its parent has no command line.
    if (command === '') return null;
    // Field 22 is the start time; the name in parentheses before it may hold anything.
    const started = readFileSync(`/proc/${pid}/stat`, 'utf8')
      .replace(/^.*\) /s, '')
      .split(' ')[19];
    return { pid, key: `${pid}:${started}`, command, cwd: readlinkSync(`/proc/${pid}/cwd`) };
  } catch {
    return null;
  }
}
