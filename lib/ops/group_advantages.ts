import { core } from '../native.js';
import { groups } from './check.js';
import { ADVANTAGE_OPTIONS, advantageArguments } from './config.js';
import { doubles, readOnce } from './inputs.js';
import type { AdvantageConfig, GroupAdvantages, Groups, Rewards } from './types.js';

/** The native arguments of groupAdvantages, also used inside grpoLoss. @internal */
export function rewardArguments(rewards: unknown, where: Groups, config: AdvantageConfig): Record<string, unknown> {
  const values = doubles('rewards', rewards);
  const groupOffsets = groups(where, values.length);
  return { rewards: values, count: values.length, groupOffsets, groups: groupOffsets.length - 1, ...advantageArguments(config) };
}

/**
 * Group-relative advantages: (reward - baseline) / (std + eps), computed in float64 in two passes.
 *
 * @param rewards (B) one per completion; completions of one prompt follow each other
 * @param options the groups (numGenerations or groupOffsets) and how rewards become advantages; defaults as TRL's
 * @returns advantages (B) and each group's own mean, std and whether all its rewards are equal (its advantages are then exactly 0)
 * @throws RangeError ERR_NON_FINITE naming the reward that is NaN or infinite, unless nonFinite is 'exclude'
 * @see arXiv:2402.03300 section 4.1.2; 'none' arXiv:2503.20783; 'leave_one_out' arXiv:2402.14740; 'batch' arXiv:2508.08221
 */
export function groupAdvantages(rewards: Rewards, options: Groups & AdvantageConfig): GroupAdvantages {
  const read = readOnce('groupAdvantages', options, ['numGenerations', 'groupOffsets', ...ADVANTAGE_OPTIONS], 'options');
  return core().groupAdvantages(rewardArguments(rewards, read, read));
}
