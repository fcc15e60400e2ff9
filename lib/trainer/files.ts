// Files of a run. Everything is written whole or not at all: into a temporary name, synced, then renamed.
import {
  closeSync,
  cpSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
  appendFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { FusedGrpoError } from '../errors.js';

function ioError(what: string, path: string, cause: unknown): FusedGrpoError {
  const code = (cause as NodeJS.ErrnoException).code;
  const why =
    code === 'ENOSPC' ? 'the disk is full' : code === 'EACCES' || code === 'EPERM' ? 'permission denied' : (cause as Error).message;
  return new FusedGrpoError('ERR_IO', `Cannot ${what} ${path}: ${why}`, { cause });
}

export function syncPath(path: string): void {
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** One by one: Node's recursive mkdir never returns in some file systems (/proc), and names a wrong reason in others. */
function makeParents(path: string): void {
  if (existsSync(path) && statSync(path).isDirectory()) return;
  if (dirname(path) !== path) makeParents(dirname(path));
  mkdirSync(path);
}

export function makeFolder(path: string): void {
  try {
    makeParents(path);
  } catch (cause) {
    throw ioError('create the folder', path, cause);
  }
}

/** Writes a text file atomically: readers see the old content or the new one. */
export function writeFileAtomic(path: string, text: string): void {
  const part = join(dirname(path), `.${basename(path)}.part`);
  try {
    const fd = openSync(part, 'w');
    try {
      for (let bytes = Buffer.from(text), done = 0; done < bytes.length;) done += writeSync(fd, bytes, done);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(part, path);
    syncPath(dirname(path));
  } catch (cause) {
    rmSync(part, { force: true });
    throw ioError('write', path, cause);
  }
}

/** The model of a checkpoint folder, without what belongs to its trainer. */
export async function copyModel(checkpoint: string, folder: string): Promise<void> {
  cpSync(checkpoint, folder, { recursive: true, filter: (source) => source !== join(checkpoint, 'trainer') });
}

/** Appends one JSON line. */
export function appendJsonLine(path: string, value: unknown): void {
  try {
    appendFileSync(path, JSON.stringify(value) + '\n');
  } catch (cause) {
    throw ioError('append to', path, cause);
  }
}

/**
 * Fills `folder` through `fill(temporary folder)` and puts it in place by renaming. A folder of that name is replaced.
 * When `fill` throws, nothing is left behind and the old folder is untouched.
 */
export async function writeFolderAtomic(folder: string, fill: (part: string) => Promise<void>): Promise<void> {
  const part = `${folder}.part`;
  const old = `${folder}.old`;
  try {
    rmSync(part, { recursive: true, force: true });
    mkdirSync(part, { recursive: true });
    await fill(part);
    syncTree(part);
    rmSync(old, { recursive: true, force: true });
    if (existsSync(folder)) renameSync(folder, old);
    renameSync(part, folder);
    syncPath(dirname(folder));
    rmSync(old, { recursive: true, force: true });
  } catch (cause) {
    rmSync(part, { recursive: true, force: true });
    if (!existsSync(folder) && existsSync(old)) renameSync(old, folder);
    throw cause instanceof FusedGrpoError ? cause : ioError('write', folder, cause);
  }
}

function syncTree(folder: string): void {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) syncTree(path);
    else syncPath(path);
  }
  syncPath(folder);
}
