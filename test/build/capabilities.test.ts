import { afterEach, expect, jest, test } from '@jest/globals';

// Addons of other machines and other times: what they export may differ from what is built here.
const addons: { core: () => unknown; engine: () => unknown } = { core: () => ({}), engine: () => ({}) };
jest.mock('../../lib/native.js', () => ({
  packageRoot: require('node:path').join(__dirname, '../..'),
  core: () => addons.core(),
  engine: () => addons.engine(),
}));
import { capabilities } from '../../lib/capabilities.js';

afterEach(() => {
  addons.core = () => ({});
  addons.engine = () => ({ info: () => ({}) });
});

test('nothing built: reasons, never an exception', () => {
  addons.core = addons.engine = () => {
    throw new Error('is not built. Run: npx fused-grpo build');
  };
  const caps = capabilities();
  expect(caps).toMatchObject({ core: false, engine: false, cuda: false, devices: [], torchVersion: null, simd: null, version: '0.1.0' });
  expect(caps.reasons.core).toContain('npx fused-grpo build');
  expect(caps.reasons.engine).toContain('npx fused-grpo build');
});

test('core alone, with simd as a function', () => {
  addons.core = () => ({ simd: () => 'avx512' });
  addons.engine = () => {
    // eslint-disable-next-line @typescript-eslint/only-throw-error -- even what is not an Error
    throw 'odd';
  };
  expect(capabilities()).toMatchObject({ core: true, simd: 'avx512', engine: false, reasons: { engine: 'odd' } });
});

test('an engine without CUDA and one with', () => {
  addons.core = () => ({ simd: 'avx2' });
  addons.engine = () => ({ info: () => ({ torchVersion: '2.15.0', threads: 2 }) });
  expect(capabilities()).toMatchObject({
    engine: true,
    torchVersion: '2.15.0',
    threads: 2,
    cuda: false,
    devices: [{ name: 'cpu' }],
    simd: 'avx2',
    reasons: { cuda: 'built without CUDA; to build it in: FUSED_GRPO_CUDA=1 npx fused-grpo build engine' },
  });
  addons.engine = () => ({ info: () => ({ cuda: false, cudaReason: 'no device: none', cudaArchitectures: ['80'] }) });
  expect(capabilities()).toMatchObject({ cuda: false, cudaArchitectures: ['80'], reasons: { cuda: 'no device: none' } });
  addons.engine = () => ({
    info: () => ({
      torchVersion: '2.15.0',
      cuda: true,
      devices: [{ name: 'cuda:0', description: 'H100' }],
      cudaArchitectures: [80, '90a'],
    }),
  });
  expect(capabilities()).toMatchObject({
    cuda: true,
    cudaArchitectures: ['80', '90a'],
    devices: [{ name: 'cpu' }, { name: 'cuda:0' }],
    reasons: {},
  });
});

test('an engine whose info fails is not there', () => {
  addons.engine = () => ({
    info: () => {
      throw new Error('broken');
    },
  });
  expect(capabilities()).toMatchObject({ engine: false, reasons: { engine: 'broken' } });
});
