// Which CUDA compiler is used: the one FUSED_GRPO_NVCC or CUDA_HOME names, one on PATH, else pip's in .deps/. No GPU is needed.
import { spawnSync } from 'node:child_process';
import { existsSync, realpathSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { SetupError, depsFolder, fetchSet, root } from './deps.mjs';
import { ask } from './toolchain.mjs';

export const MINIMUM_NVCC = [12, 8]; // the first that knows sm_100
/** Of every kernel that is compiled. */
export const NVCC_FLAGS = ['-std=c++20', '-O3', '-Werror', 'all-warnings', '--expt-relaxed-constexpr', '-I', join(root, 'native')];
export const ARCHITECTURES = ['sm_80', 'sm_90a', 'sm_100'];
/** The same, as CMake writes them. */
export const CMAKE_ARCHITECTURES = ARCHITECTURES.map((a) => `${a.slice(3)}-real`).join(';');

/** nvcc's words for machine code of one architecture. */
export const gencode = (arch) => ['-gencode', `arch=${arch.replace('sm_', 'compute_')},code=${arch}`];

const bins = (folder) => join(folder, 'nvidia/cu13/bin');

/** 'major.minor.patch' of an nvcc, or null when it cannot be run. */
export function nvccVersion(nvcc) {
  const result = spawnSync(nvcc, ['--version'], { encoding: 'utf8' });
  return result.status === 0 ? (/release [\d.]+, V([\d.]+)/.exec(result.stdout)?.[1] ?? null) : null;
}

const newEnough = (version) => {
  const [major, minor] = version.split('.').map(Number);
  return major > MINIMUM_NVCC[0] || (major === MINIMUM_NVCC[0] && minor >= MINIMUM_NVCC[1]);
};

function named() {
  if (process.env.FUSED_GRPO_NVCC) return { nvcc: resolve(process.env.FUSED_GRPO_NVCC), why: 'FUSED_GRPO_NVCC' };
  return null;
}

function onThisMachine() {
  const places = [];
  if (process.env.CUDA_HOME) places.push({ nvcc: join(process.env.CUDA_HOME, 'bin/nvcc'), why: 'CUDA_HOME' });
  const path = ask('sh', ['-c', 'command -v nvcc']);
  if (path) places.push({ nvcc: realpathSync(path), why: 'on PATH' });
  return places.find(({ nvcc }) => existsSync(nvcc) && newEnough(nvccVersion(nvcc) ?? '0')) ?? null;
}

/** The nvcc that a build would take, without fetching: { nvcc, version, why }, or null. Throws for a named one that is of no use. */
export function locateNvcc() {
  const wish = named();
  if (wish) {
    const version = existsSync(wish.nvcc) ? nvccVersion(wish.nvcc) : null;
    if (version && newEnough(version)) return { ...wish, version };
    throw new SetupError(
      `The nvcc that FUSED_GRPO_NVCC names cannot be used: ${version ? `it is ${version}, and ${MINIMUM_NVCC.join('.')} or newer is needed` : `${wish.nvcc} does not run`}.`,
      'unset FUSED_GRPO_NVCC to have one fetched by pip',
    );
  }
  const fetched = join(depsFolder, 'nvcc');
  const own = existsSync(join(fetched, '.set')) ? { nvcc: join(bins(fetched), 'nvcc'), why: '' } : null;
  const found = onThisMachine() ?? own;
  return found ? { ...found, version: nvccVersion(found.nvcc) } : null;
}

/** The same, fetched with pip when there is none. */
export function findNvcc(log) {
  const found = locateNvcc();
  if (found) return found;
  const nvcc = join(bins(fetchSet('nvcc', log)), 'nvcc');
  return { nvcc, why: '', version: nvccVersion(nvcc) };
}

/** cuobjdump, for which nvdisasm must be found too; a bare toolkit may lack them: then pip's. */
export function findDisassembler({ nvcc }, log) {
  for (const folder of [dirname(nvcc), join(dirname(nvcc), '../bin')])
    if (existsSync(join(folder, 'cuobjdump')) && existsSync(join(folder, 'nvdisasm'))) return join(folder, 'cuobjdump');
  return join(bins(fetchSet('nvcc', log)), 'cuobjdump');
}

/** null: libtorch's CUDA half can be loaded; otherwise what it lacks. pip's lean set has the file, not the libraries it needs. */
export function missingForTorchCuda(torch) {
  const file = join(torch.folder, 'lib/libtorch_cuda.so');
  if (!existsSync(file)) return 'libtorch_cuda.so';
  const result = spawnSync('ldd', [file], { encoding: 'utf8' });
  return result.status === 0 ? (/^\s*(\S+) => not found/m.exec(result.stdout)?.[1] ?? null) : 'what ldd could not tell';
}

/** The CUDA run-time of nvcc's major version: the one that libtorch brings, so that there is one in the process, else nvcc's. */
export function findCudart({ nvcc, version }, torch = { folder: null, nvidia: null }) {
  const name = `libcudart.so.${version.split('.')[0]}`;
  const home = join(dirname(nvcc), '..');
  const folders = [
    torch.nvidia,
    torch.folder && join(torch.folder, 'lib'),
    join(home, 'lib'),
    join(home, 'lib64'),
    join(home, 'targets/x86_64-linux/lib'),
  ];
  const folder = folders.find((f) => f && existsSync(join(f, name)));
  if (!folder) throw new SetupError(`${name} was not found beside ${nvcc} or libtorch.`, 'set FUSED_GRPO_CUDA=0 to build without CUDA');
  return join(realpathSync(folder), name);
}

/**
 * With what the engine's GPU part is built, or null: not at all. FUSED_GRPO_CUDA=1 asks for it anywhere, with or without a GPU (nvcc is
 * fetched then), =0 refuses it; otherwise it is built where both an nvcc and a libtorch with all of CUDA's libraries are there.
 */
export function cudaChoice(torch, log) {
  const wish = process.env.FUSED_GRPO_CUDA ?? '';
  if (!['', '0', '1'].includes(wish)) throw new SetupError(`FUSED_GRPO_CUDA is '${wish}'.`, 'use 1, 0, or leave it unset');
  if (wish === '0' || (wish === '' && missingForTorchCuda(torch) !== null)) return null;
  const found = wish === '1' ? findNvcc(log) : locateNvcc();
  if (!found) {
    log?.('libtorch has CUDA, but no nvcc was found: building for the CPU alone (FUSED_GRPO_CUDA=1 fetches one and builds for both).');
    return null;
  }
  return { nvcc: found.nvcc, version: found.version, cudart: findCudart(found, torch) };
}
