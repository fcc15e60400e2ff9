// Builds the test addon that runs the CUDA kernels on the host: node scripts/simulator.mjs [--asan | --stand-in]
// --stand-in: the addon that is made for GPUs (scripts/cuda-tests.mjs), with a stand-in for the CUDA run-time over the simulator.
import { join } from 'node:path';
import { root } from './deps.mjs';
import { CXX, HOST_FLAGS, buildAddon, hostKernels, sourcesIn } from './objects.mjs';
import { runAsCommand } from './run.mjs';

const folder = join(root, 'build-simulator');
const STAND_IN = 'test/backends/cuda/stand-in';
const SANITIZE = ['-fsanitize=address,undefined'];

/** Kernels, addon, the simulator. */
const sources = () => [
  ...sourcesIn('native/kernels/cuda', /\.(cu|cc)$/),
  ...hostKernels(),
  ...sourcesIn('test/backends', /\.cc$/),
  ...sourcesIn('test/simulator', /\.(cu|cc)$/),
];
const standInSources = () => [
  ...sources().filter((s) => s !== 'test/simulator/backend.cc'),
  ...sourcesIn('test/backends/cuda', /\.cc$/),
  ...sourcesIn(STAND_IN, /\.cc$/),
];

function job(source, asan) {
  const more = [
    ...(asan ? ['-g', ...SANITIZE, '-fno-sanitize=vptr'] : []),
    ...(source.startsWith('test/backends/cuda/') ? [`-I${STAND_IN}`] : []),
  ];
  return { source, folder: join(folder, asan ? 'asan' : 'objects'), command: CXX, args: [...HOST_FLAGS, ...more, '-x', 'c++'] };
}

/** Builds what is out of date and returns the addon's file. */
export const buildSimulator = ({ asan = false, standIn = false } = {}) =>
  buildAddon({
    folder,
    name: asan ? 'simulator-asan.node' : standIn ? 'stand-in.node' : 'simulator.node',
    jobs: (standIn ? standInSources() : sources()).map((source) => job(source, asan)),
    linkArgs: asan ? SANITIZE : [],
  });

await runAsCommand(import.meta.url, async (argv) => {
  process.stdout.write((await buildSimulator({ asan: argv.includes('--asan'), standIn: argv.includes('--stand-in') })) + '\n');
});
