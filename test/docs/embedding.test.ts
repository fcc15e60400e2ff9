// docs/embedding.md: its programs compile without a warning, run, and print what it says; its CMake project builds.
import { expect, test } from '@jest/globals';
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { root, temporary } from '../capi/library.js';

const doc = readFileSync(join(root, 'docs', 'embedding.md'), 'utf8');
const blocks = [...doc.matchAll(/^```(\w+)\n([\s\S]*?)^```$/gm)].map(([, language, text]) => ({ language: language!, text: text! }));
const block = (language: string, n = 0) => blocks.filter((b) => b.language === language)[n]!.text;
const folder = temporary();
const prefix = join(folder, 'installed');
execFileSync(process.execPath, [join(root, 'scripts/build-capi.mjs'), '--prefix', prefix], { stdio: 'pipe' });
const run = (command: string, args: string[]) => execFileSync(command, args, { cwd: folder, encoding: 'utf8' });
const STRICT = ['-Wall', '-Wextra', '-Wpedantic', '-Werror'];
const LIBRARY = [`-I${prefix}/include`, `-L${prefix}/lib`, `-Wl,-rpath,${prefix}/lib`];

test.each([
  ['c', 'cc', '-std=c99', 0],
  ['cpp', 'c++', '-std=c++17', 1],
])('the program in %s', (language, compiler, standard, printed) => {
  const file = /(embedding\.\w+):/.exec(block(language))![1]!;
  writeFileSync(join(folder, file), block(language));
  run(compiler, [standard, ...STRICT, file, ...LIBRARY, '-lfused_grpo', '-o', `from-${language}`]);
  expect(run(join(folder, `from-${language}`), [])).toBe(block('text', printed));
});

test('the CMake project', () => {
  writeFileSync(join(folder, 'embedding.c'), block('c'));
  writeFileSync(join(folder, 'CMakeLists.txt'), block('cmake'));
  run('cmake', ['-B', 'build', `-DCMAKE_PREFIX_PATH=${prefix}`]);
  run('cmake', ['--build', 'build']);
  expect(run(join(folder, 'build/embedding'), [])).toBe(block('text'));
});

const python = process.env.FUSED_GRPO_PEERS_PYTHON; // npm run test:python makes one that is not looked for here
(python ? test : test.skip)('the program in Python (FUSED_GRPO_PEERS_PYTHON names one with torch)', () => {
  const env = { ...process.env, PYTHONPATH: join(root, 'examples/python'), FUSED_GRPO_LIBRARY: join(prefix, 'lib/libfused_grpo.so') };
  expect(execFileSync(python!, ['-c', block('python')], { encoding: 'utf8', env })).toBe(block('text', 2));
});

test('names only what the header has', () => {
  const header = readFileSync(join(root, 'native/capi/fused_grpo.h'), 'utf8');
  for (const [name] of doc.matchAll(/\b(?:fg_[a-z_]+[a-z]|FG_[A-Z_0-9]+)\b/g)) expect(header).toContain(name);
  expect(blocks.map((b) => b.language).filter((l) => !['sh', 'cmake', 'c', 'cpp', 'text', 'python'].includes(l))).toEqual([]);
});
