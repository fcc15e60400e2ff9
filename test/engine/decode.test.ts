// Decoding on packed weights and with libtorch's products, on every instruction set, at lengths around the blocks of the cache: what
// was sampled has the log-probs that scoring computes.
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { Policy } from '../../lib/engine/policy.js';
import { families, goldenModels, largest } from './support.js';

let folder: string;
beforeAll(() => void (folder = mkdtempSync(join(tmpdir(), 'fg-decode-'))));
afterAll(() => rmSync(folder, { recursive: true }));

/** A model of the golden ones with another context length. */
function withContext(name: string, positions: number): string {
  const dir = join(folder, `${name}-${positions}`);
  cpSync(join(goldenModels, name), dir, { recursive: true });
  const config = JSON.parse(readFileSync(join(dir, 'config.json'), 'utf8')) as object;
  writeFileSync(join(dir, 'config.json'), JSON.stringify({ ...config, max_position_embeddings: positions }));
  return dir;
}

describe('lengths around blocks and spans of the cache', () => {
  test.each([
    ['llama', 'float32', 2e-5],
    ['gemma3', 'float32', 2e-5],
    ['mistral', 'float32', 2e-5],
    ['qwen3', 'bfloat16', 0.25],
  ] as [string, 'float32' | 'bfloat16', number][])('%s %s', async (name, dtype, bound) => {
    const policy = await Policy.load(withContext(name, 1024), { dtype });
    const prompts = [1, 15, 16, 17, 63, 64, 65, 255, 256, 257, 600].map((n) =>
      Int32Array.from({ length: n }, (_, i) => 3 + ((i * 7) % 90)),
    );
    const { completions } = await policy.generate(prompts, { numGenerations: 2, maxNewTokens: 70, seed: 9, ignoreEos: true });
    const { logps } = await policy.score(prompts, completions);
    policy.dispose();
    expect(completions).toHaveLength(22);
    expect(largest(completions.flatMap((c, i) => Array.from(c.logps, (l, t) => Math.abs(l - logps[i]![t]!))))).toBeLessThan(bound);
  });
});

interface Run {
  tokens: number[][];
  /** The largest difference to the log-probs of scoring. */
  error: number;
  logps: number[][];
}

const SCRIPT = `
const { Policy } = require(process.argv[1]);
(async () => {
  const out = {};
  for (const name of JSON.parse(process.argv[3])) {
    const policy = await Policy.load(process.argv[2] + '/' + name, { dtype: process.argv[4] });
    const prompts = [[5, 17, 40, 9], [3], Array.from({ length: 30 }, (_, i) => 3 + i)].map((p) => Int32Array.from(p));
    const { completions } = await policy.generate(prompts, { numGenerations: 7, maxNewTokens: 33, seed: 2, ignoreEos: true });
    const { logps } = await policy.score(prompts, completions);
    let error = 0;
    completions.forEach((c, i) => c.logps.forEach((l, t) => (error = Math.max(error, Math.abs(l - logps[i][t])))));
    out[name] = { tokens: completions.map((c) => [...c.tokens]), logps: completions.map((c) => [...c.logps]), error };
    policy.dispose();
  }
  console.log(JSON.stringify(out));
})();`;

function decodeIn(env: Record<string, string>, dtype = 'float32'): Record<string, Run> {
  const args = ['-e', SCRIPT, join(__dirname, '../../dist/cjs/index.js'), goldenModels, JSON.stringify(families), dtype];
  const { stdout, stderr, status } = spawnSync(process.execPath, args, {
    encoding: 'utf8',
    env: { ...process.env, NODE_OPTIONS: '', ...env },
  });
  if (status !== 0) throw new Error(stderr);
  return JSON.parse(stdout) as Record<string, Run>;
}

describe('in processes of their own', () => {
  let usual: Record<string, Run>;
  beforeAll(() => void (usual = decodeIn({ OMP_NUM_THREADS: '2' })));

  const settings: Record<string, string>[] = [
    { FUSED_GRPO_SIMD: 'portable' },
    { FUSED_GRPO_SIMD: 'avx2' },
    { FUSED_GRPO_PACKED_MB: '0' },
    { FUSED_GRPO_PACKED_MB: '0', OMP_NUM_THREADS: '1' },
  ];
  test.each(settings)('%p: the log-probs of scoring, in every family', (env) => {
    const runs = decodeIn(env);
    for (const name of families) {
      expect([name, runs[name]!.error < 5e-5]).toEqual([name, true]);
      expect(runs[name]!.tokens[0]).toEqual(usual[name]!.tokens[0]);
    }
  });

  test.each(['avx512', 'avx2'])('bfloat16 weights as they lie, %s: near the log-probs of scoring, in every family', (set) => {
    const runs = decodeIn({ FUSED_GRPO_PACKED_MB: '0', FUSED_GRPO_SIMD: set }, 'bfloat16');
    for (const name of families) expect([name, runs[name]!.error < 0.25]).toEqual([name, true]);
  });

  test('the kernels run on several threads (an engine compiled without OpenMP says 1)', () => {
    const script = `console.log(require(process.argv[1]).capabilities().threads)`;
    const env = { ...process.env, NODE_OPTIONS: '', OMP_NUM_THREADS: '2' };
    const { stdout } = spawnSync(process.execPath, ['-e', script, join(__dirname, '../../dist/cjs/index.js')], { encoding: 'utf8', env });
    expect(stdout.trim()).toBe(availableParallelism() > 1 ? '2' : '1');
  });

  test.each(['1', '3'])('%s threads: the same bits as two', (threads) => {
    expect(decodeIn({ OMP_NUM_THREADS: threads })).toEqual(usual);
  });
});
