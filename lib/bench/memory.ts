// What an op needs beyond what is resident already.
import { readFileSync, writeFileSync } from 'node:fs';

const status = (field: string): number =>
  1024 * Number(new RegExp(`^${field}:\\s*(\\d+) kB`, 'm').exec(readFileSync('/proc/self/status', 'utf8'))![1]);

/**
 * Starts watching; the returned function says by how many bytes resident memory rose at most since then. Undefined where the system does not
 * tell (Linux does). Memory that the process kept from earlier calls is not seen: it is the first call that counts.
 */
export function watchMemory(): () => number | undefined {
  try {
    writeFileSync('/proc/self/clear_refs', '5'); // the high-water mark becomes what is resident now
    const before = status('VmRSS');
    return () => Math.max(0, status('VmHWM') - before);
  } catch {
    return () => undefined;
  }
}
