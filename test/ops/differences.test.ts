// The oracle against itself: its derivative must be the difference quotient of its own loss, with what the papers detach held fixed.
import { expect, test } from '@jest/globals';
import { makeCase } from '../support/cases.js';
import { grpoOracle, policyOracle, type OracleConfig, type PolicyInput } from '../support/oracle.js';
import { LOSS_TYPES } from '../support/oracle_types.js';

const STEP = 1e-6;
const with_ = (values: ArrayLike<number>, t: number, by: number) => Float64Array.from(values, (v, k) => (k === t ? v + by : v));

/** (f(x + up) - f(x - down)) / (up + down) in position t of the log-probs or entropies; everything detached stays at the input's values. */
function quotient(b: PolicyInput, c: OracleConfig, what: 'logps' | 'entropies', t: number, up = STEP, down = STEP): number {
  const at = (by: number) => policyOracle({ ...b, [what]: with_(b[what], t, by) }, c, b).loss;
  return (at(up) - at(-down)) / (up + down);
}

test.each(LOSS_TYPES)('%s: central differences by log-prob and entropy on 25 random batches', (lossType) => {
  let compared = 0;
  for (let seed = 1; seed <= 25; ++seed) {
    const c = makeCase(seed, [lossType]);
    const truth = grpoOracle(c.oracleBatch, c.oracleConfig);
    if (truth.margin < 100 * STEP) continue;
    const input: PolicyInput = { ...c.oracleBatch, logps: truth.logps, entropies: truth.entropies };
    c.oracleBatch.selected.forEach((selected, t) => {
      if (!selected) return;
      // the loss is rounded to 2^-53 of its terms, and the third derivative is about as large as the first's terms
      const tolerance = 1e-9 * (truth.terms + truth.amounts[t]!) + 1e-12;
      const where = `seed ${seed}, token ${t}`;
      const byLogp = quotient(input, c.oracleConfig, 'logps', t);
      if (!(Math.abs(byLogp - truth.gradLogps[t]!) <= tolerance)) throw new Error(`${where}: ${byLogp}, claimed ${truth.gradLogps[t]}`);
      const byEntropy = quotient(input, c.oracleConfig, 'entropies', t);
      if (!(Math.abs(byEntropy - truth.gradEntropies[t]!) <= tolerance))
        throw new Error(`${where}, entropy: ${byEntropy}, claimed ${truth.gradEntropies[t]}`);
      compared += 1;
    });
  }
  expect(compared).toBeGreaterThan(80);
});

/** One token with log-ratio w and, when given, reference - logp = d. */
const single = (w: number, advantage: number, d = 0): PolicyInput => ({
  logps: [-3],
  entropies: [1],
  offsets: [0, 1],
  selected: [true],
  advantages: [advantage],
  oldLogps: [-3 - w],
  refLogps: [-3 + d],
});

/** [what, config, w, advantage, d, slope below, slope above]; every weight here is 1. */
const KINKS: [string, OracleConfig, number, number, number, number, number][] = [
  ['upper clip', { epsilonHigh: 0.5 }, Math.log(1.5), 2, 0, -3, 0],
  ['upper clip, advantage below 0', { epsilonHigh: 0.5 }, Math.log(1.5), -2, 0, 3, 3],
  ['lower clip', { epsilon: 0.5 }, Math.log(0.5), -2, 0, 0, 1],
  ['lower clip, advantage above 0', { epsilon: 0.5 }, Math.log(0.5), 2, 0, -1, -1],
  ['delta', { delta: 4 }, Math.log(4), -2, 0, 8, 0],
  ['dual clip', { dualClip: 3 }, Math.log(3), -2, 0, 6, 0],
  ['gmpo, upper', { lossType: 'gmpo', epsilonHigh: 0.25 }, 0.25, 2, 0, -2 * Math.exp(0.25), 0],
  ['gmpo, lower', { lossType: 'gmpo', epsilon: 0.25 }, -0.25, -2, 0, 0, 2 * Math.exp(-0.25)],
  ['|log-ratio| of kl_cov', { lossType: 'kl_cov', klCovRatio: 1, klCovCoef: 5 }, 0, 1, 0, -6, 4],
  ['saturated KL', { lossType: 'reinforce', beta: 0.5, klEstimator: 'k1', useBiasCorrectionKl: false }, 0, 1, 40, -1, -0.5],
  ['saturated ratio', { lossType: 'kl_cov', klCovCoef: 0 }, 40, Math.exp(-40), 0, -1, 0],
];

test.each(KINKS)('one-sided slopes at a kink: %s', (_what, config, w, advantage, d, below, above) => {
  const b = single(w, advantage, d);
  expect(quotient(b, config, 'logps', 0, 0, STEP)).toBeCloseTo(below, 4);
  expect(quotient(b, config, 'logps', 0, STEP, 0)).toBeCloseTo(above, 4);
});

test.each(KINKS)('the derivative beside a kink: %s', (_what, config, w, advantage, d, below, above) => {
  const beside = (by: number) => {
    const b = single(w, advantage, d);
    const logps = [-3 + by];
    return policyOracle({ ...b, logps }, config, { ...b, logps }).gradLogps[0]!;
  };
  expect(beside(-1e-7)).toBeCloseTo(below, 5);
  expect(beside(1e-7)).toBeCloseTo(above, 5);
});
