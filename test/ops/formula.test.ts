// The formulas themselves, in double: native loss and derivatives against the oracle to 1e-12, and against differences of their own.
import { expect, test } from '@jest/globals';
import type { LossConfig, PolicyLossBatch } from '../../lib/index.js';
import { core } from '../../lib/native.js';
import { policyLossArguments } from '../../lib/ops/policy_loss.js';
import { makeCase } from '../support/cases.js';
import { grpoOracle } from '../support/oracle.js';
import { LOSS_TYPES, type LossType } from '../support/oracle_types.js';
import { Random } from '../support/random.js';

type ExactBatch = Omit<PolicyLossBatch, 'logps' | 'entropies'> & { logps: ArrayLike<number>; entropies: ArrayLike<number> };

function exact(batch: ExactBatch, config: LossConfig) {
  const doubles = { logps: Float64Array.from(batch.logps), entropies: Float64Array.from(batch.entropies) };
  const given = { ...batch, ...doubles } as unknown as PolicyLossBatch;
  return core().policyLossExact(policyLossArguments(given, config, { exact: true }).native);
}

const COUNT = 150;
const ROUNDING = 1e-12;
/** Below this numbers are denormal. */
const UNDERFLOW = 1e-300;

function check(what: string, got: number, want: number, size: number): void {
  if (!(Math.abs(got - want) <= ROUNDING * size + UNDERFLOW)) throw new Error(`${what}: got ${got}, want ${want}, terms ${size}`);
}

test.each(LOSS_TYPES)(`%s: ${COUNT} random batches within 1e-12 of the sum of the absolute terms`, (lossType) => {
  let skipped = 0;
  for (let seed = 1; seed <= COUNT; ++seed) {
    const c = makeCase(seed, [lossType]);
    const truth = grpoOracle(c.oracleBatch, c.oracleConfig);
    if (truth.margin < ROUNDING) {
      skipped += 1;
      continue;
    }
    const { offsets, completionLength, mask, truncated, oldLogps, refLogps, samplerLogps } = c.batch;
    const others = { offsets, completionLength, mask, truncated, oldLogps, refLogps, samplerLogps, advantages: c.batch.advantages! };
    const got = exact({ ...others, logps: truth.logps, entropies: truth.entropies }, c.config);
    const where = `seed ${seed}, ${JSON.stringify(c.config)}`;
    check(`loss, ${where}`, got.loss, truth.loss, truth.terms);
    truth.gradLogps.forEach((g, t) => check(`gradLogps[${t}], ${where}`, got.gradLogps[t]!, g, truth.amounts[t]!));
    truth.gradEntropies.forEach((g, t) => check(`gradEntropies[${t}], ${where}`, got.gradEntropies[t]!, g, Math.abs(g)));
  }
  // of two tokens both have the same covariance, so that kl_cov's choice is a matter of rounding
  expect(skipped).toBeLessThan((lossType === 'kl_cov' ? 0.15 : 0.03) * COUNT);
});

/** Losses that detach nothing when they are off policy: central differences of the native loss must give its gradient. */
const DIFFERENTIATED: [LossType, LossConfig][] = [
  ['grpo', { importanceSamplingLevel: 'sequence' }],
  ['bnpo', { delta: 1.5 }],
  ['dr_grpo', { maxCompletionLength: 9, dualClip: 2 }],
  ['dapo', {}],
  ['luspo', { importanceSamplingLevel: 'sequence' }],
  ['sapo', {}],
  ['gmpo', {}],
  ['kl_cov', { klCovRatio: 0.3 }],
  ['clip_cov', { clipCovRatio: 0.3, clipCovLow: 0.1 }],
];

test.each(DIFFERENTIATED)('%s %j: the gradient is the difference quotient of the loss', (lossType, own) => {
  const h = 1e-6;
  const r = new Random(17);
  for (let round = 0; round < 20; ++round) {
    const N = 9;
    const logps = Float64Array.from({ length: N }, () => -3 * r.next());
    const around = () => Float32Array.from(logps, (x) => x + 0.4 * r.normal());
    const entropies = Float64Array.from({ length: N }, () => 2 * r.next());
    const batch = { logps, entropies, oldLogps: around(), refLogps: around(), offsets: Int32Array.of(0, 4, 6, N) };
    const whole = { ...batch, advantages: Float32Array.of(r.normal(), r.normal(), r.normal()) };
    const config: LossConfig = { lossType, beta: 0.3, entropyCoef: 0.1, klEstimator: r.pick(['k1', 'k2', 'k3'] as const), ...own };
    const { gradLogps, gradEntropies } = exact(whole, config);
    for (let t = 0; t < N; ++t) {
      const moved = (what: 'logps' | 'entropies', by: number) =>
        exact({ ...whole, [what]: batch[what].map((v, k) => (k === t ? v + by : v)) }, config).loss;
      const slope = (what: 'logps' | 'entropies') => (moved(what, h) - moved(what, -h)) / (2 * h);
      expect(Math.abs(slope('logps') - gradLogps[t]!)).toBeLessThanOrEqual(1e-8);
      expect(Math.abs(slope('entropies') - gradEntropies[t]!)).toBeLessThanOrEqual(1e-8);
    }
  }
});

test('at a kink the unclipped side has the derivative, as autograd of clamp and min gives', () => {
  const slope = (logp: number, advantage: number) => {
    const one = { logps: [logp], entropies: [0], oldLogps: Float32Array.of(0), completionLength: 1 };
    return exact({ ...one, advantages: Float32Array.of(advantage) }, { epsilon: 0.5, epsilonHigh: 1 }).gradLogps[0]!;
  };
  const edge = Math.log(2);
  expect(slope(edge, 1)).toBeCloseTo(-2, 12);
  expect(slope(edge + 1e-9, 1) + 0).toBe(0);
  expect(slope(edge + 1e-9, -1)).toBeCloseTo(2, 6);
  expect(slope(-edge, -1)).toBeCloseTo(0.5, 12);
  expect(slope(-edge - 1e-9, -1) + 0).toBe(0);
  expect(slope(-edge - 1e-9, 1)).toBeCloseTo(-0.5, 6);
});
