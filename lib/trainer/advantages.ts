// Advantages of a rollout, from what the reward functions said.
import type { Policy } from '../engine/policy.js';
import { incompatible } from '../errors.js';
import { groupAdvantages } from '../ops/group_advantages.js';
import { multiRewardAdvantages } from '../ops/multi_reward_advantages.js';
import { processAdvantages } from '../ops/process_advantages.js';
import { rewardsWithKl } from '../ops/rewards_with_kl.js';
import type { GroupAdvantages } from '../ops/types.js';
import { concatenate } from './batch.js';
import type { ResolvedGRPOConfig } from './config.js';
import { stepEnds } from './process-rewards.js';
import type { NamedReward, ScoredRewards } from './rewards.js';
import type { Completion } from './rollout.js';

export interface RolloutAdvantages {
  /** (B); with process supervision the mean over each completion's tokens. */
  advantages: Float32Array;
  /** Process supervision: per completion, one per token. */
  tokenAdvantages?: Float32Array[];
  groupStd: Float32Array;
}

export interface AdvantageContext {
  policy: Policy;
  config: ResolvedGRPOConfig;
  rewards: NamedReward[];
}

const offsetsOf = (lists: ArrayLike<unknown>[]): Int32Array => {
  const offsets = new Int32Array(lists.length + 1);
  lists.forEach((l, i) => (offsets[i + 1] = offsets[i]! + l.length));
  return offsets;
};

/** Log-probs of the policy's own tokens: what was put between them by others has no KL. */
function klTokens(completions: Completion[], logps: Float32Array[], refLogps: Float32Array[]) {
  const own = (lists: Float32Array[]) => lists.map((l, i) => (completions[i]!.mask ? l.filter((_, t) => completions[i]!.mask![t]) : l));
  const [of, ref] = [own(logps), own(refLogps)];
  return { logps: concatenate(of, Float32Array), refLogps: concatenate(ref, Float32Array), offsets: offsetsOf(of) };
}

/** Rewards minus beta times the KL of what was sampled; a completion that no function has anything to say about keeps its NaN. */
function penalised(
  total: Float64Array,
  config: ResolvedGRPOConfig,
  completions: Completion[],
  logps: Float32Array[],
  refLogps: Float32Array[],
): Float64Array {
  const rewards = total.map((v) => (Number.isNaN(v) ? 0 : v));
  const batch = { rewards, ...klTokens(completions, logps, refLogps) };
  return rewardsWithKl(batch, { beta: config.beta, klEstimator: config.klEstimator }).map((v, i) => (Number.isNaN(total[i]) ? NaN : v));
}

/** Of whole completions. `logps`: of the policy that sampled. */
function outcome(
  total: Float64Array,
  { config }: AdvantageContext,
  completions: Completion[],
  logps: Float32Array[],
  refLogps?: Float32Array[],
): GroupAdvantages {
  const { numGenerations, scaleRewards, baseline, transform } = config;
  const rewards = config.klInReward && refLogps ? penalised(total, config, completions, logps, refLogps) : total;
  return groupAdvantages(rewards, { numGenerations, scaleRewards, baseline, transform, nonFinite: 'exclude' });
}

/** Of the steps that function `k` judged: (N). */
function process(k: number, scored: ScoredRewards, completions: Completion[], context: AdvantageContext): GroupAdvantages {
  const { config, policy, rewards } = context;
  const { scaleRewards, numGenerations } = config;
  if (scaleRewards === 'batch' || config.baseline !== 'group_mean' || config.transform !== 'none')
    throw incompatible(
      `Reward function '${rewards[k]!.name}' rewards steps: scaleRewards must be 'group' or 'none', baseline 'group_mean' and transform 'none'`,
    );
  const offsets = offsetsOf(completions.map((c) => c.tokens));
  const steps = scored.steps[k]!.map((s, i) => (s ? stepEnds(rewards[k]!.name, i, s, completions[i]!, policy) : { ends: [], rewards: [] }));
  return processAdvantages(
    {
      offsets,
      numGenerations,
      stepRewards: Float64Array.from(steps.flatMap((s) => s.rewards)),
      stepEnds: Int32Array.from(steps.flatMap((s, i) => s.ends.map((end) => offsets[i]! + end))),
      stepOffsets: offsetsOf(steps.map((s) => s.ends)),
    },
    { scaleRewards },
  );
}

/** Outcome advantages of the functions that judge completions, plus, token by token, weight times those of the functions that judge steps. */
function mixed(scored: ScoredRewards, completions: Completion[], context: AdvantageContext): RolloutAdvantages {
  const { rewards, config } = context;
  if (config.multiObjectiveAggregation !== 'sum_then_normalize' || config.klInReward)
    throw incompatible("Rewards of steps need multiObjectiveAggregation 'sum_then_normalize' and no klInReward");
  const judges = rewards.map((_, k) => k).filter((k) => scored.steps[k] !== undefined);
  const whole = judges.length < rewards.length ? outcome(scored.outcome, context, completions, []) : undefined;
  const parts = judges.map((k) => process(k, scored, completions, context));
  const offsets = offsetsOf(completions.map((c) => c.tokens));
  const tokenAdvantages = completions.map((c, i) =>
    Float32Array.from(c.tokens, (_, t) =>
      parts.reduce((sum, p, j) => sum + rewards[judges[j]!]!.weight * p.advantages[offsets[i]! + t]!, whole?.advantages[i] ?? 0),
    ),
  );
  return {
    tokenAdvantages,
    advantages: Float32Array.from(tokenAdvantages, (a) => (a.length ? a.reduce((x, y) => x + y, 0) / a.length : 0)),
    groupStd: (whole ?? parts[0]!).std.map((std, g) => Math.max(std, ...parts.map((p) => p.std[g]!))),
  };
}

/** Mean KL to the reference per token, nats, of what was sampled: the metric where the KL is part of the reward. */
export function sampledKl(config: ResolvedGRPOConfig, completions: Completion[], logps: Float32Array[], refLogps: Float32Array[]): number {
  const none = new Float64Array(logps.length);
  const batch = { rewards: none, ...klTokens(completions, logps, refLogps) };
  const total = rewardsWithKl(batch, { beta: 1, klEstimator: config.klEstimator }).reduce((sum, r) => sum - r, 0);
  return total / Math.max(1, batch.logps.length);
}

/** Standard deviation of the rewards of each group, for metrics; 0 in a group of one. */
export function groupStdOf(total: Float64Array, { numGenerations }: ResolvedGRPOConfig): Float32Array {
  return groupAdvantages(total, { numGenerations, scaleRewards: 'none', baseline: 'none', nonFinite: 'exclude' }).std;
}

/** Advantages of a rollout. `logps`, `refLogps`: of the policy that sampled and of the reference, for a KL in the reward. */
export function rolloutAdvantages(
  scored: ScoredRewards,
  completions: Completion[],
  context: AdvantageContext,
  logps: Float32Array[],
  refLogps?: Float32Array[],
): RolloutAdvantages {
  const { config, rewards } = context;
  const { numGenerations, multiObjectiveAggregation } = config;
  if (scored.steps.some((s) => s !== undefined)) return mixed(scored, completions, context);
  const rewardWeights = rewards.map((r) => r.weight);
  const { advantages, std } =
    multiObjectiveAggregation === 'normalize_then_sum'
      ? multiRewardAdvantages(scored.byFunction, { numGenerations, multiObjectiveAggregation, rewardWeights })
      : outcome(scored.total, context, completions, logps, refLogps);
  return { advantages, groupStd: std };
}
