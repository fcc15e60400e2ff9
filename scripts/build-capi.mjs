// Builds libfused_grpo.so into build-capi/: node scripts/build-capi.mjs [--prefix DIR] [--asan]
// --prefix: installs header, library, CMake package and pkg-config file there. --asan: into build-capi-asan/, with sanitizers.
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { SetupError, fetchSet, root } from './deps.mjs';
import { takeLock } from './lock.mjs';
import { runAsCommand } from './run.mjs';
import { checkCompiler, checkMake, usableCmake } from './toolchain.mjs';

const log = (text) => process.stderr.write(text + '\n');

function cmakeCommand() {
  return usableCmake() ? 'cmake' : join(fetchSet('cmake', log), 'cmake/data/bin/cmake');
}

function run(command, args) {
  const result = spawnSync(command, args, { cwd: root, encoding: 'utf8', maxBuffer: 1 << 28 });
  const output = `${result.stdout ?? ''}${result.stderr ?? ''}`;
  if (process.env.FUSED_GRPO_VERBOSE) log(output);
  if (result.status !== 0)
    throw new SetupError(
      `Building the C library failed:\n${output.trim().split('\n').slice(-40).join('\n')}`,
      'read the errors above; FUSED_GRPO_VERBOSE=1 shows all output',
    );
}

/** Configures, builds and, with a prefix, installs; returns the library's file. */
export function buildCapi({ prefix, asan = false } = {}) {
  checkCompiler();
  const cmake = cmakeCommand();
  if (cmake === 'cmake') checkMake();
  const folder = join(root, asan ? 'build-capi-asan' : 'build-capi');
  const giveBack = takeLock(`${folder}.lock`, () => log('Waiting for another build of the C library to finish ...'));
  try {
    run(cmake, ['-S', 'native/capi', '-B', folder, '-DCMAKE_BUILD_TYPE=Release', `-DFG_ASAN=${asan ? 'ON' : 'OFF'}`]);
    run(cmake, ['--build', folder, '-j', '4']);
    if (prefix) run(cmake, ['--install', folder, '--prefix', prefix]);
  } finally {
    giveBack();
  }
  return join(folder, 'libfused_grpo.so');
}

function parse(argv) {
  const out = {};
  for (let i = 0; i < argv.length; ++i) {
    const [word, inline] = argv[i].split(/=(.*)/s);
    if (word === '--asan') out.asan = true;
    else if (word === '--prefix' && (out.prefix = inline ?? argv[++i])) continue;
    else throw new SetupError(`Unknown or incomplete option '${argv[i]}' of build:capi.`, 'use [--prefix DIR] [--asan]');
  }
  return out;
}

await runAsCommand(import.meta.url, async (argv) => {
  process.stdout.write(buildCapi(parse(argv)) + '\n');
});
