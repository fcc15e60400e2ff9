// linearGrpoLoss against grpoLoss on the whole logits and the chain rule in float64, at every size of the workspace.
import { describe, expect, test } from '@jest/globals';
import { grpoLoss, linearGrpoLoss, Tensor, type GrpoLossConfig, type LinearGrpoLossConfig } from '../../lib/index.js';
import { Random } from '../support/random.js';

const [B, T, H, V] = [5, 7, 12, 101];
const N = B * T;
const r = new Random(77);
const floats = (n: number, scale = 1) => Float32Array.from({ length: n }, () => scale * r.normal());
const hidden = floats(N * H);
const weight = floats(V * H, 0.6);
const targets = Int32Array.from({ length: N }, () => r.below(V));
const mask = Uint8Array.from({ length: N }, (_, i) => Number(i >= T && r.chance(0.8))); // the first sequence is masked altogether

/** (N, V) = hidden weight^T, in float64. */
function logitsOf(): Float32Array {
  const z = new Float32Array(N * V);
  for (let t = 0; t < N; ++t)
    for (let j = 0; j < V; ++j) for (let k = 0, s = 0; k < H; ++k) z[t * V + j] = s += hidden[t * H + k]! * weight[j * H + k]!;
  return z;
}
const logits = logitsOf();
const rough = Float32Array.from({ length: N }, (_, t) => {
  const row = [...logits.subarray(t * V, t * V + V)];
  return logits[t * V + targets[t]!]! - Math.log(row.reduce((s, v) => s + Math.exp(v), 0));
});
const near = (scale: number) => rough.map((v, i) => (mask[i] ? v + scale * r.normal() : NaN));
const token = {
  targets,
  oldLogps: near(0.3),
  refLogps: near(0.3),
  samplerLogps: near(0.2),
  mask,
  advantages: Float32Array.of(1, -1, 0, 2, -0.5),
  completionLength: T,
};

/** What the whole logits give, brought back through the head. */
function expected(config: GrpoLossConfig) {
  const whole = grpoLoss({ logits: logits.slice(), vocabSize: V, ...token }, config);
  const g = whole.gradLogits;
  const gradHidden = new Float64Array(N * H);
  const gradWeight = new Float64Array(V * H);
  for (let t = 0; t < N; ++t)
    for (let j = 0; j < V; ++j)
      for (let k = 0; k < H; ++k) {
        gradHidden[t * H + k]! += g[t * V + j]! * weight[j * H + k]!;
        gradWeight[j * H + k]! += g[t * V + j]! * hidden[t * H + k]!;
      }
  return { whole, gradHidden, gradWeight };
}

async function run(config: LinearGrpoLossConfig) {
  const h = Tensor.from(hidden, [N, H]);
  const w = Tensor.from(weight, [V, H]);
  const out = await linearGrpoLoss({ hidden: h, weight: w, ...token }, config);
  return { ...out, hiddenValues: await out.gradHidden.toArray(), weightValues: await out.gradWeight?.toArray() };
}

function near2(got: ArrayLike<number>, want: Float64Array, bound: number): void {
  const norm = Math.sqrt(want.reduce((s, v) => s + v * v, 0));
  const error = Math.sqrt(want.reduce((s, v, i) => s + (v - got[i]!) ** 2, 0));
  expect(error).toBeLessThanOrEqual(bound * norm + 1e-12);
}

const CONFIGS: GrpoLossConfig[] = [
  { lossType: 'dapo', beta: 0.04 },
  { lossType: 'grpo', entropyCoef: 0.05 },
  { lossType: 'dr_grpo', maxCompletionLength: 9, normalizer: 100 },
  { lossType: 'cispo', epsilonHigh: 3, samplerImportanceSampling: 'token_truncate' },
  { lossType: 'sapo', samplerImportanceSampling: 'sequence_mask', samplerImportanceSamplingClipMax: 10 },
  { lossType: 'grpo', importanceSamplingLevel: 'sequence', epsilon: 0.1, beta: 0.1 },
  { lossType: 'luspo', importanceSamplingLevel: 'sequence', temperature: 0.7 },
  { lossType: 'gmpo', offPolicyMaskThreshold: 0.01 },
  { lossType: 'vespo' },
  { lossType: 'dapo', topEntropyQuantile: 0.4, entropyCoef: 0.02 },
  { lossType: 'bnpo', entropyThreshold: 2, entropyCoef: 0.02 },
  { lossType: 'kl_cov', klCovRatio: 0.2 },
];

describe.each(CONFIGS)('%j', (config) => {
  // one row, a few rows (no sequence fits), a sequence and a half, everything
  test.each([1, 3, 11, 1000])('chunks of %d rows', async (rows) => {
    const { whole, gradHidden, gradWeight } = expected(config);
    const out = await run({ ...config, workspaceBytes: 4 * V * rows });
    expect(Math.abs(out.loss - whole.loss)).toBeLessThanOrEqual(1e-5 * Math.max(1, Math.abs(whole.loss)));
    near2(out.hiddenValues, gradHidden, 2e-5);
    near2(out.weightValues as Float32Array, gradWeight, 2e-5);
    whole.logps.forEach((v, i) => expect(Math.abs(out.logps[i]! - v)).toBeLessThanOrEqual(2e-5 * Math.max(1, Math.abs(v))));
    expect(out.metrics.tokens).toBe(whole.metrics.tokens);
    expect(out.metrics.sequences).toBe(B);
    expect(out.metrics.clipRatio.region).toBeCloseTo(whole.metrics.clipRatio.region, 9);
  });
});

test('bfloat16: the rounding of the format, and a float32 gradient of the head', async () => {
  const h = Tensor.from(hidden, [N, H], { dtype: 'bfloat16' });
  const w = Tensor.from(weight, [V, H], { dtype: 'bfloat16' });
  const out = await linearGrpoLoss({ hidden: h, weight: w, ...token }, { lossType: 'grpo', workspaceBytes: 2 * V * 8 });
  expect(out.gradHidden.dtype).toBe('bfloat16');
  expect(out.gradWeight!.dtype).toBe('float32');
  near2(await out.gradWeight!.toArray(), expected({ lossType: 'grpo' }).gradWeight, 0.05);
});

test('a gradient of the head that is given is added to; a frozen head has none', async () => {
  const { gradWeight, gradHidden } = expected({ lossType: 'dapo' });
  const h = Tensor.from(hidden, [N, H]);
  const w = Tensor.from(weight, [V, H]);
  const g = Tensor.from(new Float32Array(V * H).fill(0.5), [V, H]);
  const added = await linearGrpoLoss({ hidden: h, weight: w, ...token, gradWeight: g });
  expect(added.gradWeight).toBe(g);
  near2(
    Array.from((await g.toArray()) as Float32Array, (v) => v - 0.5),
    gradWeight,
    1e-4,
  );
  const frozen = await linearGrpoLoss({ hidden: h, weight: w, ...token }, { frozenHead: true });
  expect(frozen.gradWeight).toBeUndefined();
  near2(await frozen.gradHidden.toArray(), gradHidden, 2e-5);
});

test('tokens of advantage 0 can be skipped: the same gradients, fewer tokens in the metrics', async () => {
  const all = await run({ lossType: 'dapo' });
  const some = await run({ lossType: 'dapo', skipZeroAdvantages: true });
  near2(some.hiddenValues, Float64Array.from(all.hiddenValues), 1e-6);
  near2(some.weightValues as Float32Array, Float64Array.from(all.weightValues!), 1e-6);
  expect(some.metrics.tokens).toBeLessThan(all.metrics.tokens);
});

test('rewards become advantages', async () => {
  const h = Tensor.from(hidden, [N, H]);
  const w = Tensor.from(weight, [V, H]);
  const { advantages: _, ...rest } = token;
  const out = await linearGrpoLoss({ hidden: h, weight: w, ...rest, rewards: [1, 0, 1, 1, 0], numGenerations: 5 });
  expect(out.groups!.mean[0]).toBeCloseTo(0.6, 6);
  expect(out.advantages.length).toBe(B);
});

test.each<[string, object, object, RegExp]>([
  ['too small a workspace', {}, { workspaceBytes: 4 * V - 1 }, /at least 404 \(one row of logits\) for workspaceBytes/],
  [
    'a bad target',
    { targets: targets.map((t, i) => (i === 20 ? V : t)), mask: undefined, ...{} },
    {},
    /targets\[20\] \(sequence 2, token 6\)/,
  ],
  ['hidden is no tensor', { hidden }, {}, /a Tensor \(N, H\) for hidden/],
  ['too few targets', { targets: new Int32Array(N - T) }, {}, /hidden.shape|mask/],
  ['an unknown option', {}, { chunkRows: 3 }, /Unknown option 'chunkRows'/],
])('%s is refused before any product', async (_name, change, config, message) => {
  const h = Tensor.from(hidden, [N, H]);
  const w = Tensor.from(weight, [V, H]);
  const clean = { ...token, oldLogps: rough, refLogps: rough, samplerLogps: rough };
  await expect(linearGrpoLoss({ hidden: h, weight: w, ...clean, ...change }, config)).rejects.toThrow(message);
});

test('a gradient of the head that is the head itself, or of a frozen head, is refused', async () => {
  const h = Tensor.from(hidden, [N, H]);
  const w = Tensor.from(weight, [V, H]);
  await expect(linearGrpoLoss({ hidden: h, weight: w, ...token, gradWeight: w })).rejects.toThrow(/a Tensor of its own/);
  const g = Tensor.from(weight, [V, H]);
  await expect(linearGrpoLoss({ hidden: h, weight: w, ...token, gradWeight: g }, { frozenHead: true })).rejects.toThrow(
    /leave gradWeight out/,
  );
});

test('a row that is not finite is named', async () => {
  const h = Tensor.from(
    hidden.map((v, i) => (i === 30 * H ? Infinity : v)),
    [N, H],
  );
  const w = Tensor.from(weight, [V, H]);
  for (const config of [{}, { lossType: 'grpo', importanceSamplingLevel: 'sequence' }] as GrpoLossConfig[])
    await expect(
      linearGrpoLoss({ hidden: h, weight: w, ...token, mask: undefined, oldLogps: rough, refLogps: rough, samplerLogps: rough }, config),
    ).rejects.toThrow(/row 30 \(sequence 4, token 2\)/);
});
