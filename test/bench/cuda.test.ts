// The suite's case for a card: what it makes of the program's lines, and why it is left out.
import { expect, test } from '@jest/globals';
import { spawnSync } from 'node:child_process';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { cudaRows, cudaSkipped } from '../../lib/bench/cuda.js';
import { jobs } from '../../lib/bench/suite.js';

test('ratios are to the copy of the same shape', () => {
  const own = (dtype: string, vocab: number, copy: number) =>
    ({ what: 'fused-grpo', device: 'card', dtype, vocab, rows: 100, copy_ms: copy, grpo_ms: 1.25 * copy, logp_ms: 0.5 * copy }) as const;
  const rows = cudaRows([
    own('bf16', 32000, 2),
    own('f32', 32000, 8),
    { what: 'liger', device: 'card', dtype: 'f32', vocab: 32000, rows: 100, ms: 40 },
    { what: 'liger', device: 'card', dtype: 'f32', vocab: 999, rows: 100, ms: 40 },
  ]);
  expect(rows.map((r) => [r.name, r.seconds.median, r.perBaseline, r.bandwidthShare])).toEqual([
    ['copy, bf16, 100 x 32000', 0.002, 1, undefined],
    ['grpoLoss, fused, bf16, 100 x 32000', 0.0025, 1.25, 0.8],
    ['selectiveLogp, bf16, 100 x 32000', 0.001, 0.5, 1],
    ['copy, f32, 100 x 32000', 0.008, 1, undefined],
    ['grpoLoss, fused, f32, 100 x 32000', 0.01, 1.25, 0.8],
    ['selectiveLogp, f32, 100 x 32000', 0.004, 0.5, 1],
    ['liger, f32, 100 x 32000', 0.04, 5, undefined], // the shape that ours did not measure has no ratio and is left out
  ]);
});

test('left out, with the reason, where there is no driver or no source of the program', () => {
  expect(cudaSkipped(() => false)).toMatch(/no NVIDIA driver/);
  expect(cudaSkipped((path) => path === '/dev/nvidiactl')).toMatch(/in the repository, not in the package/);
  expect(cudaSkipped(() => true)).toBeUndefined();
  const [job] = jobs(['cuda'], true);
  expect(job!.skip).toBe(cudaSkipped());
});

const reason = cudaSkipped();
(reason ? test : test.skip)(`asked for alone, it is an error that says why${reason ? '' : ' (skipped: here is a card)'}`, () => {
  const args = [join(__dirname, '../../scripts/cli.mjs'), 'bench', 'cuda', '--json', '--output', join(tmpdir(), 'fused-grpo-nothing')];
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
  expect([status, stdout]).toEqual([2, '']);
  expect(stderr).toContain(`Nothing was measured: cuda, ${reason}`);
  expect(stderr).not.toContain('Written');
});
