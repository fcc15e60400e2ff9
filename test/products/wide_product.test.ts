// The products of bfloat16 by way of float32, compiled here by themselves: sizes around their tiles, blocks and parts, every orientation of
// the factors and everything that can be done with the result, against fp64.
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const root = join(__dirname, '../..');
let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'fg-products-'));
  const flags = ['-std=c++20', '-O2', '-ffp-contract=off', '-fno-math-errno', '-Wno-psabi', '-pthread', '-Inative'];
  const core = readFileSync(join(root, 'native/kernels/sources.txt'), 'utf8').trim().split(/\s+/);
  const sources = ['native/kernels/cpu/wide_product.cc', ...core.filter((f) => /cpu\/(simd|rows_\w+)\.cc$/.test(f))];
  execFileSync(process.env.CXX?.trim() || 'g++', [...flags, 'test/products/wide_product.cc', ...sources, '-o', join(folder, 'check')], {
    cwd: root,
    stdio: 'inherit',
  });
}, 240_000);
afterAll(() => rmSync(folder, { recursive: true }));

test('wide products', () => {
  const { stdout, status } = spawnSync(join(folder, 'check'), { encoding: 'utf8' });
  if (status === 2) return console.warn('This machine has no AVX-512.');
  expect([status, stdout]).toEqual([0, expect.stringMatching(/^worst \d/)]);
  expect(Number(stdout.split(' ')[1])).toBeLessThan(1);
}, 120_000);
