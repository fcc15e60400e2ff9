// examples/cpp: built as a project of its own against an installed libfused_grpo and libtorch, in both ways of finding the latter. The
// program compares the gradient with unfused libtorch's, trains, and exits with 1 where either fails. Compiling torch's headers twice takes
// most of a minute: with FUSED_GRPO_SLOW_TESTS alone.
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { evaluate } from '../build/scripts.js';

const root = join(__dirname, '../..');
const able = Boolean(process.env.FUSED_GRPO_SLOW_TESTS) && spawnSync('cmake', ['--version']).status === 0;

(able ? describe : describe.skip)('examples/cpp', () => {
  let folder: string;
  let torch: string;
  const file = (...names: string[]) => join(folder, ...names);

  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'cpp-example-'));
    torch = (evaluate('libtorch.mjs', 'm.locateLibtorch()') as { folder: string }).folder;
    execFileSync(process.execPath, [join(root, 'scripts/build-capi.mjs'), '--prefix', file('fused-grpo')], { stdio: 'pipe' });
  }, 300_000);
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  /** Builds and runs it; what it prints. */
  function built(name: string, ...flags: string[]): string {
    const run = (command: string, args: string[]) => {
      const { status, stdout, stderr } = spawnSync(command, args, { encoding: 'utf8' });
      if (status !== 0) throw new Error(`${command} ${args.join(' ')}: ${status}\n${stdout.slice(-4000)}${stderr.slice(-4000)}`);
      return stdout;
    };
    const common = ['-DCMAKE_BUILD_TYPE=Release', '-DCMAKE_CXX_FLAGS=-Wall -Wextra -Werror'];
    run('cmake', ['-S', join(root, 'examples/cpp'), '-B', file(name), ...common, ...flags]);
    run('cmake', ['--build', file(name)]);
    return run(file(name, 'train'), []);
  }

  function check(said: string): void {
    const errors = [...said.matchAll(/gradient as unfused libtorch's to (\S+) of its largest entry\n/g)].map(([, e]) => Number(e));
    expect(errors).toHaveLength(4); // float32, bfloat16; beside the logits and in their place
    for (const [i, error] of errors.entries()) expect(error).toBeLessThan(i % 2 ? 8e-3 : 2e-6);
    const ends = [...said.matchAll(/: mean reward (\d\.\d+) -> (\d\.\d+) in/g)].map(([, first, last]) => [Number(first), Number(last)]);
    expect(ends).toHaveLength(2); // float32, bfloat16 logits
    for (const [first, last] of ends) {
      expect(first).toBeLessThan(0.2);
      expect(last).toBeGreaterThan(0.9);
    }
  }

  test('with TORCH_FOLDER', () => {
    check(built('by-hand', `-DCMAKE_PREFIX_PATH=${file('fused-grpo')}`, `-DTORCH_FOLDER=${torch}`));
  }, 300_000);

  test('with find_package(Torch), of a libtorch for the CPU', () => {
    // The wheel's own package files, with what they say of CUDA taken out where it was built with it (that part needs a CUDA toolkit).
    const libtorch = file('libtorch');
    mkdirSync(join(libtorch, 'share'), { recursive: true });
    for (const name of ['include', 'lib']) symlinkSync(join(torch, name), join(libtorch, name));
    cpSync(join(torch, 'share/cmake'), join(libtorch, 'share/cmake'), { recursive: true });
    const edit = (name: string, ...changes: [RegExp, string][]) => {
      const path = join(libtorch, 'share/cmake', name);
      writeFileSync(
        path,
        changes.reduce((text, [from, to]) => text.replace(from, to), readFileSync(path, 'utf8')),
      );
    };
    edit('Torch/TorchConfig.cmake', [/^if\(1\)$/gm, 'if(OFF)']);
    edit('Caffe2/Caffe2Config.cmake', [/^if\(1\)$/gm, 'if(OFF)']);
    edit('Caffe2/Caffe2Targets.cmake', [/torch_cpu_library;torch_cuda_library/g, 'torch_cpu_library'], [/torch::cudart;?/g, '']);
    edit('Caffe2/Caffe2Targets-release.cmake', [/\/libtorch\.so"/g, '/libtorch_cpu.so"']); // the other one loads CUDA's libraries
    check(built('found', `-DCMAKE_PREFIX_PATH=${file('fused-grpo')};${libtorch}`));
  }, 300_000);
});
