// Neither the number of threads nor the cut into micro-batches may change a number.
import { expect, test } from '@jest/globals';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { grpoLoss, type LossConfig } from '../../lib/index.js';
import { core } from '../../lib/native.js';
import { lossArguments } from '../../lib/ops/config.js';
import { Random } from '../support/random.js';

/** Losses of every kind of step: by token, by sequence, by the whole batch. */
const STEPS: LossConfig[] = [
  { lossType: 'dapo', entropyCoef: 0.01 },
  { lossType: 'grpo', importanceSamplingLevel: 'sequence', entropyThreshold: 2 },
  { lossType: 'vespo', topEntropyQuantile: 0.5 },
  { lossType: 'clip_cov', clipCovRatio: 0.1, clipCovLow: 0.001 },
  { lossType: 'kl_cov', klCovRatio: 0.1 },
];

/** Runs in a fresh process on the bare addon: a digest of every output of those losses on 300 rows of 5000. */
const SCRIPT = `
const core = require(process.argv[1]);
const hash = require('node:crypto').createHash('sha256');
for (const config of ${inspect(
  STEPS.map((config) => lossArguments('config', config).native),
  { breakLength: Infinity },
)}) {
  const N = 300, V = 5000, logits = new Float32Array(N * V), targets = new Int32Array(N), oldLogps = new Float32Array(N);
  let s = 1;
  for (let i = 0; i < N * V; ++i) { s = Math.imul(s, 1664525) + 1013904223 | 0; logits[i] = s / 3e8; }
  for (let i = 0; i < N; ++i) { targets[i] = (i * 37) % V; oldLogps[i] = -9 - (i % 7) / 10; }
  const out = core.grpoLoss({ ...config, rows: N, sequences: 3, offsets: Int32Array.of(0, 90, 200, N), logits, gradLogits: logits, dtype: 0, vocab: V,
    rowStride: V, sequenceStride: 0, gradRowStride: V, gradSequenceStride: 0, targets, oldLogps, advantages: Float32Array.of(1, -1, 0.5),
    advantagesPerToken: false, entropy: true });
  for (const a of [logits, out.logps, out.entropies]) hash.update(new Uint8Array(a.buffer));
  hash.update(JSON.stringify(out.metrics));
}
console.log(JSON.stringify([core.threads(), core.simd(), hash.digest('hex')]));
`;

function child(threads: number, simd: string): [number, string, string] {
  const addon = join(__dirname, '../../build/Release/core.node');
  const env = { ...process.env, FUSED_GRPO_THREADS: String(threads), FUSED_GRPO_SIMD: simd };
  const { stdout, stderr } = spawnSync(process.execPath, ['-e', SCRIPT, addon], { env, encoding: 'utf8' });
  if (!stdout) throw new Error(stderr);
  return JSON.parse(stdout) as [number, string, string];
}

test.each(['portable', core().simd()])('1, 2, 3 and 7 threads give the same bits (%s)', (simd) => {
  const runs = [1, 2, 3, 7].map((n) => child(n, simd));
  expect(runs.map(([threads, level]) => [threads, level])).toEqual([1, 2, 3, 7].map((n) => [n, simd]));
  expect(new Set(runs.map(([, , digest]) => digest)).size).toBe(1);
});

/** What the whole step is divided by. */
const DIVISORS = {
  sequences: (B: number, _tokens: number) => B,
  tokens: (_B: number, tokens: number) => tokens,
  longest: (B: number, _tokens: number) => 9 * B,
};

const CONFIGS: [LossConfig, keyof typeof DIVISORS][] = [
  [{ lossType: 'grpo' }, 'sequences'],
  [{ lossType: 'bnpo' }, 'tokens'],
  [{ lossType: 'dapo' }, 'tokens'],
  [{ lossType: 'dr_grpo', maxCompletionLength: 9 }, 'longest'],
  [{ lossType: 'luspo', importanceSamplingLevel: 'sequence' }, 'sequences'],
  [{ lossType: 'grpo', importanceSamplingLevel: 'sequence' }, 'sequences'],
  [{ lossType: 'dapo', importanceSamplingLevel: 'sequence_token' }, 'tokens'],
  [{ lossType: 'cispo', epsilonHigh: 2 }, 'tokens'],
  [{ lossType: 'sapo' }, 'sequences'],
  [{ lossType: 'vespo', samplerImportanceSampling: 'token_truncate' }, 'tokens'],
  [{ lossType: 'gmpo', entropyThreshold: 2.3 }, 'sequences'],
  [{ lossType: 'reinforce', samplerImportanceSampling: 'sequence_mask', samplerImportanceSamplingClipMax: 5 }, 'tokens'],
  [{ lossType: 'dppo', offPolicyMaskThreshold: 0.1 }, 'tokens'],
];

test.each(CONFIGS)('%j: micro-batches with the whole normalizer add up to the whole', (base, divisor) => {
  const r = new Random(42);
  const V = 77;
  const L = [3, 0, 5, 1, 4, 2];
  const N = L.reduce((a, b) => a + b);
  const logits = Float32Array.from({ length: N * V }, () => 2 * r.normal());
  const targets = Int32Array.from({ length: N }, () => r.below(V));
  const around = () => Float32Array.from({ length: N }, () => -5 + r.normal());
  const policies = { oldLogps: around(), refLogps: around(), samplerLogps: around() };
  const mask = Uint8Array.from({ length: N }, () => Number(r.chance(0.8)));
  const advantages = Float32Array.from(L, () => r.normal());
  const tokens = mask.reduce((a, b) => a + b, 0);
  const part = (from: number, to: number, c: LossConfig) => {
    const begin = L.slice(0, from).reduce((a, b) => a + b, 0);
    const offsets = Int32Array.from({ length: to - from + 1 }, (_, i) => L.slice(from, from + i).reduce((a, b) => a + b, 0));
    const end = begin + offsets[to - from]!;
    const others = Object.fromEntries(Object.entries(policies).map(([name, of]) => [name, of.slice(begin, end)]));
    const rows = { logits: logits.slice(begin * V, end * V), vocabSize: V, targets: targets.slice(begin, end) };
    return grpoLoss({ ...rows, ...others, mask: mask.slice(begin, end), advantages: advantages.slice(from, to), offsets }, c);
  };
  const config = { ...base, beta: 0.1, entropyCoef: 0.01, entropyNormalizer: tokens };
  const whole = part(0, 6, base.entropyThreshold === undefined ? { ...config, entropyNormalizer: undefined } : config);
  const normalizer = DIVISORS[divisor](L.length, tokens);
  for (const cuts of [
    [0, 1, 2, 3, 4, 5, 6],
    [0, 3, 6],
    [0, 1, 6],
  ]) {
    const parts = cuts.slice(1).map((to, i) => part(cuts[i]!, to, { ...config, normalizer }));
    expect(parts.reduce((s, p) => s + p.loss, 0)).toBeCloseTo(whole.loss, 13);
    expect(parts.flatMap((p) => Array.from(p.gradLogits))).toEqual(Array.from(whole.gradLogits)); // bit for bit
  }
});

test('memory beyond the logits stays under 1 %', () => {
  const [N, V] = [256, 50000];
  const logits = new Float32Array(N * V).fill(0.5);
  const batch = { logits, vocabSize: V, targets: new Int32Array(N), advantages: Float32Array.of(1, -1), completionLength: N / 2 };
  grpoLoss(batch);
  const before = process.memoryUsage();
  grpoLoss(batch);
  const after = process.memoryUsage();
  // JavaScript's heap may grow meanwhile; when it shrinks, its pages need not be given back at once.
  const heap = Math.max(0, after.heapTotal - before.heapTotal);
  expect(after.rss - before.rss).toBeLessThan(0.01 * logits.byteLength + heap);
});
