// Ratios of whole sequences, with numbers small enough to be worked out by hand (log-probs are dyadic, so that float32 holds them).
import { expect, test } from '@jest/globals';
import { policyLoss, type LossConfig } from '../../lib/index.js';

// log-ratios 1/8 and 3/8 in the first sequence (mean 1/4), -1/8 in the second
const BATCH = {
  logps: Float32Array.of(-1, -2, -0.5),
  oldLogps: Float32Array.of(-1.125, -2.375, -0.375),
  offsets: Int32Array.of(0, 2, 3),
  advantages: Float32Array.of(1, -1),
};
const R1 = 1.2840254166877414; // e^(1/4)
const R2 = 0.8824969025845955; // e^(-1/8)

function check(config: LossConfig, loss: number, gradLogps: number[], batch: object = {}) {
  const out = policyLoss({ ...BATCH, ...batch }, config);
  expect(out.loss).toBeCloseTo(loss, 12);
  gradLogps.forEach((g, t) => expect(out.gradLogps[t]).toBeCloseTo(g, 7));
  return out.metrics;
}

test('sequence: one ratio, the mean of its tokens, and each of them moves it by its share', () => {
  const config: LossConfig = { lossType: 'grpo', importanceSamplingLevel: 'sequence', epsilon: 0.3 };
  const metrics = check(config, (-R1 + R2) / 2, [-R1 / 4, -R1 / 4, R2 / 2]);
  expect(metrics.ratio.max).toBeCloseTo(R1, 6);
  expect(metrics.ratio.min).toBeCloseTo(R2, 6);
  expect(metrics.ratio.mean).toBeCloseTo((2 * R1 + R2) / 3, 6);
  expect(metrics.clipRatio).toEqual({ low: 0, high: 0, region: 0 });
});

test('sequence: clipped as a whole', () => {
  const config: LossConfig = { lossType: 'grpo', importanceSamplingLevel: 'sequence', epsilon: 0.1 };
  const metrics = check(config, (-1.1 + 0.9) / 2, [0, 0, 0]);
  expect(metrics.clipRatio.high).toBeCloseTo(2 / 3, 12);
  expect(metrics.clipRatio.low).toBeCloseTo(1 / 3, 12);
});

test('sequence and sequence_token differ where the advantages of the tokens differ', () => {
  const advantages = Float32Array.of(1, 0, -1);
  const batch = { ...BATCH, advantages };
  const [loss, epsilon] = [(-R1 / 2 + R2) / 2, 0.3];
  check({ lossType: 'grpo', importanceSamplingLevel: 'sequence', epsilon }, loss, [-R1 / 8, -R1 / 8, R2 / 2], batch);
  check({ lossType: 'grpo', importanceSamplingLevel: 'sequence_token', epsilon }, loss, [-R1 / 4, 0, R2 / 2], batch);
});

test('with dapo every token carries the ratio of its sequence', () => {
  for (const importanceSamplingLevel of ['sequence', 'sequence_token'] as const)
    check({ lossType: 'dapo', importanceSamplingLevel, epsilon: 0.3 }, (-2 * R1 + R2) / 3, [-R1 / 3, -R1 / 3, R2 / 3]);
});

test('a token behind the mask leaves the mean', () => {
  const out = policyLoss(
    { ...BATCH, mask: Uint8Array.of(1, 0, 1), oldLogps: Float32Array.of(-1.125, NaN, -0.375) },
    { lossType: 'grpo', importanceSamplingLevel: 'sequence' },
  );
  expect(out.loss).toBeCloseTo((-Math.exp(1 / 8) + R2) / 2, 12);
  expect(out.gradLogps[0]).toBeCloseTo(-Math.exp(1 / 8) / 2, 7);
  expect(out.gradLogps[1]).toBe(0);
});

test('the bias correction of the KL is the ratio of the sequence', () => {
  // reference - logp = 1/2, -1/4 and 0: k3 = e^d - d - 1
  const [a, b] = [0.1487212707001282, 0.02880078307140488];
  const refLogps = Float32Array.of(-0.5, -2.25, -0.5);
  const [slopeA, slopeB] = [1 - Math.exp(0.5), 1 - Math.exp(-0.25)];
  const through = (R1 * (a + b)) / 2; // by the mean of the log-ratios
  check(
    { lossType: 'grpo', importanceSamplingLevel: 'sequence', beta: 1 },
    (R1 * (a + b)) / 4,
    [(R1 * slopeA + through) / 4, (R1 * slopeB + through) / 4, 0],
    { refLogps, advantages: new Float32Array(2) },
  );
});

test('luspo: a sequence counts as often as it has tokens', () => {
  check({ lossType: 'luspo', importanceSamplingLevel: 'sequence', epsilon: 0.3 }, (-2 * R1 + R2) / 2, [-R1 / 2, -R1 / 2, R2 / 2]);
});

test('gmpo: the geometric mean of ratios that are clipped one by one', () => {
  // A > 0: 1/8 and min(3/8, 1/4); A < 0: max(-1/8, -1/16)
  const [g1, g2] = [1.2062302494209807, 0.9394130628134758]; // e^(3/16), e^(-1/16)
  const metrics = check({ lossType: 'gmpo', epsilon: 1 / 16, epsilonHigh: 1 / 4 }, (-g1 + g2) / 2, [-g1 / 4, 0, 0]);
  expect(metrics.clipRatio.high).toBeCloseTo(1 / 3, 12);
  expect(metrics.clipRatio.low).toBeCloseTo(1 / 3, 12);
  // unclipped it is the sequence's ratio; epsilon is 0.4 unless given
  check({ lossType: 'gmpo' }, (-R1 + R2) / 2, [-R1 / 4, -R1 / 4, R2 / 2]);
});

test('gmpo: tokens below the entropy threshold leave the geometric mean, and the loss stays', () => {
  const entropies = Float32Array.of(2, 1, 0.5);
  const g1 = Math.exp(1 / 8); // the first token alone
  check({ lossType: 'gmpo', entropyThreshold: 1.5 }, (-g1 + 1) / 2, [-g1 / 2, 0, 0], { entropies });
});
