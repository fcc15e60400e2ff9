import { invalidValue } from '../errors.js';
import { core } from '../native.js';
import { groups, number } from './check.js';
import { doubles, lengthOf, readOnce } from './inputs.js';
import type { Groups, Rewards } from './types.js';

/** k, which no group may be smaller than. Empty groups do not count. */
function checkK(k: unknown, groupOffsets: Int32Array): number {
  let smallest = Infinity;
  for (let g = 0; g + 1 < lengthOf(groupOffsets); ++g) {
    const size = groupOffsets[g + 1]! - groupOffsets[g]!;
    if (size > 0) smallest = Math.min(smallest, size);
  }
  const given = number('k', k, { min: 1, integer: true });
  if (given > smallest) throw invalidValue('k', `at most ${smallest}, the size of the smallest group,`, given);
  return given;
}

/**
 * Advantages that train for Pass@k, in closed form: of every subset of k completions of a group the reward is the best of the k, its
 * advantage is (reward - mean) / std over all subsets, and a completion's advantage is the mean over the subsets that contain it.
 * With n completions, m of them wrong: Pass@k = R = 1 - C(m, k) / C(n, k), sigma = sqrt(R (1 - R)); right: (1 - R) / sigma; wrong:
 * (1 - R - C(m - 1, k - 1) / C(n - 1, k - 1)) / sigma. Float64 inside.
 *
 * @param rewards (B) 0 or 1, one per completion; completions of one prompt follow each other
 * @param options k (from 1 to the size of the smallest group that is not empty) and the groups (numGenerations or groupOffsets)
 * @returns advantages (B), 0 where every subset has the same reward (m < k, or m = n); passAtK (groups), 0 for an empty group
 * @throws RangeError naming the reward that is neither 0 nor 1 (ERR_NON_FINITE where it is NaN or infinite)
 * @see arXiv:2508.10751
 */
export function passAtKAdvantages(rewards: Rewards, options: Groups & { k: number }): { advantages: Float32Array; passAtK: Float32Array } {
  options = readOnce('passAtKAdvantages', options, ['numGenerations', 'groupOffsets', 'k'], 'options');
  const values = doubles('rewards', rewards);
  const groupOffsets = groups(options, values.length);
  return core().passAtKAdvantages({
    rewards: values,
    count: values.length,
    groupOffsets,
    groups: groupOffsets.length - 1,
    k: checkK(options.k, groupOffsets),
  });
}
