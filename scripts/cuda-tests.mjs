// Builds the test addon whose ops run on a GPU, where there is one: node scripts/cuda-tests.mjs [--json]
// FUSED_GRPO_CUDA_TESTS=require (npm run test:cuda): no GPU is an error, and nvcc is fetched when there is none; =build: builds anywhere.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { SetupError, root } from './deps.mjs';
import { NVCC_FLAGS, findCudart, findNvcc, gencode, locateNvcc } from './nvcc.mjs';
import { CXX, HOST_FLAGS, buildAddon, hostKernels, sourcesIn } from './objects.mjs';
import { runAsCommand } from './run.mjs';

const require = createRequire(import.meta.url);
const log = (text) => process.stderr.write(text + '\n');
const NO_DEVICE = 3; // the exit code, as gpu-check's
const WITHOUT_DEVICE = ['sm_80', 'sm_90a'];

const env = { ...process.env, PATH: `${process.env.PATH}:/sbin:/usr/sbin` }; // where ldconfig lies
const printed = (command, args) => spawnSync(command, args, { encoding: 'utf8', timeout: 20_000, env }).stdout ?? '';

/** What the GPUs of this machine need: { architectures }, or the { reason } why there is nothing to run on. Cheap: loads no CUDA. */
export function findDevice() {
  const answer = printed('nvidia-smi', ['--query-gpu=compute_cap', '--format=csv,noheader']);
  const found = answer.split('\n').filter((line) => /^\d+\.\d+$/.test(line));
  const all = [...new Set(found)].map((line) => `sm_${line.replace('.', '')}`);
  const usable = all.filter((arch) => Number(arch.slice(3)) >= 80).map((arch) => (arch === 'sm_90' ? 'sm_90a' : arch));
  if (usable.length) return { architectures: usable };
  if (all.length) return { reason: `the GPU here is ${all.join(', ')}, and the kernels need sm_80 or newer` };
  const driver = printed('ldconfig', ['-p']).includes('libcuda.so.1');
  return driver ? { architectures: WITHOUT_DEVICE } : { reason: 'no NVIDIA driver on this machine' };
}

/** nvcc's headers, for g++; a distribution's own toolkit has them where every compiler looks. */
function headers({ nvcc }) {
  const home = join(dirname(nvcc), '..');
  const folder = [home, join(home, 'targets/x86_64-linux')]
    .map((f) => join(f, 'include'))
    .find((f) => existsSync(join(f, 'cuda_runtime_api.h')));
  return folder ? ['-isystem', folder] : [];
}

function build(nvcc, architectures) {
  const folder = join(root, 'build-cuda/jest', architectures.join('-'));
  const cudart = findCudart(nvcc);
  const device = [...NVCC_FLAGS, '-lineinfo', '-Xcompiler', '-fPIC,-fvisibility=hidden', ...architectures.flatMap(gencode)];
  const host = [...HOST_FLAGS, ...headers(nvcc)];
  const job = (command, args) => (source) => ({ source, folder: join(folder, 'objects'), command, args, version: nvcc.version });
  const hostSources = [...hostKernels(), ...sourcesIn('test/backends', /\.cc$/), ...sourcesIn('test/backends/cuda', /\.cc$/)];
  return buildAddon({
    folder,
    name: 'cuda.node',
    jobs: [...sourcesIn('native/kernels/cuda', /\.cu$/).map(job(nvcc.nvcc, device)), ...hostSources.map(job(CXX, host))],
    linkArgs: [cudart, `-Wl,-rpath,${dirname(cudart)}`],
  });
}

/** { file }: it runs here. { reason }: nothing to run on. Both: it has been built all the same, because that was asked for. */
export async function cudaTests({ wish = process.env.FUSED_GRPO_CUDA_TESTS ?? '', architectures } = {}) {
  if (!['', 'build', 'require'].includes(wish))
    throw new SetupError(`FUSED_GRPO_CUDA_TESTS is '${wish}'.`, 'use build, require, or leave it unset');
  const device = findDevice();
  if (device.reason && wish !== 'build') return device;
  const nvcc = wish ? findNvcc(log) : locateNvcc();
  if (!nvcc) return { reason: 'no nvcc to compile the kernels with; npm run test:cuda fetches one' };
  const file = await build(nvcc, architectures ?? device.architectures ?? WITHOUT_DEVICE);
  const reason = require(file).problem();
  return reason ? { file, reason } : { file };
}

await runAsCommand(import.meta.url, async (argv) => {
  const { file, reason } = await cudaTests();
  if (argv.includes('--json')) return console.log(JSON.stringify({ file, reason }));
  if (file) console.log(file);
  if (!reason) return;
  console.error(`The CUDA tests need an NVIDIA GPU: ${reason}.`);
  process.exitCode = NO_DEVICE;
});
