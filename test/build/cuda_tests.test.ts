// When the test addon for GPUs is built, for what, and that it loads where there is none.
import { expect, jest, test } from '@jest/globals';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { evaluate, fakePath, root, temporary } from './scripts';

jest.setTimeout(600_000);

const located = evaluate('nvcc.mjs', 'm.locateNvcc()') as { nvcc?: string } | null;
const why = !located?.nvcc
  ? ' (skipped: no nvcc on this machine; npm run cuda:compile fetches one)'
  : process.env.FUSED_GRPO_SLOW_TESTS
    ? ''
    : ' (skipped: it compiles for a minute; FUSED_GRPO_SLOW_TESTS=1 runs it)';

const machine = (smi: string, libraries = '') => ({
  PATH: fakePath({ 'nvidia-smi': smi, ldconfig: `echo "${libraries}"` }),
  ...{ FUSED_GRPO_NVCC: '', CUDA_HOME: '', FUSED_GRPO_DEPS: temporary(), FUSED_GRPO_CUDA_TESTS: '' },
});
const device = (smi: string, libraries?: string) => evaluate('cuda-tests.mjs', 'm.findDevice()', machine(smi, libraries)) as unknown;

test('the architectures are those of the GPUs that the kernels can run on', () => {
  expect(device('echo 9.0')).toEqual({ architectures: ['sm_90a'] });
  expect(device('echo 8.6; echo 9.0; echo 7.5; echo 8.6; echo 10.0')).toEqual({ architectures: ['sm_86', 'sm_90a', 'sm_100'] });
  expect(device('echo 7.5')).toEqual({ reason: 'the GPU here is sm_75, and the kernels need sm_80 or newer' });
});

test('a driver without nvidia-smi is a driver; without both there is nothing to run on', () => {
  expect(device('exit 1', 'libcuda.so.1 (libc6,x86-64) => /lib/libcuda.so.1')).toEqual({ architectures: ['sm_80', 'sm_90a'] });
  expect(device('echo No devices were found', 'libc.so.6')).toEqual({ reason: 'no NVIDIA driver on this machine' });
});

test('without a GPU nothing is built, without nvcc nothing is fetched, unless it is asked for', () => {
  const outcome = (smi: string, wish = '') =>
    evaluate('cuda-tests.mjs', 'm.cudaTests()', { ...machine(smi), FUSED_GRPO_CUDA_TESTS: wish }) as object;
  expect(outcome('exit 1')).toEqual({ reason: 'no NVIDIA driver on this machine' });
  expect(outcome('exit 1', 'require')).toEqual({ reason: 'no NVIDIA driver on this machine' });
  expect(outcome('echo 9.0')).toEqual({ reason: 'no nvcc to compile the kernels with; npm run test:cuda fetches one' });
  expect(outcome('echo 9.0', 'yes')).toMatchObject({ problem: "FUSED_GRPO_CUDA_TESTS is 'yes'." });
});

test('the command ends with 3 where there is no GPU', () => {
  const env = { ...process.env, ...machine('exit 1'), FUSED_GRPO_CUDA_TESTS: 'require' };
  const { status, stderr } = spawnSync(process.execPath, [join(root, 'scripts/cuda-tests.mjs')], { encoding: 'utf8', env });
  expect([status, stderr]).toEqual([3, 'The CUDA tests need an NVIDIA GPU: no NVIDIA driver on this machine.\n']);
});

(why ? test.skip : test)(`it compiles, links and loads where no GPU can be seen, and says that there is none${why}`, () => {
  const none = { CUDA_VISIBLE_DEVICES: '' };
  const built = evaluate('cuda-tests.mjs', "m.cudaTests({ wish: 'build', architectures: ['sm_90a'] })", none) as Record<string, string>;
  const noDevice = /no NVIDIA driver on this machine|no CUDA-capable device is detected/;
  expect(built).toEqual({ file: expect.stringMatching(/sm_90a\/cuda\.node$/), reason: expect.stringMatching(noDevice) });
  const ask = `const a = require(process.argv[1]); let error; try { a.selfTest(); } catch (e) { error = e; }
    console.log(JSON.stringify([a.simd(), a.problem(), error.code, error.message]));`;
  const { stdout } = spawnSync(process.execPath, ['-e', ask, built.file!], { encoding: 'utf8', env: { ...process.env, ...none } });
  expect(JSON.parse(stdout)).toEqual(['cuda', built.reason, 'ERR_CUDA', expect.stringMatching(/^cudaMalloc\(.*\): .*(driver|device)/)]);
});
