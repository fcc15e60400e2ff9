// A policy so small that every completion can be enumerated: the expected update is the exact gradient of the expected reward (and of
// the KL), whatever the loss on policy.
import { describe, expect, test } from '@jest/globals';
import { groupAdvantages, type LossConfig } from '../../lib/index.js';
import { core } from '../../lib/native.js';
import { policyLossArguments } from '../../lib/ops/policy_loss.js';

const V = 3;
const T = 2;
/** A tabular policy: one row of logits for the first token, then one for each first token. */
const ROWS = 1 + V;
const THETA = Float64Array.from({ length: ROWS * V }, (_, i) => Math.sin(1.7 * i + 0.3));
const REFERENCE = Float64Array.from({ length: ROWS * V }, (_, i) => Math.cos(2.3 * i));
/** Of few digits: advantages are exact in float32. */
const REWARD = Float64Array.from({ length: V ** T }, (_, i) => Math.round(8 * Math.sin(5 * i) + i) / 8);

const rowOf = (tokens: readonly number[], t: number) => (t === 0 ? 0 : 1 + tokens[0]!);
const COMPLETIONS = Array.from({ length: V ** T }, (_, i) => [Math.floor(i / V), i % V] as const);

function logSoftmax(theta: Float64Array, row: number): number[] {
  const z = [...theta.subarray(row * V, row * V + V)];
  const lse = Math.log(z.reduce((s, v) => s + Math.exp(v), 0));
  return z.map((v) => v - lse);
}
const logpOf = (theta: Float64Array, tokens: readonly number[], t: number) => logSoftmax(theta, rowOf(tokens, t))[tokens[t]!]!;
const probability = (tokens: readonly number[]) => Math.exp(tokens.reduce((s, _, t) => s + logpOf(THETA, tokens, t), 0));

/** Adds weight * d logp(token t) / d theta. */
function addScore(grad: Float64Array, tokens: readonly number[], t: number, weight: number): void {
  const row = rowOf(tokens, t);
  logSoftmax(THETA, row).forEach((logp, j) => (grad[row * V + j]! += weight * (Number(j === tokens[t]) - Math.exp(logp))));
}

/** d E[reward] / d theta, by enumeration. */
function rewardGradient(): Float64Array {
  const grad = new Float64Array(ROWS * V);
  COMPLETIONS.forEach((tokens, i) => tokens.forEach((_, t) => addScore(grad, tokens, t, probability(tokens) * REWARD[i]!)));
  return grad;
}

/** The gradient of the sum over positions of E_prefix KL(pi(. | prefix) || ref(. | prefix)), prefixes held fixed. */
function klGradient(): Float64Array {
  const grad = new Float64Array(ROWS * V);
  const first = logSoftmax(THETA, 0);
  for (let row = 0; row < ROWS; ++row) {
    const [p, q] = [logSoftmax(THETA, row), logSoftmax(REFERENCE, row).map(Math.fround)]; // as the op is given them
    const kl = p.reduce((s, lp, j) => s + Math.exp(lp) * (lp - q[j]!), 0);
    const reach = row === 0 ? 1 : Math.exp(first[row - 1]!);
    p.forEach((lp, j) => (grad[row * V + j] = reach * Math.exp(lp) * (lp - q[j]! - kl)));
  }
  return grad;
}

/** The expected gradient of the loss over all groups of two completions. */
function expectedUpdate(config: LossConfig, baseline: 'leave_one_out' | 'none', withReward = true): Float64Array {
  const grad = new Float64Array(ROWS * V);
  for (const [i, a] of COMPLETIONS.entries())
    for (const [k, b] of COMPLETIONS.entries()) {
      const group = [a, b];
      const rewards = withReward ? [REWARD[i]!, REWARD[k]!] : [0, 0];
      const { advantages } = groupAdvantages(rewards, { numGenerations: 2, baseline, scaleRewards: 'none' });
      const each = (theta: Float64Array) => Float64Array.from(group.flatMap((tokens) => tokens.map((_, t) => logpOf(theta, tokens, t))));
      const batch = { logps: each(THETA), refLogps: Float32Array.from(each(REFERENCE)), advantages, completionLength: T };
      const { native } = policyLossArguments(batch as never, config, { exact: true });
      const { gradLogps } = core().policyLossExact(native);
      const weight = probability(a) * probability(b);
      group.forEach((tokens, s) => tokens.forEach((_, t) => addScore(grad, tokens, t, weight * gradLogps[s * T + t]!)));
    }
  return grad;
}

const largest = (a: Float64Array, b: Float64Array, factor: number) => a.reduce((m, v, i) => Math.max(m, Math.abs(v - factor * b[i]!)), 0);

// The average over sequences of the sum over tokens: normalizer 2 sequences where the weight is per token, 1 / T inside it otherwise.
const PER_TOKEN = 2;
const LOSSES: [LossConfig, number][] = [
  [{ lossType: 'reinforce', normalizer: PER_TOKEN }, 1],
  [{ lossType: 'dapo', normalizer: PER_TOKEN }, 1],
  [{ lossType: 'bnpo', normalizer: PER_TOKEN, delta: 2 }, 1],
  [{ lossType: 'dr_grpo', normalizer: PER_TOKEN, dualClip: 3 }, 1],
  [{ lossType: 'grpo' }, 1 / T],
  [{ lossType: 'cispo', epsilonHigh: 5, normalizer: PER_TOKEN }, 1],
  [{ lossType: 'sapo' }, 1 / T],
  [{ lossType: 'sapo', sapoTemperaturePos: 3, sapoTemperatureNeg: 0.5 }, 1 / T],
  [{ lossType: 'vespo', normalizer: PER_TOKEN }, 1],
  [{ lossType: 'gmpo' }, 1 / T],
  [{ lossType: 'grpo', importanceSamplingLevel: 'sequence' }, 1 / T],
  [{ lossType: 'grpo', importanceSamplingLevel: 'sequence_token' }, 1 / T],
  [{ lossType: 'luspo', importanceSamplingLevel: 'sequence' }, 1],
  [{ lossType: 'dppo', normalizer: PER_TOKEN }, 1],
  [{ lossType: 'dppo', dppoDivergence: 'kl', normalizer: PER_TOKEN }, 1],
  [{ lossType: 'clip_cov', clipCovLow: 1e6, clipCovHigh: 1e7, normalizer: PER_TOKEN }, 1],
  [{ lossType: 'kl_cov', normalizer: PER_TOKEN }, 1],
];

describe('on policy, the expected update is the exact policy gradient', () => {
  test.each(LOSSES)('%j', (config, factor) => {
    for (const baseline of ['leave_one_out', 'none'] as const)
      expect(largest(expectedUpdate(config, baseline), rewardGradient(), -factor)).toBeLessThan(1e-10);
  });
});

describe('the expected gradient of the KL term is the exact one', () => {
  const base = { lossType: 'dapo', beta: 1, normalizer: PER_TOKEN } as const;
  test.each([
    [{ ...base, klEstimator: 'k3' }, 1], // times the ratio
    [{ ...base, klEstimator: 'k1' }, 1],
    [{ ...base, klEstimator: 'k2', useBiasCorrectionKl: false }, 1],
    [{ ...base, klEstimator: 'k1', klGradient: 'straight_through' }, 1],
    [{ ...base, klEstimator: 'k3', klGradient: 'straight_through' }, 1],
    [{ ...base, klEstimator: 'k3', klGradient: 'score_function' }, 1],
    [{ ...base, klEstimator: 'k1', klGradient: 'score_function' }, 1],
  ] as [LossConfig, number][])('%j', (config, factor) => {
    expect(largest(expectedUpdate(config, 'none', false), klGradient(), factor)).toBeLessThan(1e-10);
  });

  test('the plain derivative of k3 and k1 is not', () => {
    for (const klEstimator of ['k1', 'k3'] as const)
      expect(largest(expectedUpdate({ ...base, klEstimator, useBiasCorrectionKl: false }, 'none', false), klGradient(), 1)).toBeGreaterThan(
        1e-2,
      );
  });
});
