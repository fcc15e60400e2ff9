// A rollout that several ranks make together: each samples, rewards and scores its part, and all get the whole.
import type { Ranks } from '../distributed/ranks.js';
import { shareOf, startOf } from '../distributed/share.js';
import type { Row } from './dataset.js';
import type { AnyRewardInput } from './reward-types.js';
import { memoryOf, scoreRewards, setMemory, type NamedReward, type ScoredRewards, type ScoreOptions } from './rewards.js';
import type { Completion } from './rollout.js';
import { sampleCompletions, type SampleContext, type SampleRequest } from './sampler.js';

/** `work` on this rank's part [from, to) of `count` things; the results of all, in the order of the things. */
export async function divided<T>(ranks: Ranks, count: number, work: (from: number, to: number) => Promise<T[]>): Promise<T[]> {
  const [from, to] = [startOf(count, ranks.rank, ranks.worldSize), startOf(count, ranks.rank + 1, ranks.worldSize)];
  return (await ranks.gather(to > from ? await work(from, to) : [])).flat();
}

/** numGenerations completions of each row; each rank samples for its rows. */
export function sampleJointly(ranks: Ranks, context: SampleContext, request: SampleRequest): Promise<Completion[]> {
  if (ranks.worldSize === 1) return sampleCompletions(context, request);
  return divided(ranks, request.rows.length, (from, to) =>
    sampleCompletions(context, {
      ...request,
      rows: request.rows.slice(from, to),
      promptTokens: request.promptTokens.slice(from, to),
      promptOffset: request.promptOffset + from,
    }),
  );
}

/** The parts' rewards, one behind the other. */
function joined(parts: ScoredRewards[]): ScoredRewards {
  const doubles = (of: (s: ScoredRewards) => Float64Array) => Float64Array.from(parts.flatMap((p) => [...of(p)]));
  const functions = parts[0]!.byFunction.map((_, k) => k);
  return {
    failed: [...new Set(parts.flatMap((p) => p.failed))],
    total: doubles((s) => s.total),
    outcome: doubles((s) => s.outcome),
    byFunction: functions.map((k) => doubles((s) => s.byFunction[k]!)),
    steps: functions.map((k) => {
      if (parts.every((p) => p.steps[k] === undefined)) return undefined;
      return parts.flatMap((p) => p.steps[k] ?? Array.from(p.total, () => undefined));
    }),
  };
}

export interface RewardContext {
  rewards: NamedReward[];
  options: ScoreOptions;
  /** Rank 0 rewards everything. */
  onFirst: boolean;
}

/**
 * Rewards of the completions, `per` of each row. Each rank's functions see its own rows' completions, or rank 0's see all: where that was
 * asked for, and where functions remember what they have seen.
 */
export async function rewardJointly(
  ranks: Ranks,
  context: RewardContext,
  rows: Row[],
  completions: Completion[],
  per: number,
  inputOf: (rows: Row[], completions: Completion[]) => AnyRewardInput,
): Promise<ScoredRewards> {
  const { rewards, options } = context;
  const score = (some: Row[], theirs: Completion[]) => scoreRewards(rewards, inputOf(some, theirs), options);
  if (ranks.worldSize === 1) return score(rows, completions);
  const remembered = memoryOf(rewards)?.some((state) => state !== undefined) ?? false;
  if (context.onFirst || remembered) {
    const mine = ranks.rank === 0 ? { scored: await score(rows, completions), memory: memoryOf(rewards) } : undefined;
    const { scored, memory } = (await ranks.fromFirst(mine))!;
    setMemory(rewards, memory);
    return scored;
  }
  const from = startOf(rows.length, ranks.rank, ranks.worldSize);
  const own = shareOf(rows, ranks);
  const scored = own.length ? await score(own, completions.slice(from * per, (from + own.length) * per)) : undefined;
  const parts = await ranks.gather(scored);
  return joined(parts.filter((p) => p !== undefined));
}
