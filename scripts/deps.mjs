// Third-party build inputs, fetched with pip into a private folder (.deps/ in the package's own folder; git ignores it).
// Why one pip call a set, into a .part folder that is renamed at the end: see docs/LOG.md ("pip --target").
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import place from './addons/place.cjs';
import { isRunning } from './lock.mjs';

export const root = place.root;
export const depsFolder = place.depsFolder();
export const MINIMUM_TORCH = [2, 11];
const CUDA = '13.2.86';

// Pinned to one interpreter's wheel (no Python is ever loaded, only its libtorch), so that every machine gets the same bytes.
const WHEEL_TARGET = ['--python-version', '3.13', '--implementation', 'cp'].concat(
  ...['2_28', '2_27', '2_26', '2_25', '2_24', '2_17'].map((v) => ['--platform', `manylinux_${v}_x86_64`]),
  ['--platform', 'manylinux2014_x86_64'],
);

/** What each set holds. `size`: bytes on disk while it is being fetched (wheel and unpacked files together). */
export const SETS = {
  // other processors take what their own Python finds
  torch: {
    pins: ['torch==2.15.0', `nvidia-cuda-runtime==${CUDA}`, `nvidia-cuda-cupti==${CUDA}`],
    target: process.arch === 'x64' ? WHEEL_TARGET : [],
    size: 2.0e9,
  },
  cmake: { pins: ['cmake==4.4.4', 'ninja==1.13.2'], target: [], size: 0.2e9 },
  // the CUDA compiler and its disassemblers; no driver and no GPU is needed to compile
  nvcc: {
    pins: ['nvcc', 'crt', 'runtime', 'cccl', 'cuobjdump', 'nvdisasm']
      .map((p) => `nvidia-cuda-${p}==${CUDA}`)
      .concat(`nvidia-nvvm==${CUDA}`),
    target: [],
    size: 0.7e9,
  },
  'clang-format': { pins: ['clang-format==19.1.7'], target: [], size: 0.02e9 },
};

export class SetupError extends Error {
  constructor(message, remedy) {
    super(`${message}\n  To mend it: ${remedy}`);
    this.name = 'SetupError';
    this.problem = message;
    this.remedy = remedy;
  }
}

const tell = (command, args) => {
  const result = spawnSync(command, args, { encoding: 'utf8' });
  return result.status === 0 ? `${result.stdout}${result.stderr}`.trim().split('\n')[0] : null;
};
const venvPython = () => join(depsFolder, 'py', 'bin', 'python');

/** What this machine's Python can do: { python, version, pip, venv }, each null or false when it is not there. Installs nothing. */
export function findPython(system = '/usr/bin/python3') {
  for (const python of [process.env.PYTHON, 'python3', 'python', system, venvPython()]) {
    const pip = python ? tell(python, ['-m', 'pip', '--version']) : null;
    if (pip) return { python, version: tell(python, ['--version']), pip: pip.replace(/ from .*/, ''), venv: true };
  }
  const python = [process.env.PYTHON, 'python3', 'python'].find((p) => p && /^Python 3/.test(tell(p, ['--version']) ?? ''));
  if (!python) return { python: null, version: null, pip: null, venv: false };
  return {
    python,
    version: tell(python, ['--version']),
    pip: null,
    venv: tell(python, ['-c', 'import venv, ensurepip; print(1)']) !== null,
  };
}

/** A Python 3 that has pip; makes a private venv when the machine's Python has no pip of its own. */
export function pythonWithPip(system) {
  const { python, pip, venv } = findPython(system);
  if (pip) return python;
  const remedy = 'install Python 3 with pip (Debian/Ubuntu: apt-get install python3-pip), or set LIBTORCH to a libtorch you have';
  if (!python) throw new SetupError('Python 3 was not found (pip fetches libtorch).', remedy);
  if (venv) {
    mkdirSync(depsFolder, { recursive: true });
    rmSync(join(depsFolder, 'py'), { recursive: true, force: true }); // a half-made one
    if (tell(python, ['-m', 'venv', join(depsFolder, 'py')]) !== null && tell(venvPython(), ['-m', 'pip', '--version']))
      return venvPython();
  }
  throw new SetupError('Python 3 is there but has no pip.', remedy);
}

function explainPip(name, output) {
  const line =
    output
      .trim()
      .split('\n')
      .filter((l) => /error/i.test(l))
      .at(-1) ??
    output.trim().split('\n').at(-1) ??
    '';
  if (/No space left|Errno 28/i.test(output))
    return new SetupError(
      `The disk is full (fetching ${name}).`,
      `free some space under ${depsFolder}, or set FUSED_GRPO_DEPS to a folder on a larger disk`,
    );
  if (
    /Connection|resolve|timed? ?out|Max retries|Temporary failure|Network is unreachable|No matching distribution|Could not find a version/i.test(
      output,
    )
  )
    return new SetupError(
      `pip could not fetch ${name}: ${line}`,
      "check the network or pip's index settings and run the command again, or set LIBTORCH to a libtorch you have",
    );
  return new SetupError(
    `pip failed while fetching ${name}: ${line}`,
    'run the command again; if it persists, set LIBTORCH to a libtorch you have',
  );
}

/** What fetches have left that were killed: <set>.<pid>.part. */
export function leftovers() {
  if (!existsSync(depsFolder)) return [];
  return readdirSync(depsFolder).filter((name) => name.endsWith('.part') && !isRunning(Number(/\.(\d+)\.part$/.exec(name)?.[1] ?? NaN)));
}

export function removeLeftovers() {
  for (const name of leftovers()) rmSync(join(depsFolder, name), { recursive: true, force: true });
}

/** Fetches a set once and returns its folder. */
export function fetchSet(name, log = (text) => process.stderr.write(text + '\n')) {
  const { pins, target, size } = SETS[name];
  const folder = join(depsFolder, name);
  const stamp = join(folder, '.set');
  const want = pins.join('\n');
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === want) return folder;
  const python = pythonWithPip();
  mkdirSync(depsFolder, { recursive: true });
  const disk = statfsSync(depsFolder);
  if (disk.bavail * disk.bsize < size)
    throw new SetupError(
      `Not enough disk space for ${name}: ${(size / 1e9).toFixed(1)} GB needed, ${((disk.bavail * disk.bsize) / 1e9).toFixed(1)} GB free under ${depsFolder}.`,
      'free some space, or set FUSED_GRPO_DEPS to a folder on a larger disk',
    );
  log(`Fetching ${pins.join(', ')} with pip (once, into ${folder}) ...`);
  removeLeftovers();
  const part = `${folder}.${process.pid}.part`;
  // On a terminal pip shows its own progress bar; elsewhere only its errors matter.
  const shown = process.stderr.isTTY ? [] : ['--quiet'];
  const pip = spawnSync(
    python,
    [
      '-m',
      'pip',
      'install',
      ...shown,
      '--disable-pip-version-check',
      '--root-user-action=ignore',
      '--no-cache-dir',
      '--no-compile',
      '--no-deps',
      '--only-binary=:all:',
      ...target,
      '--target',
      part,
      ...pins,
    ],
    { encoding: 'utf8', maxBuffer: 1 << 26, stdio: ['ignore', shown.length ? 'pipe' : 2, 'pipe'] },
  );
  if (pip.status !== 0) {
    rmSync(part, { recursive: true, force: true });
    throw explainPip(name, `${pip.stdout ?? ''}${pip.stderr ?? ''}${pip.error ?? ''}`);
  }
  writeFileSync(join(part, '.set'), want); // last: a folder without it is not whole
  rmSync(folder, { recursive: true, force: true });
  renameSync(part, folder);
  return folder;
}
