// The addon for GPUs on a machine without one: cuda/device.cc over a stand-in for the CUDA run-time, with the simulator's memory and
// kernels. What only this addon does is tested here; what the kernels compute, in test/cuda.
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { selectiveLogp } from '../../lib/index.js';
import { substituteCore } from '../../lib/native.js';
import { sweep } from '../support/sweep.js';
import type { CudaAddon } from './addon.js';

const script = join(__dirname, '..', '..', 'scripts', 'simulator.mjs');
const file = execFileSync(process.execPath, [script, '--stand-in'], { encoding: 'utf8' }).trim();
/** `plant`: what goes wrong from now on. */
const addon = require(file) as CudaAddon & { plant(name: string): void; places(): number };

beforeEach(() => substituteCore(addon));
afterEach(() => {
  substituteCore(undefined);
  addon.plant('');
});

const op = (logits = Float32Array.of(1, 2, 3, 4, 5, 6)) => selectiveLogp({ logits, vocabSize: 3, targets: Int32Array.of(0, 2) });

test.each(['block', 'cluster'] as const)('random cases: %s', (variant) => {
  addon.configure({ variant });
  for (let seed = 1; seed <= 25; ++seed) sweep(`stand-in, ${variant}`, seed, seed);
  expect(addon.selfTest()).toBe('');
});

test.each([
  ['memory is full', 'CUDA error', /^cudaMalloc\(.*\): out of memory$/],
  ['kernel fails', 'CUDA error', /^cudaStreamSynchronize\(.*\): illegal address$/],
  ['written before', 'out of bounds', /^a kernel wrote beside an array of \d+ bytes$/],
  ['written behind', 'out of bounds', /^a kernel wrote beside an array of \d+ bytes$/],
  ['nothing written', 'output not written', /^the outcome was not written$/],
])('%s: an error says so, and the next call is well again', (what, violation, message) => {
  addon.plant(what);
  expect(() => op()).toThrow(expect.objectContaining({ code: 'ERR_CUDA', violation, message: expect.stringMatching(message) }));
  addon.plant('');
  expect(op().logps[1]).toBeCloseTo(-Math.log(1 + Math.exp(-1) + Math.exp(-2)), 6);
});

test("an array lies in the GPU's memory where it lies on the host, modulo 16 bytes", () => {
  for (let elements = 0; elements < 4; ++elements) op(new Float32Array(9).subarray(elements, elements + 6));
  expect(addon.places() & 0x1111).toBe(0x1111);
});

test('whether there is a device', () => {
  expect(addon.problem()).toBe('');
  addon.plant('no driver');
  expect(addon.problem()).toBe('no NVIDIA driver on this machine');
  addon.plant('no device');
  expect(addon.problem()).toBe('the NVIDIA driver lists no device');
});

test('a GPU cannot be made another one', () => {
  expect(() => addon.configure({ arch: 'sm_80' })).toThrow('a GPU cannot be made another one');
});
