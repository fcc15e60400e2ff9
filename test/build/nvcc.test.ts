// Which CUDA compiler is taken, and when the engine's GPU part is built.
import { expect, test } from '@jest/globals';
import { join } from 'node:path';
import { evaluate, fakePath, plant, temporary } from './scripts';

const nothing = { FUSED_GRPO_NVCC: '', CUDA_HOME: '', FUSED_GRPO_CUDA: '', FUSED_GRPO_DEPS: temporary(), PATH: fakePath({}) };
const nvcc = (version: string) => fakePath({ nvcc: `echo "Cuda compilation tools, release ${version}, V${version}.61"` }, ['sh', 'ldd']);
const torch = (extra: Record<string, string> = {}) => {
  const folder = plant(temporary(), { 'lib/libtorch_cpu.so': '', 'lib/libcudart.so.13': '', ...extra });
  return JSON.stringify({ folder, nvidia: null });
};

test('none is there: null, and nothing is fetched', () => {
  expect(evaluate('nvcc.mjs', 'm.locateNvcc()', nothing)).toBeNull();
});

test('the one on PATH, when it is new enough for every architecture', () => {
  const found = (version: string) => evaluate('nvcc.mjs', 'm.locateNvcc()', { ...nothing, PATH: nvcc(version) }) as unknown;
  expect(found('12.4')).toBeNull();
  expect(found('12.8')).toMatchObject({ version: '12.8.61', why: 'on PATH' });
  expect(found('13.2')).toMatchObject({ version: '13.2.61' });
});

test('one that is named must be of use', () => {
  const named = (file: string) => evaluate('nvcc.mjs', 'm.locateNvcc()', { ...nothing, FUSED_GRPO_NVCC: file }) as { problem: string };
  expect(named('/nowhere/nvcc').problem).toMatch(/^The nvcc that FUSED_GRPO_NVCC names cannot be used: \/nowhere\/nvcc does not run/);
  expect(named(join(nvcc('12.4'), 'nvcc')).problem).toMatch(/it is 12\.4\.61, and 12\.8 or newer is needed/);
});

test('the GPU part is built where nvcc and all of libtorch’s CUDA libraries are there, or where it is asked for', () => {
  const choice = (torchJson: string, env: Record<string, string>) =>
    evaluate('nvcc.mjs', `m.cudaChoice(${torchJson})`, { ...nothing, PATH: nvcc('13.2'), ...env }) as unknown;
  expect(choice(torch(), {})).toBeNull(); // a libtorch for the CPU alone
  expect(choice(torch({ 'lib/libtorch_cuda.so': 'not a library' }), {})).toBeNull();
  expect(choice(torch(), { FUSED_GRPO_CUDA: '1' })).toMatchObject({
    version: '13.2.61',
    cudart: expect.stringContaining('lib/libcudart.so.13'),
  });
  expect(choice(torch(), { FUSED_GRPO_CUDA: '0' })).toBeNull();
  expect(choice(torch(), { FUSED_GRPO_CUDA: 'yes' })).toMatchObject({ problem: "FUSED_GRPO_CUDA is 'yes'." });
});
