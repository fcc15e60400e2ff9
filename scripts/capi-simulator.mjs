// Builds libfused_grpo with its GPU part over the simulator: the real .cu files, run on the host. For test/capi/cuda.test.ts.
import { join } from 'node:path';
import { readFileSync } from 'node:fs';
import { root } from './deps.mjs';
import { CXX, HOST_FLAGS, buildAddon, sourcesIn } from './objects.mjs';
import { runAsCommand } from './run.mjs';

const folder = join(root, 'build-simulator');
const STAND_IN = 'test/backends/cuda/stand-in';

const sources = () => [
  ...sourcesIn('native/kernels/cuda', /\.cu$/),
  ...readFileSync(join(root, 'native/kernels/sources.txt'), 'utf8').trim().split(/\s+/),
  ...sourcesIn('native/capi', /\.cc$/),
  'native/capi/cuda/device.cc',
  ...sourcesIn('test/simulator', /\.cc$/).filter((s) => !/backend\.cc$|planted\.cc$/.test(s)),
  'test/capi/cuda_run_time.cc',
];

const job = (source) => ({
  source,
  folder: join(folder, /capi/.test(source) ? 'capi' : 'objects'), // kernels are shared with the simulator's own addon
  command: CXX,
  args: [...HOST_FLAGS, ...(/capi/.test(source) ? [`-I${STAND_IN}`, '-DFG_VERSION="simulated"'] : []), '-x', 'c++'],
});

await runAsCommand(import.meta.url, async () => {
  const file = await buildAddon({ folder, name: 'libfused_grpo-simulated.so', jobs: sources().map(job), linkArgs: ['-pthread'] });
  process.stdout.write(file + '\n');
});
