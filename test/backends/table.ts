// What the case tables of test/cuda run on: the CUDA kernels in the simulator and, where there is one, on a GPU. The CPU's kernels are
// what both are compared with.
import { afterAll, describe, test } from '@jest/globals';
import { substituteCore } from '../../lib/native.js';
import { simulator, type SimulatedLaunch } from '../simulator/simulator.js';
import type { BackendAddon, Settings } from './addon.js';
import { cudaBackend } from './cuda.js';

export interface Backend {
  name: 'cuda-simulated' | 'cuda';
  /** Why it cannot run here. */
  reason?: string;
  addon(): BackendAddon;
  configure(settings: Settings): void;
  /** The launches since the last call; a GPU does not tell. */
  launches?(): SimulatedLaunch[];
  /** Whether products and sums are rounded one by one, as on the CPU; nvcc joins them. */
  roundsLikeCpu: boolean;
}

/** A row kernel on a backend. */
export interface Kernel {
  name: string;
  reason?: string;
  backend: Backend;
  variant: 'block' | 'cluster';
  /** Functional ops run on it from now on, in an order of threads that follows from the seed (a GPU has its own). */
  use(seed: number, more?: Settings): void;
}

const simulated: Backend = {
  name: 'cuda-simulated',
  addon: simulator,
  configure: (settings) => simulator().configure(settings),
  launches: () => simulator().lastLaunches(),
  roundsLikeCpu: true,
};

const found = cudaBackend();
const gpu: Backend = {
  name: 'cuda',
  reason: found.reason,
  addon: () => found.addon!,
  configure: ({ variant }) => found.addon!.configure({ variant }),
  roundsLikeCpu: false,
};

export const BACKENDS: Backend[] = [simulated, gpu];

function kernel(backend: Backend, variant: Kernel['variant'], device: Settings = {}, reason = backend.reason): Kernel {
  const name = [backend.name, device.arch, `one ${variant} a row`].filter(Boolean).join(', ');
  const use = (seed: number, more: Settings = {}) => {
    substituteCore(backend.addon());
    backend.configure({ variant, ...device, seed, ...more });
  };
  return { name, reason, backend, variant, use };
}

const noClusters = found.addon && found.addon.architecture() < 90 ? 'the GPU here has no clusters, which came with sm_90' : undefined;
export const KERNELS: Kernel[] = [
  kernel(simulated, 'block', { arch: 'sm_80', multiprocessors: 2 }),
  kernel(simulated, 'cluster', { arch: 'sm_90', multiprocessors: 2 }),
  kernel(gpu, 'block'),
  kernel(gpu, 'cluster', {}, found.reason ?? noClusters),
];

/** The tests of `body` once for every entry; an entry that cannot run here leaves one skipped test, which says why. */
export function onEach<T extends { name: string; reason?: string }>(what: string, table: T[], body: (entry: T) => void): void {
  afterAll(() => substituteCore(undefined));
  for (const entry of table)
    describe(`${what} on ${entry.name}`, () => (entry.reason ? test.skip(`(skipped: ${entry.reason})`, () => {}) : body(entry)));
}
