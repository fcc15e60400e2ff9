import { incompatible, invalidType, invalidValue } from '../errors.js';
import { core } from '../native.js';
import { choice, groups, number } from './check.js';
import { ADVANTAGE_OPTIONS, advantageArguments } from './config.js';
import { allocate, copied, doubles, listOf, readOnce } from './inputs.js';
import type { AdvantageConfig, GroupAdvantages, Groups, Rewards } from './types.js';

/** Of multiRewardAdvantages. */
export interface MultiRewardConfig extends AdvantageConfig {
  /** One per function. Default: 1 each. */
  rewardWeights?: readonly number[];
  /**
   * 'sum_then_normalize' (default): groupAdvantages of the weighted sums. 'normalize_then_sum': z-scores of each function in its group,
   * then the z-score in the batch of their weighted sums (GDPO); scaleRewards, baseline and transform mean nothing there and are refused.
   */
  multiObjectiveAggregation?: 'sum_then_normalize' | 'normalize_then_sum';
}

/** All functions' rewards, one after the other: K rows of B. */
function rewardRows(rewards: unknown): { all: Float64Array; functions: number; count: number } {
  const list = listOf(rewards);
  const functions = list?.length ?? 0;
  if (!list || functions === 0 || typeof list[0] === 'number')
    throw invalidType('rewards', 'an array with the rewards of each function', rewards);
  const rows: Float64Array[] = [];
  for (let k = 0; k < functions; ++k) {
    const row = copied(Float64Array, doubles(`rewards[${k}]`, list[k])); // reading the next one may run the caller's code
    if (k > 0 && row.length !== rows[0]!.length) throw invalidValue(`rewards[${k}]`, `${rows[0]!.length} rewards, as rewards[0] has,`, row);
    rows.push(row);
  }
  const count = rows[0]!.length;
  const all = allocate(() => new Float64Array(rows.length * count));
  rows.forEach((row, k) => all.set(row, k * count));
  return { all, functions: rows.length, count };
}

function weights(given: unknown, functions: number): Float64Array {
  if (given === undefined) return new Float64Array(functions).fill(1);
  const list = listOf(given);
  if (!list) throw invalidType('rewardWeights', 'an array of numbers', given);
  if (list.length !== functions) throw invalidValue('rewardWeights', `one weight per reward function (${functions})`, given);
  return Float64Array.from({ length: functions }, (_, k) => number(`rewardWeights[${k}]`, list[k]));
}

function aggregationOf(config: MultiRewardConfig): number {
  const names = ['sum_then_normalize', 'normalize_then_sum'];
  const aggregation = choice('multiObjectiveAggregation', config.multiObjectiveAggregation ?? names[0], names);
  const fixed = { scaleRewards: 'group', baseline: 'group_mean', transform: 'none' } as const;
  for (const [name, value] of Object.entries(fixed)) {
    const given = config[name as keyof typeof fixed];
    if (aggregation === 1 && given !== undefined && given !== value)
      throw incompatible(
        `multiObjectiveAggregation 'normalize_then_sum' defines itself what rewards are normalised by: no ${name} '${given}'`,
      );
  }
  return aggregation;
}

/**
 * Advantages from the rewards of several functions. NaN means that a function has nothing to say about a completion and is left out;
 * a completion that none has anything to say about is left out of all statistics and has advantage 0. Float64 inside.
 *
 * @param rewards K arrays of B numbers, one array per function; completions of one prompt follow each other
 * @param options the groups (numGenerations or groupOffsets), how functions are joined, and how rewards become advantages; defaults as
 *   TRL's
 * @returns as groupAdvantages: advantages (B); mean and std (groups) of the group's weighted sums (of their ranks, with transform 'rank');
 *   zeroStd 1 where the group's weighted sums ('normalize_then_sum': its summed z-scores) are equal: they teach nothing
 * @throws RangeError ERR_NON_FINITE naming the reward that is infinite, unless nonFinite is 'exclude': it then counts as NaN
 * @see TRL 1.16 GRPOTrainer, multi_objective_aggregation; 'normalize_then_sum' arXiv:2601.05242
 */
export function multiRewardAdvantages(rewards: readonly Rewards[], options: Groups & MultiRewardConfig): GroupAdvantages {
  const names = ['numGenerations', 'groupOffsets', 'rewardWeights', 'multiObjectiveAggregation', ...ADVANTAGE_OPTIONS];
  options = readOnce('multiRewardAdvantages', options, names, 'options');
  const { all, functions, count } = rewardRows(rewards);
  const groupOffsets = groups(options, count);
  return core().multiRewardAdvantages({
    rewards: all,
    functions,
    count,
    groupOffsets,
    groups: groupOffsets.length - 1,
    rewardWeights: weights(options.rewardWeights, functions),
    multiObjectiveAggregation: aggregationOf(options),
    ...advantageArguments(options),
  });
}
