// The products of decoding with the weight as it lies, compiled here by themselves: every instruction set that this machine has, at sizes
// around its vectors and tiles, against fp64.
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const root = join(__dirname, '../..');
let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'fg-products-'));
  const flags = ['-std=c++20', '-O2', '-ffp-contract=fast', '-fno-math-errno', '-Wno-psabi', '-Inative'];
  const core = readFileSync(join(root, 'native/kernels/sources.txt'), 'utf8').trim().split(/\s+/);
  const sources = ['linear_plain', 'linear_bf16'].map((f) => `native/kernels/cpu/${f}.cc`);
  const rows = core.filter((f) => /cpu\/(simd|rows_\w+)\.cc$/.test(f));
  execFileSync(process.env.CXX?.trim() || 'g++', [...flags, 'test/products/check.cc', ...sources, ...rows, '-o', join(folder, 'check')], {
    cwd: root,
    stdio: 'inherit',
  });
}, 240_000);
afterAll(() => rmSync(folder, { recursive: true }));

test.each(['avx512', 'avx2', 'portable', 'neon'])('%s', (set) => {
  const { stdout, status } = spawnSync(join(folder, 'check'), [set], { encoding: 'utf8' });
  if (status === 2) return console.warn(`This machine has no ${set}.`);
  const lines = stdout.trim().split('\n');
  expect([status, lines.slice(0, 2)]).toEqual([0, [expect.stringMatching(/^float32 /), expect.stringMatching(/^bfloat16 /)]]);
  // Both ways of AVX-512, whichever this machine takes.
  expect(lines.some((line) => line.startsWith('bfloat16-halves '))).toBe(set === 'avx512');
  for (const line of lines) expect(Number(line.split(' ')[1])).toBeLessThan(1);
});
