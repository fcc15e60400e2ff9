// Neither the number of threads nor the cut into micro-batches may change a number.
import { expect, test } from '@jest/globals';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { grpoLoss, type GrpoLossConfig } from '../../lib/index.js';
import { core } from '../../lib/native.js';
import { Random } from '../support/random.js';

/** Runs in a fresh process on the bare addon: a digest of every output of a loss on 300 rows of 5000. */
const SCRIPT = `
const core = require(process.argv[1]);
const N = 300, V = 5000, logits = new Float32Array(N * V), targets = new Int32Array(N), oldLogps = new Float32Array(N);
let s = 1;
for (let i = 0; i < N * V; ++i) { s = Math.imul(s, 1664525) + 1013904223 | 0; logits[i] = s / 3e8; }
for (let i = 0; i < N; ++i) { targets[i] = (i * 37) % V; oldLogps[i] = -9 - (i % 7) / 10; }
const out = core.grpoLoss({ rows: N, sequences: 3, offsets: Int32Array.of(0, 90, 200, N), logits, gradLogits: logits, dtype: 0, vocab: V, rowStride: V,
  sequenceStride: 0, gradRowStride: V, gradSequenceStride: 0, targets, oldLogps, advantages: Float32Array.of(1, -1, 0.5), advantagesPerToken: false,
  lossType: 3, klEstimator: 2, useBiasCorrectionKl: true, epsilon: 0.2, epsilonHigh: 0.2, delta: Infinity, beta: 0, temperature: 1,
  maxCompletionLength: 1, normalizer: 0, excludeEmpty: false, entropyCoef: 0.01, entropyNormalizer: 0, entropy: true });
const hash = require('node:crypto').createHash('sha256');
for (const a of [logits, out.logps, out.entropies]) hash.update(new Uint8Array(a.buffer));
console.log(JSON.stringify([core.threads(), core.simd(), hash.update(JSON.stringify(out.metrics)).digest('hex')]));
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

const CONFIGS: [string, GrpoLossConfig, (B: number, tokens: number) => number][] = [
  ['grpo', { lossType: 'grpo' }, (B) => B],
  ['bnpo', { lossType: 'bnpo' }, (_, tokens) => tokens],
  ['dapo', { lossType: 'dapo' }, (_, tokens) => tokens],
  ['dr_grpo', { lossType: 'dr_grpo', maxCompletionLength: 9 }, (B) => 9 * B],
];

test.each(CONFIGS)('%s: micro-batches with the whole normalizer add up to the whole', (_, base, normalizerOf) => {
  const r = new Random(42);
  const V = 77;
  const L = [3, 0, 5, 1, 4, 2];
  const N = L.reduce((a, b) => a + b);
  const logits = Float32Array.from({ length: N * V }, () => 2 * r.normal());
  const targets = Int32Array.from({ length: N }, () => r.below(V));
  const oldLogps = Float32Array.from({ length: N }, () => -5 + r.normal());
  const mask = Uint8Array.from({ length: N }, () => Number(r.chance(0.8)));
  const advantages = Float32Array.from(L, () => r.normal());
  const tokens = mask.reduce((a, b) => a + b, 0);
  const config = { ...base, entropyCoef: 0.01, entropyNormalizer: tokens };
  const part = (from: number, to: number, c: GrpoLossConfig) => {
    const begin = L.slice(0, from).reduce((a, b) => a + b, 0);
    const offsets = Int32Array.from({ length: to - from + 1 }, (_, i) => L.slice(from, from + i).reduce((a, b) => a + b, 0));
    const end = begin + offsets[to - from]!;
    const rows = {
      logits: logits.slice(begin * V, end * V),
      vocabSize: V,
      targets: targets.slice(begin, end),
      oldLogps: oldLogps.slice(begin, end),
    };
    return grpoLoss({ ...rows, mask: mask.slice(begin, end), advantages: advantages.slice(from, to), offsets }, c);
  };
  const whole = part(0, 6, config);
  const normalizer = normalizerOf(L.length, tokens);
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
  expect(after.rss - before.rss).toBeLessThan(0.01 * logits.byteLength + (after.heapTotal - before.heapTotal));
});
