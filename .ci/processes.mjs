// Which processes on this machine belong to a folder: those that work in it or name it on their command line.
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

/** @returns {{ pid: number, command: string }[]} without this process and its parents. */
export function processesOf(folders) {
  const own = new Set();
  for (let pid = process.pid; pid > 1; pid = parentOf(pid)) own.add(pid);
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && !own.has(Number(name)))
    .map((name) => describe(Number(name)))
    .filter((found) => found !== null)
    .filter(({ cwd, command }) =>
      folders.some((folder) => cwd === folder || cwd.startsWith(`${folder}/`) || command.includes(`${folder}/`)),
    );
}

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
    return command === '' ? null : { pid, command, cwd: readlinkSync(`/proc/${pid}/cwd`) };
  } catch {
    return null;
  }
}
