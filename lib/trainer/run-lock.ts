// One run writes into a folder at a time.
import { existsSync, openSync, closeSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { FusedGrpoError } from '../errors.js';

const NAME = '.running';
const mine = new Set<string>(); // locks of this thread

/** When a process began, in the kernel's ticks: its number alone may be another's by now. Empty where that cannot be told. */
function startOf(pid: number): string {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? '';
  } catch {
    return '';
  }
}

function isAlive(pid: number, start: string): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EPERM') return false;
  }
  return start === '' || startOf(pid) === start;
}

/** Whose lock it is, if that process still runs. */
function holder(path: string): number | undefined {
  try {
    const { pid, start } = JSON.parse(readFileSync(path, 'utf8')) as { pid: number; start: string };
    if (pid === process.pid) return mine.has(path) ? pid : undefined;
    return isAlive(pid, start) ? pid : undefined;
  } catch {
    return undefined; // cut off, or gone
  }
}

/** Marks the folder as being written. @throws FusedGrpoError ERR_IO when another run that is alive writes into it */
export function lockFolder(folder: string): void {
  const path = join(resolve(folder), NAME);
  const other = holder(path);
  if (other !== undefined)
    throw new FusedGrpoError(
      'ERR_IO',
      `${folder} is being written by another run (${other === process.pid ? 'of this process' : `process ${other}`}): stop that one first, or give another outputDir`,
    );
  rmSync(path, { force: true });
  try {
    const fd = openSync(path, 'wx');
    writeSync(fd, JSON.stringify({ pid: process.pid, start: startOf(process.pid) }));
    closeSync(fd);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'EEXIST') return; // a disk that is full or read-only says so elsewhere
    throw new FusedGrpoError('ERR_IO', `${folder} is being written by another run that has just begun`, { cause });
  }
  mine.add(path);
}

export function unlockFolder(folder: string): void {
  const path = join(resolve(folder), NAME);
  if (mine.delete(path) && existsSync(path)) rmSync(path, { force: true });
}
