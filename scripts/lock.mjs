// A lock file that names its owner: one build at a time in a folder; what a dead process left behind is taken over.
import { closeSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';

function open(lock) {
  try {
    closeSync(openSync(lock, 'wx'));
    writeFileSync(lock, String(process.pid));
    return true;
  } catch (error) {
    if (error.code === 'EEXIST') return false;
    throw error;
  }
}

function ownerAlive(lock, waited) {
  let owner = 0;
  try {
    owner = Number(readFileSync(lock, 'utf8')) || 0;
  } catch {
    return true; // it has just been given back: try again
  }
  if (!owner) return waited < 4; // the owner may not have written its pid yet
  return isRunning(owner);
}

/** Whether there is a process of this number. */
export function isRunning(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM';
  }
}

/** Waits for the lock, takes it and returns what gives it back. `onWait` is called once, when there is something to wait for. */
export function takeLock(lock, onWait = () => {}) {
  for (let waited = 0; !open(lock); ++waited) {
    if (!ownerAlive(lock, waited)) {
      rmSync(lock, { force: true });
      continue;
    }
    if (waited === 1) onWait();
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 500);
  }
  return () => rmSync(lock, { force: true });
}
