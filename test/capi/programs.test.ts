// Programs that embed the library: eight threads at once, and an external CMake project that finds it in both ways.
import { expect, test } from '@jest/globals';
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, renameSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { libraryFile, root, temporary } from './library.js';

const sanitized = process.env.FUSED_GRPO_CAPI ? ['-fsanitize=address,undefined'] : [];
const run = (command: string, args: string[], cwd = root) => {
  const result = spawnSync(command, args, { cwd, encoding: 'utf8', env: { ...process.env, LD_PRELOAD: '' } });
  if (result.status !== 0)
    throw new Error(`${command} ${args.join(' ')}: ${result.status ?? result.signal}\n${result.stdout}${result.stderr}`);
  return result.stdout;
};

test('eight threads at once get the bits that one gets', () => {
  const program = join(temporary(), 'threads');
  const flags = ['-std=gnu99', '-O1', '-Wall', '-Wextra', '-Werror', ...sanitized, '-pthread', `-I${join(root, 'native/capi')}`];
  run('cc', [...flags, join(__dirname, 'threads.c'), libraryFile, '-lm', `-Wl,-rpath,${dirname(libraryFile)}`, '-o', program]);
  expect(run(program, [])).toMatch(/^the same, loss -?\d/);
});

const cmake = spawnSync('cmake', ['--version']).status === 0;
(cmake && !sanitized.length ? test : test.skip)('examples/c, as a project of its own, against an installed and then moved library', () => {
  const folder = temporary();
  execFileSync(process.execPath, [join(root, 'scripts/build-capi.mjs'), '--prefix', join(folder, 'first')], { stdio: 'pipe' });
  renameSync(join(folder, 'first'), join(folder, 'installed')); // nothing in it may name where it was
  cpSync(join(root, 'examples/c'), join(folder, 'project'), { recursive: true });
  run(
    'cmake',
    [
      '-S',
      'project',
      '-B',
      'build',
      `-DCMAKE_PREFIX_PATH=${join(folder, 'installed')}`,
      '-DCMAKE_C_FLAGS=-Wall -Wextra -Wpedantic -Werror',
    ],
    folder,
  );
  run('cmake', ['--build', 'build'], folder);
  const said = run(join(folder, 'build/toy'), []);
  expect(said).toMatch(/^fused-grpo \d+\.\d+\.\d+: mean reward 0\.[01]\d\d in the first step, (0\.9\d\d|1\.000) in the last\n$/);
  const pkgConfig = spawnSync('pkg-config', ['--version']).status === 0;
  if (pkgConfig) expect(run(join(folder, 'build/toy_pkg_config'), [])).toBe(said);
});
