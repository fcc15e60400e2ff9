// The head's part of a training step: logits for a few rows at a time, rows and completions without a gradient left out. The gradients
// are those of the whole logits by unfused operations.
import { expect, test } from '@jest/globals';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Policy } from '../../lib/engine/policy.js';
import { Training, type AccumulateOptions, type AccumulateResult, type TrainBatch, type TrainLoss } from '../../lib/engine/training.js';
import { goldenModels } from './support.js';

const LENGTHS = [9, 1, 14, 6, 11, 3];
const PROMPT = 4;

function batch(advantages: number[], extra: Partial<TrainBatch> = {}): TrainBatch {
  const offsets = new Int32Array(LENGTHS.length + 1);
  LENGTHS.forEach((n, i) => (offsets[i + 1] = offsets[i]! + PROMPT + n));
  const tokens = Int32Array.from({ length: offsets.at(-1)! }, (_, i) => 3 + ((i * 7) % 90));
  return {
    tokens,
    offsets,
    promptLengths: new Int32Array(LENGTHS.length).fill(PROMPT),
    advantages: Float32Array.from(advantages),
    ...extra,
  };
}

interface Outcome {
  moments: Float32Array;
  result: AccumulateResult;
}

/** All of Adam's first moments after a step of learning rate 0: a tenth of the gradient. */
async function gradient(name: string, of: TrainBatch, loss: TrainLoss, options: Partial<AccumulateOptions>): Promise<Outcome> {
  const folder = mkdtempSync(join(tmpdir(), 'fg-head-'));
  const policy = await Policy.load(join(goldenModels, name), { dtype: 'float32' });
  try {
    const training = new Training(policy);
    const result = await training.accumulate(of, loss, { microBatchTokens: 0, fused: true, ...options });
    await training.optimizerStep({ learningRate: 0, weightDecay: 0, adamBeta1: 0.9, adamBeta2: 0.99, adamEpsilon: 1e-8, maxGradNorm: 0 });
    await training.saveOptimizer(join(folder, 'moments'));
    const bytes = readFileSync(join(folder, 'moments'));
    const length = Number(bytes.readBigUInt64LE(0));
    const header = JSON.parse(bytes.subarray(8, 8 + length).toString()) as Record<string, { data_offsets: [number, number] }>;
    const of1 = Object.entries(header).filter(([key]) => key.endsWith('.exp_avg'));
    const parts = of1.map(([, { data_offsets: at }]) =>
      bytes.buffer.slice(bytes.byteOffset + 8 + length + at[0], bytes.byteOffset + 8 + length + at[1]),
    );
    return { moments: Float32Array.from(parts.flatMap((p) => [...new Float32Array(p)])), result };
  } finally {
    policy.dispose();
    rmSync(folder, { recursive: true });
  }
}

function expectSame(a: Outcome, b: Outcome, bound = 2e-5): void {
  expect(a.moments.length).toBe(b.moments.length);
  expect(a.moments.length).toBeGreaterThan(1000);
  const norm = Math.hypot(...b.moments);
  expect(norm).toBeGreaterThan(1e-4);
  expect(Math.hypot(...a.moments.map((v, i) => v - b.moments[i]!)) / norm).toBeLessThan(bound);
  expect(Math.abs(a.result.loss - b.result.loss)).toBeLessThan(1e-5);
}

const advantages = [1, -0.5, 0.3, 2, -1, 0.7];
const old = Float32Array.from({ length: LENGTHS.reduce((a, b) => a + b) }, (_, i) => -4.5 + 0.01 * (i % 7));
const mask = Uint8Array.from(old, (_, i) => (i % 5 === 1 || (i > 12 && i < 16) ? 0 : 1));

test.each([
  ['llama', { lossType: 'dapo' }],
  ['gemma3', { lossType: 'dapo' }], // a soft cap
  ['gemma3', { lossType: 'grpo', importanceSamplingLevel: 'sequence', epsilon: 5 }], // longer than the workspace: logits a second time
  ['gpt2', { lossType: 'dapo', topEntropyQuantile: 0.5 }],
] as [string, Partial<TrainLoss>][])('%s %j: a few rows of logits at a time, and a mask, as whole logits unfused', async (name, loss) => {
  const of = batch(advantages, { oldLogps: old, mask });
  const options: TrainLoss = { ...loss, normalizer: 20, entropyNormalizer: 20 };
  const whole = await gradient(name, of, options, { fused: false });
  for (const workspaceBytes of [1, 5000, 2 ** 28]) {
    const part = await gradient(name, of, options, { workspaceBytes });
    expectSame(part, whole);
    expect(part.result.tokens).toBe(mask.reduce((a, b) => a + b));
  }
});

test('skipZeroAdvantages: the same gradient, metrics of the others', async () => {
  const of = batch([1, 0, 0, 2, 0, 0.7], { oldLogps: old });
  const loss: TrainLoss = { lossType: 'dapo', normalizer: 20 };
  const all = await gradient('llama', of, loss, {});
  const some = await gradient('llama', of, loss, { skipZeroAdvantages: true });
  expectSame(some, all);
  expect([all.result.tokens, some.result.tokens]).toEqual([44, 9 + 6 + 3]);
});

test('skipZeroAdvantages leaves nothing out where an entropy term or a statistic of the batch needs it', async () => {
  const of = batch([1, 0, 0, 2, 0, 0.7], { oldLogps: old });
  for (const loss of [{ entropyCoef: 0.1 }, { topEntropyQuantile: 0.5 }, { lossType: 'kl_cov' }] as Partial<TrainLoss>[]) {
    const options: TrainLoss = { lossType: 'dapo', ...loss, normalizer: 20, entropyNormalizer: 20 };
    expect((await gradient('llama', of, options, { skipZeroAdvantages: true })).result.tokens).toBe(44);
  }
});

test('a step whose every completion is left out is still a step of the optimizer', async () => {
  const policy = await Policy.load(join(goldenModels, 'llama'), { dtype: 'float32' });
  const training = new Training(policy);
  const options = { microBatchTokens: 0, fused: true, skipZeroAdvantages: true };
  const adam = { learningRate: 1e-3, weightDecay: 0, adamBeta1: 0.9, adamBeta2: 0.99, adamEpsilon: 1e-8, maxGradNorm: 0 };
  const loss: TrainLoss = { lossType: 'dapo', normalizer: 20 };
  const logp = async () => (await training.accumulate(batch(advantages), loss, { ...options, microBatchTokens: 50 })).meanLogp;
  await logp();
  expect(await training.optimizerStep(adam)).toBeGreaterThan(0);
  const before = await logp();
  await training.optimizerStep({ ...adam, learningRate: 0 });
  const { loss: none } = await training.accumulate(batch([0, 0, 0, 0, 0, 0]), loss, options);
  expect([none, await training.optimizerStep(adam)]).toEqual([0, 0]);
  expect(Math.abs((await logp()) - before)).toBeGreaterThan(1e-6); // momentum
  policy.dispose();
});
