// The test addon: the core addon's ops by the CUDA kernels, on a simulated device. Built on first use where it is out of date.
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import type { BackendAddon } from '../backends/addon.js';

export interface SimulatedLaunch {
  kernel: string;
  blocks: number;
  threads: number;
  cluster: number;
  sharedBytes: number;
  staticSharedBytes: number;
  /** Of global memory. Bytes read again in the same launch count in rereadBytes too, those by 16-byte accesses in wideBytes. */
  readBytes: number;
  rereadBytes: number;
  writtenBytes: number;
  wideBytes: number;
  bulkBytes: number;
  accesses: number;
  atomics: number;
  /** A digest of the order in which threads ran. */
  schedule: string;
}

export interface SimulatorAddon extends BackendAddon {
  /** The launches since the last call. */
  lastLaunches(): SimulatedLaunch[];
  /** Runs a kernel with a planted mistake, or its healthy twin: what the simulator says. */
  planted(name: string, seed?: number, healthy?: boolean): { name: string; message: string } | null;
  plantedNames(): string[];
}

const root = join(__dirname, '..', '..');
let loaded: SimulatorAddon | undefined;

export function simulator(): SimulatorAddon {
  if (loaded) return loaded;
  const file = execFileSync(process.execPath, [join(root, 'scripts', 'simulator.mjs')], { encoding: 'utf8' }).trim();
  loaded = require(file) as SimulatorAddon;
  return loaded;
}
