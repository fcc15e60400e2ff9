// Cases that a random sweep does not hit often enough, each with the answer worked out apart from the code.
import { afterAll, describe, expect, test } from '@jest/globals';
import { grpoLoss, policyLoss, selectiveLogp, selectiveLogpBackward, type GrpoLossConfig } from '../../lib/index.js';
import { core } from '../../lib/native.js';
import { fromBits, toBits } from '../support/half.js';
import { softmaxRow, targetLogp } from '../support/oracle.js';
import { Random } from '../support/random.js';

const original = core().simd();
const LEVELS = ['portable', 'avx2', 'avx512', 'neon'].filter((name) => core().useSimd(name));
core().useSimd(original);
afterAll(() => void core().useSimd(original));

const LOSSES: GrpoLossConfig[] = [
  { lossType: 'grpo' },
  { lossType: 'bnpo' },
  { lossType: 'dapo' },
  { lossType: 'dr_grpo', maxCompletionLength: 4 },
];
const zeros = (a: ArrayLike<number>) => Array.from(a).every((v) => Object.is(v, 0));

describe.each(LEVELS)('%s', (level) => {
  const logp = (logits: number[], target: number, extra = {}) => {
    core().useSimd(level);
    const input = { logits: Float32Array.from(logits), vocabSize: logits.length, targets: Int32Array.of(target), entropy: true, ...extra };
    const out = selectiveLogp(input);
    return { logp: out.logps[0]!, lse: out.lse[0]!, entropy: out.entropies![0]! };
  };

  test('a vocabulary of one token has log-prob 0, entropy 0 and gradient 0', () => {
    expect(logp([123.5], 0)).toEqual({ logp: 0, lse: 123.5, entropy: 0 });
    const out = grpoLoss({
      logits: Float32Array.of(3),
      vocabSize: 1,
      targets: Int32Array.of(0),
      advantages: Float32Array.of(2),
      completionLength: 1,
    });
    expect(out.loss).toBe(-2);
    expect(zeros(out.gradLogits)).toBe(true);
  });

  test('log-probs keep their digits near 1 and are never positive', () => {
    for (const gap of [10, 16, 17, 20, 40, 87, 100]) {
      const got = logp([gap, 0], 0).logp;
      const want = -Math.log1p(Math.exp(-gap));
      expect(Math.abs(got - want)).toBeLessThanOrEqual(1e-6 * Math.abs(want) + 1e-45);
      expect(got).toBeLessThanOrEqual(0);
    }
  });

  test('far below the maximum nothing overflows', () => {
    expect(logp([0, 1000], 0).logp).toBe(-1000);
    expect(logp([0, 3e38], 0).logp).toBe(-Math.fround(3e38));
    expect(logp([-3e38, 3e38], 0).logp).toBe(-Infinity); // the difference does not fit float32
  });

  test('-Infinity logits are legal: probability 0, gradient 0', () => {
    const z = [1, -Infinity, 0.5, -Infinity];
    const got = logp(z, 2);
    expect(got.logp).toBeCloseTo(targetLogp(z, 2, 1), 6);
    expect(got.entropy).toBeCloseTo(softmaxRow(z, 1).entropy, 6);
    const logits = Float32Array.from(z);
    const input = { logits, vocabSize: 4, targets: Int32Array.of(2), gradLogps: Float32Array.of(1), gradEntropies: Float32Array.of(0.5) };
    const { gradLogits } = selectiveLogpBackward(input);
    expect([gradLogits[1], gradLogits[3]]).toEqual([0, 0]);
    expect(logp([-Infinity, 4, -Infinity], 1)).toEqual({ logp: 0, lse: 4, entropy: 0 });
    expect(logp([-Infinity, 4, 4], 0)).toEqual({ logp: -Infinity, lse: Math.fround(4 + Math.LN2), entropy: Math.fround(Math.LN2) });
  });

  test('finfo.min as a mask value works like -Infinity', () => {
    const low = -3.4028234663852886e38;
    expect(logp([low, 2, 2, low], 1).logp).toBeCloseTo(-Math.LN2, 6);
    expect(logp([low, low, low], 1).logp).toBeCloseTo(-Math.log(3), 6);
  });

  test('a constant added to a row changes nothing', () => {
    const r = new Random(5);
    const z = Array.from({ length: 3000 }, () => Math.round(r.normal() * 2 ** 10) / 2 ** 10);
    const base = logp(z, 7);
    for (const c of [-4096, -100, 64, 8192]) {
      const moved = logp(
        z.map((v) => v + c),
        7,
      );
      expect(Math.abs(moved.logp - base.logp)).toBeLessThanOrEqual(1e-6 * Math.abs(base.logp));
      expect(Math.abs(moved.entropy - base.entropy)).toBeLessThanOrEqual(2e-6 * base.entropy);
    }
  });

  test('on policy with advantage A the gradient is REINFORCE and the ratio exactly 1', () => {
    core().useSimd(level);
    const z = [0.3, -1.2, 2.1, 0.7, -0.4];
    const batch = {
      logits: Float32Array.from(z),
      vocabSize: 5,
      targets: Int32Array.of(3),
      advantages: Float32Array.of(1.5),
      completionLength: 1,
    };
    const { gradLogits, metrics } = grpoLoss(batch, { epsilon: 0 });
    const { p } = softmaxRow(z.map(Math.fround), 1);
    p.forEach((pj, j) => expect(gradLogits[j]).toBeCloseTo(-1.5 * (Number(j === 3) - pj), 6));
    expect(metrics.ratio).toEqual({ min: 1, mean: 1, max: 1 });
    expect(metrics.clipRatio).toEqual({ low: 0, high: 0, region: 0 });
  });

  test.each([0, 1, 20, 41, 88, 89, 200, 1e4])('log-ratios of +-%d give finite gradients', (gap) => {
    core().useSimd(level);
    for (const sign of [1, -1])
      for (const A of [0, 1, -1, 1e6, -1e6])
        for (const beta of [0, 1]) {
          const other = Float32Array.of(-Math.LN2 + sign * gap);
          const batch = {
            logits: new Float32Array(2),
            vocabSize: 2,
            targets: Int32Array.of(0),
            completionLength: 1,
            oldLogps: other,
            refLogps: other,
          };
          const out = grpoLoss({ ...batch, advantages: Float32Array.of(A) }, { beta });
          expect([out.loss, ...out.gradLogits].every(Number.isFinite)).toBe(true);
        }
  });

  test('nothing selected: loss 0 and every gradient exactly 0, for every loss type', () => {
    core().useSimd(level);
    for (const config of LOSSES) {
      const batch = {
        logits: new Float32Array(8).fill(NaN),
        vocabSize: 2,
        targets: Int32Array.of(-1, 99, -1, 99),
        advantages: Float32Array.of(NaN, NaN),
      };
      const out = grpoLoss({ ...batch, completionLength: 2, mask: new Uint8Array(4), oldLogps: new Float32Array(4).fill(NaN) }, config);
      expect(out.loss).toBe(0);
      expect(zeros(out.gradLogits) && zeros(out.logps) && zeros(out.entropies!)).toBe(true);
      expect(out.metrics).toEqual({
        entropy: 0,
        clipRatio: { low: 0, high: 0, region: 0 },
        ratio: { min: 0, mean: 0, max: 0 },
        tokens: 0,
        sequences: 2,
      });
    }
  });

  test('no rows at all', () => {
    core().useSimd(level);
    const empty = { logits: new Float32Array(0), vocabSize: 7, targets: new Int32Array(0), advantages: new Float32Array(0) };
    for (const config of LOSSES) expect(grpoLoss({ ...empty, offsets: Int32Array.of(0) }, config).loss).toBe(0);
    expect(selectiveLogp({ logits: new Float32Array(0), vocabSize: 7, targets: new Int32Array(0) }).logps.length).toBe(0);
  });

  test('what stands behind the mask changes no bit of the rest', () => {
    core().useSimd(level);
    const r = new Random(11);
    const V = 257;
    const run = (garbage: number) => {
      const s = new Random(3);
      const logits = Float32Array.from({ length: 6 * V }, (_, i) => (Math.floor(i / V) % 2 ? garbage : 3 * s.normal()));
      const targets = Int32Array.of(1, garbage, 2, garbage, 3, garbage);
      const oldLogps = Float32Array.of(-5, garbage, -6, garbage, -7, garbage);
      const mask = Uint8Array.of(1, 0, 1, 0, 255, 0);
      return grpoLoss(
        { logits, vocabSize: V, targets, oldLogps, refLogps: oldLogps, mask, advantages: Float32Array.of(1, -1), completionLength: 3 },
        { beta: 0.1 },
      );
    };
    const plain = run(0);
    for (const garbage of [NaN, Infinity, -Infinity, r.normal() * 1e30]) expect(run(garbage)).toEqual(plain);
  });

  test.each(['bfloat16', 'float16'] as const)('a %s gradient is the float32 one, rounded to nearest', (dtype) => {
    core().useSimd(level);
    const r = new Random(21);
    const [N, V] = [300, 1003]; // each row has a factor of its own: enough different numbers for some within 2^-16 of a tie
    const halves = Uint16Array.from({ length: N * V }, () => toBits(dtype, 4 * r.normal()));
    const shared = {
      vocabSize: V,
      targets: Int32Array.from({ length: N }, () => r.below(V)),
      gradLogps: Float32Array.from({ length: N }, () => 10 * r.normal()),
      temperature: 0.9,
    };
    const floats = Float32Array.from(halves, (v) => fromBits(dtype, v));
    const wide = selectiveLogpBackward({ ...shared, logits: floats }).gradLogits;
    const narrow = selectiveLogpBackward({ ...shared, logits: halves, dtype }).gradLogits;
    // The sums of a row are added in another order where two halves share a register: the last bit of float32 may differ.
    const near = (v: number, w: number) => [1 - 2e-7, 1, 1 + 2e-7].some((factor) => v === toBits(dtype, w * factor));
    expect(narrow.findIndex((v, i) => !near(v, wide[i]!))).toBe(-1);
  });

  test('a target gradient near p = 1 is right in bfloat16', () => {
    core().useSimd(level);
    const logits = Uint16Array.of(0x40e0, 0x0000); // 7, 0
    const { gradLogits } = selectiveLogpBackward({
      logits,
      dtype: 'bfloat16',
      vocabSize: 2,
      targets: Int32Array.of(0),
      gradLogps: Float32Array.of(1),
    });
    const value = new Float32Array(new Uint32Array([(gradLogits[0] as number) << 16]).buffer)[0]!;
    const want = 1 / (1 + Math.exp(7));
    expect(Math.abs(value - want) / want).toBeLessThan(2 ** -8);
  });
});

test('beta 0 never reads refLogps; beta > 0 with policy = reference has KL 0', () => {
  const batch = { logps: Float32Array.of(-1, -2), advantages: Float32Array.of(1), offsets: Int32Array.of(0, 2) };
  expect(policyLoss({ ...batch, refLogps: new Float32Array(2).fill(NaN) }).loss).toBe(-1);
  expect('kl' in policyLoss(batch).metrics).toBe(false);
  const same = policyLoss({ ...batch, refLogps: batch.logps }, { beta: 0.5 });
  expect(same.metrics.kl).toBe(0);
  expect(same.loss).toBe(-1);
});

test('aggregation of uneven sequences, worked out by hand', () => {
  // token losses are -A on policy: A = 1 for the first sequence (1 token), -2 for the second (3 tokens, one masked), third empty
  const batch = {
    logps: new Float32Array(4).fill(-1),
    advantages: Float32Array.of(1, -2, 5),
    offsets: Int32Array.of(0, 1, 4, 4),
    mask: Uint8Array.of(1, 1, 0, 1),
  };
  expect(policyLoss(batch, { lossType: 'grpo' }).loss).toBeCloseTo((-1 + 2 + 0) / 3, 12);
  expect(policyLoss(batch, { lossType: 'grpo', emptySequences: 'exclude' }).loss).toBeCloseTo((-1 + 2) / 2, 12);
  expect(policyLoss(batch, { lossType: 'dapo' }).loss).toBeCloseTo((-1 + 4) / 3, 12);
  expect(policyLoss(batch, { lossType: 'bnpo' }).loss).toBeCloseTo((-1 + 4) / 3, 12);
  expect(policyLoss(batch, { lossType: 'dr_grpo', maxCompletionLength: 10 }).loss).toBeCloseTo((-1 + 4) / 30, 12);
  const truncated = { ...batch, truncated: Uint8Array.of(0, 1, 0) };
  expect(policyLoss(truncated, { lossType: 'dapo' }).loss).toBeCloseTo(1, 12);
  expect(policyLoss(truncated, { lossType: 'dapo', maskTruncatedCompletions: true }).loss).toBeCloseTo(-1, 12);
});

test('bias correction of the KL changes its gradient on policy, not its value', () => {
  const batch = {
    logps: Float32Array.of(-1),
    refLogps: Float32Array.of(-1.5),
    advantages: Float32Array.of(0),
    offsets: Int32Array.of(0, 1),
  };
  const biased = policyLoss(batch, { beta: 1, useBiasCorrectionKl: false });
  const corrected = policyLoss(batch, { beta: 1 });
  expect(corrected.loss).toBe(biased.loss);
  expect(biased.gradLogps[0]).toBeCloseTo(1 - Math.exp(-0.5), 6);
  expect(corrected.gradLogps[0]).toBeCloseTo(0.5, 6); // r (logp - ref)
});

test.each([{ lossType: 'reinforce' }, { lossType: 'cispo', epsilonHigh: 5 }, { lossType: 'dppo' }, { lossType: 'vespo' }] as const)(
  'an impossible token of advantage 0 costs nothing: %j',
  (config) => {
    const batch = { logits: Float32Array.of(-Infinity, 1, 0, 1), vocabSize: 2, targets: Int32Array.of(0, 1), completionLength: 1 };
    const { loss, gradLogits, logps } = grpoLoss({ ...batch, advantages: Float32Array.of(0, 1) }, { ...config, inPlace: false });
    expect(logps[0]).toBe(-Infinity);
    expect(Number.isFinite(loss)).toBe(true);
    expect([...gradLogits.slice(0, 2)]).toEqual([0, 0]);
  },
);
