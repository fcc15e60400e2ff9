import { describe, expect, test } from '@jest/globals';
import { groupAdvantages, grpoLoss } from '../../lib/index.js';
import { advantagesOracle } from '../support/oracle.js';
import { Random } from '../support/random.js';

test('random groups against the oracle, every option', () => {
  for (let seed = 1; seed <= 600; ++seed) {
    const r = new Random(seed);
    const sizes = Array.from({ length: 1 + r.below(4) }, () => 1 + r.below(6));
    const groupOffsets = Int32Array.from([0, ...sizes.map((_, i) => sizes.slice(0, i + 1).reduce((a, b) => a + b))]);
    const levels = r.pick([2, 3, 1000]);
    const scale = r.pick([1, 1e-4, 1e6]);
    const exclude = r.chance(0.4);
    const n = groupOffsets[sizes.length]!;
    const rewards = Array.from({ length: n }, () => (exclude && r.chance(0.2) ? NaN : scale * r.below(levels)));
    const options = {
      scaleRewards: r.pick(['group', 'batch', 'none'] as const),
      baseline: r.pick(['group_mean', 'leave_one_out', 'batch_mean', 'none'] as const),
      transform: r.pick(['none', 'rank'] as const),
      ddof: r.pick([0, 1] as const),
      eps: r.pick([1e-4, 1e-2]),
    };
    const want = advantagesOracle(rewards, groupOffsets, options);
    const got = groupAdvantages(rewards, { groupOffsets, nonFinite: exclude ? 'exclude' : 'error', ...options }).advantages;
    want.forEach((w, i) => {
      if (!(Math.abs(got[i]! - w) <= 1e-6 * Math.max(1, Math.abs(w))))
        throw new Error(`seed ${seed}: advantages[${i}] ${got[i]} is not ${w}; ${JSON.stringify({ rewards, sizes, options })}`);
    });
  }
});

describe('z-scores', () => {
  test('constant groups give exactly 0, whatever the value', () => {
    for (const v of [0, 1, 0.1, -1e8, 1e-8, 1 / 3]) {
      const { advantages, std, zeroStd } = groupAdvantages(new Array<number>(7).fill(v), { numGenerations: 7 });
      expect(Array.from(advantages).every((a) => Object.is(a, 0))).toBe(true);
      expect([std[0], zeroStd[0]]).toEqual([0, 1]);
    }
  });
  test('nearly constant rewards are not blown up', () => {
    const { advantages } = groupAdvantages([1, 1.00001], { numGenerations: 2 });
    expect(Math.abs(advantages[0]!)).toBeCloseTo(5e-6 / (Math.SQRT1_2 * 1e-5 + 1e-4), 5);
  });
  test('large offsets cost nothing; the bound (G - 1) / sqrt(G) holds', () => {
    const small = groupAdvantages([0, 1, 0, 1], { numGenerations: 4 }).advantages;
    expect(groupAdvantages([1e8, 1e8 + 1, 1e8, 1e8 + 1], { numGenerations: 4 }).advantages).toEqual(small);
    const one = groupAdvantages([1, 0, 0, 0, 0, 0, 0, 0], { numGenerations: 8, eps: 0 }).advantages;
    expect(one[0]).toBeLessThanOrEqual(7 / Math.sqrt(8) + 1e-6);
  });
  test('a group of one has advantage 0; one finite reward among NaN too', () => {
    expect(Array.from(groupAdvantages([5, 7], { numGenerations: 1 }).advantages)).toEqual([0, 0]);
    const out = groupAdvantages([NaN, 3, NaN, NaN], { numGenerations: 4, nonFinite: 'exclude' });
    expect(Array.from(out.advantages)).toEqual([0, 0, 0, 0]);
    expect(out.mean[0]).toBe(3);
  });
});

test('grpoLoss makes the same advantages from rewards, and returns group statistics', () => {
  const r = new Random(1);
  const batch = { vocabSize: 11, targets: Int32Array.from({ length: 12 }, () => r.below(11)), completionLength: 3 };
  const logits = Float32Array.from({ length: 12 * 11 }, () => r.normal());
  const rewards = [1, 0, 3, 3];
  const made = groupAdvantages(rewards, { numGenerations: 2, scaleRewards: 'batch' });
  const { groups, ...fromRewards } = grpoLoss({ ...batch, logits: logits.slice(), rewards, numGenerations: 2 }, { scaleRewards: 'batch' });
  expect(fromRewards).toEqual(grpoLoss({ ...batch, logits: logits.slice(), advantages: made.advantages }));
  expect({ advantages: fromRewards.advantages, ...groups }).toEqual(made);
});
