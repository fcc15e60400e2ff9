// What must hold whatever the numbers are: no oracle, only the op against itself. (Cuts into micro-batches: partition.test.ts.)
import { describe, expect, test } from '@jest/globals';
import { grpoLoss, policyLoss, selectiveLogpBackward, type GrpoLossBatch, type LossConfig } from '../../lib/index.js';
import { LOSS_TYPES, type LossType } from '../support/oracle_types.js';
import { Random } from '../support/random.js';

const V = 61;
const LENGTHS = [3, 5, 1, 4];
const N = 13;

/** Every loss with options that make its own parts act, and every mask and correction that goes with it. */
const OWN: Record<LossType, LossConfig> = {
  grpo: { delta: 1.5, dualClip: 3 },
  bnpo: { importanceSamplingLevel: 'sequence_token' },
  dr_grpo: { maxCompletionLength: 8 },
  dapo: { samplerImportanceSampling: 'sequence_truncate' },
  luspo: { importanceSamplingLevel: 'sequence' },
  cispo: { epsilonHigh: 1.5, samplerImportanceSampling: 'token_mask' },
  sapo: { importanceSamplingLevel: 'sequence' },
  vespo: { samplerImportanceSampling: 'token_truncate' },
  gmpo: { entropyThreshold: 2.5 },
  reinforce: { samplerImportanceSampling: 'token_truncate' },
  dppo: { dppoDivergence: 'kl', epsilon: 0.01 },
  clip_cov: { clipCovRatio: 0.3, clipCovLow: 0.01 },
  kl_cov: { klCovRatio: 0.2 },
};
const shared: LossConfig = { beta: 0.1, entropyCoef: 0.02, offPolicyMaskThreshold: 0.3, emptySequences: 'exclude' };
const CONFIGS = LOSS_TYPES.map((lossType): [LossType, LossConfig] => [lossType, { ...shared, lossType, ...OWN[lossType] }]);

type Batch = GrpoLossBatch & {
  logits: Float32Array;
  oldLogps: Float32Array;
  refLogps: Float32Array;
  samplerLogps: Float32Array;
  advantages: Float32Array;
  offsets: Int32Array;
};

/** Logits are multiples of 2^-10, so that a constant can be added without rounding. */
function random(seed: number): Batch {
  const r = new Random(seed);
  const around = () => Float32Array.from({ length: N }, () => -4.5 + r.normal());
  return {
    logits: Float32Array.from({ length: N * V }, () => Math.round(1.5 * r.normal() * 1024) / 1024),
    vocabSize: V,
    targets: Int32Array.from({ length: N }, () => r.below(V)),
    offsets: offsetsOf(LENGTHS),
    oldLogps: around(),
    refLogps: around(),
    samplerLogps: around(),
    advantages: Float32Array.from(LENGTHS, () => r.normal()),
    mask: Uint8Array.from({ length: N }, () => Number(r.chance(0.8))),
  };
}

function offsetsOf(lengths: readonly number[]): Int32Array {
  const offsets = new Int32Array(lengths.length + 1);
  lengths.forEach((n, i) => (offsets[i + 1] = offsets[i]! + n));
  return offsets;
}

const run = (batch: GrpoLossBatch, config: LossConfig) => {
  const { loss, gradLogits, logps, metrics } = grpoLoss(batch, { ...config, inPlace: false });
  return { loss, gradient: gradLogits as Float32Array, logps, metrics };
};

/** The batch's rows in another order. */
function reordered(b: Batch, order: readonly number[]) {
  const ints = (a: Int32Array) => Int32Array.from(order, (t) => a[t]!);
  const floats = (a: Float32Array) => Float32Array.from(order, (t) => a[t]!);
  return {
    ...b,
    logits: Float32Array.from(order.flatMap((t) => Array.from(b.logits.subarray(t * V, (t + 1) * V)))),
    targets: ints(b.targets),
    oldLogps: floats(b.oldLogps),
    refLogps: floats(b.refLogps),
    samplerLogps: floats(b.samplerLogps),
    mask: Uint8Array.from(order, (t) => b.mask![t]!),
  };
}

/** Largest difference, relative to the largest number. */
function distance(a: Float32Array, b: Float32Array): number {
  const largest = b.reduce((m, v) => Math.max(m, Math.abs(v)), 0);
  return a.reduce((m, v, i) => Math.max(m, Math.abs(v - b[i]!)), 0) / (largest || 1);
}

const SEEDS = [1, 2, 3, 4, 5];

// clip_cov draws by position
test.each(CONFIGS.filter(([lossType]) => lossType !== 'clip_cov'))('%s: the order of the completions does not matter', (_, config) => {
  for (const seed of SEEDS) {
    const b = random(seed);
    const plain = run(b, config);
    const sequences = [2, 0, 3, 1];
    const order = sequences.flatMap((s) => Array.from({ length: LENGTHS[s]! }, (_, k) => b.offsets[s]! + k));
    const advantages = Float32Array.from(sequences, (s) => b.advantages[s]!);
    const moved = run({ ...reordered(b, order), offsets: offsetsOf(sequences.map((s) => LENGTHS[s]!)), advantages }, config);
    expect(moved.loss).toBeCloseTo(plain.loss, 12);
    order.forEach((t, row) => expect(moved.gradient.subarray(row * V, (row + 1) * V)).toEqual(plain.gradient.subarray(t * V, (t + 1) * V)));
  }
});

describe.each(CONFIGS)('%s', (lossType, config) => {
  test.each([-4096, 64, 1000])('%d added to a row of logits changes nothing', (constant) => {
    for (const seed of SEEDS) {
      const b = random(seed);
      const plain = run(b, config);
      const logits = b.logits.map((v, i) => (Math.floor(i / V) % 2 ? v + constant : v));
      const moved = run({ ...b, logits }, config);
      expect(Math.abs(moved.loss - plain.loss)).toBeLessThanOrEqual(2e-6 * Math.max(1, Math.abs(plain.loss)));
      expect(distance(moved.gradient, plain.gradient)).toBeLessThanOrEqual(2e-6);
    }
  });

  test.each([1, 7])('%d masked tokens and a masked sequence of NaN at the end change no bit', (count) => {
    for (const seed of SEEDS) {
      const b = random(seed);
      const plain = run(b, config);
      const padded = (a: Float32Array, n = 2 * count) => Float32Array.from([...a, ...new Array<number>(n).fill(NaN)]);
      const more = {
        ...b,
        logits: padded(b.logits, 2 * count * V),
        targets: Int32Array.from([...b.targets, ...new Array<number>(2 * count).fill(-1)]),
        oldLogps: padded(b.oldLogps),
        refLogps: padded(b.refLogps),
        samplerLogps: padded(b.samplerLogps),
        mask: Uint8Array.from([...b.mask!, ...new Array<number>(2 * count).fill(0)]),
        advantages: padded(b.advantages, 1),
        offsets: offsetsOf([...LENGTHS.slice(0, -1), LENGTHS[3]! + count, count]),
      };
      const got = run(more, config);
      expect(got.loss).toBe(plain.loss);
      expect(got.gradient.subarray(0, N * V)).toEqual(plain.gradient);
      expect(got.gradient.subarray(N * V).every((g) => Object.is(g, 0))).toBe(true);
      expect(got.metrics).toEqual({ ...plain.metrics, sequences: LENGTHS.length + 1 });
    }
  });

  test('a permuted vocabulary permutes the gradient', () => {
    for (const seed of SEEDS) {
      const b = random(seed);
      const plain = run(b, config);
      const to = (j: number) => (j * 17 + 5) % V; // 17 and 61 have no common divisor
      const permute = (a: Float32Array) => {
        const out = new Float32Array(a.length);
        a.forEach((v, i) => (out[i - (i % V) + to(i % V)] = v));
        return out;
      };
      const moved = run({ ...b, logits: permute(b.logits), targets: b.targets.map(to) }, config);
      expect(Math.abs(moved.loss - plain.loss)).toBeLessThanOrEqual(2e-6 * Math.max(1, Math.abs(plain.loss)));
      expect(distance(moved.gradient, permute(plain.gradient))).toBeLessThanOrEqual(2e-6);
    }
  });

  test('on policy the gradient is that of REINFORCE with the same weights, and the ratio exactly 1', () => {
    for (const seed of SEEDS) {
      const { oldLogps: _old, refLogps: _ref, samplerLogps: _sampler, ...b } = random(seed);
      // nothing chosen, so that clip_cov drops nothing
      const out = run(b, { lossType, ...(OWN[lossType].importanceSamplingLevel ? OWN[lossType] : {}), ...onPolicy(lossType) });
      const lengths = LENGTHS.map((n, s) => b.mask!.subarray(b.offsets[s], b.offsets[s]! + n).reduce((x, y) => x + y, 0));
      const gradLogps = Float32Array.from({ length: N }, (_, t) => {
        const s = b.offsets.findIndex((o) => o > t) - 1;
        return b.mask![t] ? -b.advantages[s]! * weight(lossType, lengths, s) : 0;
      });
      const { gradLogits } = selectiveLogpBackward({
        logits: b.logits.slice(),
        vocabSize: V,
        targets: b.targets,
        gradLogps,
        mask: b.mask,
        offsets: b.offsets,
      });
      expect(distance(out.gradient, gradLogits)).toBeLessThanOrEqual(1e-6);
      expect(out.metrics.ratio).toEqual({ min: 1, mean: 1, max: 1 });
      expect(out.metrics.clipRatio).toEqual({ low: 0, high: 0, region: 0 });
    }
  });

  test('with the policy as its own reference the KL is exactly 0, and so is its part of the gradient', () => {
    const r = new Random(7);
    const logps = Float32Array.from({ length: N }, () => -3 * r.next());
    const around = () => Float32Array.from(logps, (x) => x + 0.3 * r.normal());
    const { sequences, ...others } = { offsets: offsetsOf(LENGTHS), sequences: LENGTHS.length };
    const advantages = Float32Array.from({ length: sequences }, () => r.normal());
    const entropies = Float32Array.from(logps, () => 5 * r.next());
    const batch = { logps, entropies, oldLogps: around(), samplerLogps: around(), advantages, ...others };
    const plain = policyLoss(batch, { ...config, beta: 0 });
    for (const klEstimator of ['k1', 'k2', 'k3'] as const)
      for (const klGradient of ['estimator', 'straight_through', 'score_function'] as const) {
        if (klEstimator === 'k1' && klGradient !== 'straight_through') continue; // its gradient is 0 in the mean only
        const own = policyLoss({ ...batch, refLogps: logps }, { ...config, beta: 3, klEstimator, klGradient });
        expect(own.metrics.kl! + 0).toBe(0);
        expect(own.loss).toBe(plain.loss);
        expect(own.gradLogps.map((g) => g + 0)).toEqual(plain.gradLogps.map((g) => g + 0));
      }
  });
});

/** Options under which a loss has no edge at ratio 1. */
function onPolicy(lossType: LossType): LossConfig {
  if (lossType === 'cispo') return { epsilonHigh: 5 };
  if (lossType === 'dr_grpo') return { maxCompletionLength: 8 };
  return lossType === 'clip_cov' ? { clipCovLow: 1e6, clipCovHigh: 1e7 } : {};
}

/** The weight of a token of sequence s, with the default normalizer. */
function weight(lossType: LossType, lengths: readonly number[], s: number): number {
  if (lossType === 'luspo') return 1 / lengths.length;
  if (lossType === 'dr_grpo') return 1 / (8 * lengths.length);
  if (['grpo', 'sapo', 'gmpo'].includes(lossType)) return 1 / (lengths.length * lengths[s]!);
  return 1 / lengths.reduce((a, b) => a + b, 0);
}

/** Rows whose gradient changes when row t gets other logits. */
function touched(b: Batch, config: LossConfig, t: number): number[] {
  const before = run(b, config).gradient;
  const logits = b.logits.slice();
  for (let j = 0; j < V; ++j) logits[t * V + j]! += ((j * 7) % 5) / 64;
  const after = run({ ...b, logits }, config).gradient;
  const changed = (row: number) => before.subarray(row * V, (row + 1) * V).some((g, j) => !Object.is(g, after[row * V + j]));
  return Array.from({ length: N }, (_, row) => row).filter(changed);
}

describe('a logit reaches', () => {
  const whole = { ...random(3), mask: undefined };
  const tokenLevel: LossConfig[] = [
    ...(['grpo', 'bnpo', 'dapo', 'sapo', 'reinforce', 'dppo'] as const).map((lossType) => ({ lossType })),
    { lossType: 'dr_grpo', maxCompletionLength: 8 },
    { lossType: 'cispo', epsilonHigh: 2, samplerImportanceSampling: 'sequence_truncate' },
    { lossType: 'dapo', entropyThreshold: 2.5, entropyCoef: 0.1, entropyNormalizer: 9 },
  ];
  test.each(tokenLevel)("only its own token's gradient: %j", (config) => {
    for (let t = 0; t < N; ++t) expect(touched(whole, { beta: 0.1, ...config }, t)).toEqual([t]);
  });

  const sequenceLevel: LossConfig[] = [
    { lossType: 'grpo', importanceSamplingLevel: 'sequence', epsilon: 100 },
    { lossType: 'dapo', importanceSamplingLevel: 'sequence_token', epsilon: 100 },
    { lossType: 'luspo', importanceSamplingLevel: 'sequence', epsilon: 100 },
    { lossType: 'gmpo', epsilon: 100 },
    { lossType: 'vespo' },
  ];
  test.each(sequenceLevel)('the tokens of its own sequence: %j', (config) => {
    for (let t = 0; t < N; ++t) {
      const s = whole.offsets.findIndex((o) => o > t) - 1;
      expect(touched(whole, config, t)).toEqual(Array.from({ length: LENGTHS[s]! }, (_, k) => whole.offsets[s]! + k));
    }
  });
});
