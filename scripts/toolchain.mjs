// Compiler, make, cmake: what is on this machine and how to get what is not.
import { spawnSync } from 'node:child_process';
import { SetupError } from './deps.mjs';

const MINIMUM_GCC = 11;
const MINIMUM_CMAKE = [3, 22]; // CMakeLists.txt

/** First line that a command prints, or null when it cannot be run. */
export function ask(command, args) {
  const result = spawnSync(command, args, { encoding: 'utf8' });
  return result.status === 0 ? `${result.stdout}${result.stderr}`.trim().split('\n')[0] : null;
}

const INSTALLERS = [
  ['apt-get', 'apt-get install -y', { compiler: 'g++ make', make: 'make', pip: 'python3-pip' }],
  ['dnf', 'dnf install -y', { compiler: 'gcc-c++ make', make: 'make', pip: 'python3-pip' }],
  ['apk', 'apk add', { compiler: 'g++ make', make: 'make', pip: 'py3-pip' }],
  ['pacman', 'pacman -S --noconfirm', { compiler: 'gcc make', make: 'make', pip: 'python-pip' }],
  ['zypper', 'zypper install -y', { compiler: 'gcc-c++ make', make: 'make', pip: 'python3-pip' }],
];

/** The command that installs `what` ('compiler', 'make', 'pip') with this machine's package manager. */
export function installCommand(what) {
  const found = INSTALLERS.find(([tool]) => ask(tool, ['--version']) !== null);
  if (!found) return `install ${what === 'compiler' ? 'g++ 11 or newer and make' : what === 'pip' ? 'Python 3 with pip' : what}`;
  const [, command, packages] = found;
  return `${process.getuid?.() === 0 ? '' : 'sudo '}${command} ${packages[what]}`;
}

/** { cxx, version, problem? } of the C++ compiler that CXX names, else g++. */
export function findCompiler() {
  const cxx = process.env.CXX?.trim() || 'g++';
  const [command, ...first] = cxx.split(/\s+/); // CXX="ccache g++" is usual
  const banner = ask(command, [...first, '--version']);
  if (banner === null) return { cxx, version: null, problem: `No C++ compiler: ${cxx} was not found.` };
  const version = ask(command, [...first, '-dumpfullversion', '-dumpversion']) ?? ask(command, [...first, '-dumpversion']) ?? '';
  if (!/clang/i.test(banner) && /g\+\+|gcc|Free Software/i.test(banner + cxx) && Number(version.split('.')[0]) < MINIMUM_GCC)
    return { cxx, version, problem: `${cxx} is version ${version}; C++20 needs ${MINIMUM_GCC} or newer.` };
  return { cxx, version };
}

/** 'g++ 12.2.0', or the reason why there is none. */
export function checkCompiler() {
  const { cxx, version, problem } = findCompiler();
  if (problem)
    throw new SetupError(
      problem,
      `${installCommand('compiler')}${version ? ' (version 11 or newer), or set CXX to a newer compiler' : ''}`,
    );
  return `${cxx} ${version}`;
}

export function checkMake() {
  if (ask(process.env.MAKE ?? 'make', ['--version']) === null)
    throw new SetupError('make was not found (node-gyp needs it).', installCommand('make'));
}

/** The machine's cmake version when it is new enough, else null: pip's is fetched then. */
export function usableCmake() {
  if (process.env.FUSED_GRPO_PIP_CMAKE) return null;
  const version = /version (\d+)\.(\d+)(\S*)/.exec(ask('cmake', ['--version']) ?? '');
  if (!version) return null;
  const [major, minor] = [Number(version[1]), Number(version[2])];
  const enough = major > MINIMUM_CMAKE[0] || (major === MINIMUM_CMAKE[0] && minor >= MINIMUM_CMAKE[1]);
  const generator = ask('ninja', ['--version']) !== null || ask('make', ['--version']) !== null;
  return enough && generator ? `${major}.${minor}${version[3]}` : null;
}
