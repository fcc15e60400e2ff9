// The token formula: dual-number slopes against finite differences of its own double instantiation, and against the oracle.
import { expect, test } from '@jest/globals';
import { core } from '../../lib/native.js';
import { lossArguments } from '../../lib/ops/config.js';
import { tokenOracle, type OracleConfig } from '../support/oracle.js';
import { Random } from '../support/random.js';

const BASE = { lossType: 'dapo', maxCompletionLength: 1, temperature: 1, emptySequences: 'count', entropyCoef: 0 } as const;

function random(r: Random): OracleConfig {
  const epsilon = r.pick([0.1, 0.2]);
  return {
    ...BASE,
    epsilon,
    epsilonHigh: r.pick([epsilon, 0.3]),
    delta: r.pick([undefined, 1.2, 3]),
    beta: r.pick([0, 0.04, 1]),
    klEstimator: r.pick(['k1', 'k2', 'k3'] as const),
    useBiasCorrectionKl: r.chance(0.5),
  };
}

const at = (args: object, logp: number, old: number, ref: number, A: number) =>
  core().tokenLoss(args, { values: Float64Array.of(logp, old, ref, A) });

test('500 random tokens', () => {
  const h = 1e-6;
  let compared = 0;
  for (let seed = 1; seed <= 500; ++seed) {
    const r = new Random(seed);
    const c = random(r);
    const args = lossArguments('config', c).native;
    const [logp, A] = [-3 * r.next(), 2 * r.normal()];
    const [old, ref] = [logp + r.normal(), logp + r.normal()];
    const [value, slope, plain] = at(args, logp, old, ref, A) as unknown as [number, number, number];
    const want = tokenOracle(c, logp, old, ref, A);
    expect(plain).toBe(value);
    expect(Math.abs(value - want.loss)).toBeLessThanOrEqual(1e-12 * (1 + Math.abs(want.loss)));
    expect(Math.abs(slope - want.dloss)).toBeLessThanOrEqual(1e-12 * (1 + Math.abs(want.dloss)));
    const kinks = [1 - c.epsilon, 1 + c.epsilonHigh, c.delta ?? 1e9];
    if (kinks.some((k) => Math.abs(Math.exp(logp - old) - k) < 1e-3)) continue;
    const difference = (at(args, logp + h, old, ref, A)[2]! - at(args, logp - h, old, ref, A)[2]!) / (2 * h);
    expect(Math.abs(slope - difference)).toBeLessThanOrEqual(1e-7 * (1 + Math.abs(slope)));
    compared += 1;
  }
  expect(compared).toBeGreaterThan(450);
});

test('at a kink the unclipped side has the derivative, as autograd of clamp and min gives', () => {
  const args = lossArguments('config', { epsilon: 0.5, epsilonHigh: 1 }).native;
  const edge = Math.log(2);
  expect(at(args, edge, 0, 0, 1)[1]).toBeCloseTo(-2, 12);
  expect(at(args, edge + 1e-9, 0, 0, 1)[1]! + 0).toBe(0);
  expect(at(args, edge + 1e-9, 0, 0, -1)[1]).toBeCloseTo(2, 6);
});
