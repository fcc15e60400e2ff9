// Evaluation: greedy and sampled completions of every row of a data set, scored by the run's reward functions.
import type { Row } from './dataset.js';
import type { TrainerState } from './reward-types.js';
import { scoreOptions, type NamedReward } from './rewards.js';
import { alone, type Ranks } from '../distributed/ranks.js';
import { rewardJointly, sampleJointly } from './jointly.js';
import { encodePrompts, rewardInput, type Completion } from './rollout.js';
import type { SampleContext } from './sampler.js';

/** Of one evaluation; part of its step's metrics. Means over the rows of evalDataset. */
export interface EvalMetrics {
  /** Mean reward of sampled completions (evalNumGenerations a row, at `temperature`). */
  evalReward: number;
  /** Mean reward of the greedy completion. */
  evalRewardGreedy: number;
  /** Share of greedy completions whose reward is at least evalPassThreshold. */
  evalPassGreedy: number;
  /** pass@1: share of sampled completions that pass. */
  evalPassAt1: number;
  /** pass@K, K = evalNumGenerations: share of rows of which at least one of K samples passes. */
  evalPassAtK: number;
  /** K of pass@K. */
  evalK: number;
  /** Wall-clock seconds of the evaluation. */
  evalSeconds: number;
}

export const EVAL_METRICS = ['evalReward', 'evalRewardGreedy', 'evalPassGreedy', 'evalPassAt1', 'evalPassAtK'] as const;

export interface EvalContext extends SampleContext {
  rewards: NamedReward[];
  /** Who evaluates together; default: this process alone. */
  ranks?: Ranks;
  /** Optimizer steps that the policy has seen. */
  policyVersion: number;
}

const EVAL_SEED = 0x5eed; // evaluations draw the same numbers every time, and none that training draws

/** Rewards of `count` completions of each row, rows in order; greedy: one each, the likeliest token every time. */
async function rewardsOf(
  rows: Row[],
  from: number,
  count: number,
  greedy: boolean,
  context: EvalContext,
  state: TrainerState,
): Promise<Float64Array> {
  const { config, rewards, signal, policyVersion } = context;
  const { ranks = alone } = context;
  const completions = await sampleJointly(ranks, context, {
    ...{ purpose: 'eval', greedy, rows, promptTokens: encodePrompts(context, rows), numGenerations: count },
    ...{ seed: config.seed + EVAL_SEED, index: 0, promptOffset: from, state, policyVersion },
  });
  const rewarding = { rewards, options: scoreOptions(config, signal), onFirst: config.gatherRewards };
  const inputOf = (some: Row[], theirs: Completion[]) => rewardInput(some, theirs, count, state);
  return (await rewardJointly(ranks, rewarding, rows, completions, count, inputOf)).total;
}

/** Sums over the rows of a part. A completion that no reward function has anything to say about counts as 0 and as not passed. */
function tally(sums: Record<string, number>, greedy: Float64Array, sampled: Float64Array, k: number, threshold: number): void {
  const add = (key: string, value: number) => (sums[key] = (sums[key] ?? 0) + value);
  greedy.forEach((reward, i) => {
    const group = sampled.subarray(i * k, (i + 1) * k);
    const passed = group.filter((r) => r >= threshold).length;
    add('rows', 1);
    add('evalRewardGreedy', reward || 0);
    add('evalPassGreedy', reward >= threshold ? 1 : 0);
    add('evalReward', group.reduce((a, b) => a + (b || 0), 0) / k);
    add('evalPassAt1', passed / k);
    add('evalPassAtK', k === 0 ? NaN : passed > 0 ? 1 : 0);
  });
}

/**
 * Evaluates the policy as it is. Reproducible: a row's samples depend on the seed and the row alone. `onRows` is told how many rows are
 * done, and the means over them. With evalNumGenerations 0 (of `eval`, not an option of training) nothing is sampled: those means are NaN.
 */
export async function evaluatePolicy(
  rows: Row[],
  context: EvalContext,
  state: TrainerState,
  onRows?: (done: number, means: Omit<EvalMetrics, 'evalK' | 'evalSeconds'>) => void,
): Promise<EvalMetrics> {
  const begin = performance.now();
  const { evalNumGenerations: k, evalPassThreshold, rolloutCompletions } = context.config;
  const part = Math.max(1, Math.floor(rolloutCompletions / Math.max(1, k)));
  const sums: Record<string, number> = {};
  const means = () =>
    Object.fromEntries(EVAL_METRICS.map((name) => [name, sums[name]! / sums.rows!])) as unknown as Omit<
      EvalMetrics,
      'evalK' | 'evalSeconds'
    >;
  for (let at = 0; at < rows.length; at += part) {
    const some = rows.slice(at, at + part);
    const greedy = await rewardsOf(some, at, 1, true, context, state);
    const sampled = k > 0 ? await rewardsOf(some, at, k, false, context, state) : new Float64Array();
    tally(sums, greedy, sampled, k, evalPassThreshold);
    onRows?.(at + some.length, means());
  }
  return { ...means(), evalK: k, evalSeconds: (performance.now() - begin) / 1000 };
}
