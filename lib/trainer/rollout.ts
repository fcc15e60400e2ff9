// A rollout: prompts, their sampled completions, rewards and advantages.
import type { ChatMessage } from '../engine/chat.js';
import type { RolloutReport } from '../rollouts/stats.js';
import type { Policy } from '../engine/policy.js';
import { FusedGrpoError } from '../errors.js';
import { alone, type Ranks } from '../distributed/ranks.js';
import { divided, rewardJointly, sampleJointly } from './jointly.js';
import type { Critic } from './critic.js';
import { groupStdOf, rolloutAdvantages, sampledKl, type RolloutAdvantages } from './advantages.js';
import type { Row } from './dataset.js';
import { samplerCorrection } from './loss.js';
import type { SamplerImportanceSampling } from '../ops/types.js';
import { type SampleContext } from './sampler.js';
import type { AnyRewardInput, TrainerState } from './reward-types.js';
import { scoreOptions, warnOfSilence, type NamedReward, type ScoredRewards } from './rewards.js';

export interface Completion {
  text: string;
  tokens: Int32Array;
  /** By what sampled it; absent where it does not say. */
  logps?: Float32Array;
  finishReason: 'stop' | 'length';
  /** 0: a token that is not the policy's own and carries no loss. Absent: all are. */
  mask?: Uint8Array;
  /** Optimizer steps that the weights which sampled it had seen, where that is not the rollout's. */
  policyVersion?: number;
  /** Of a rollout function, for the reward functions. */
  columns?: Record<string, unknown>;
}

/** B = prompts x numGenerations completions; those of one prompt lie side by side. */
export interface Rollout extends RolloutAdvantages {
  /** Number of rollouts drawn before this one: with the seed it decides every sample. */
  index: number;
  prompts: (string | ChatMessage[])[];
  promptTokens: Int32Array[];
  completions: Completion[];
  rewards: Float64Array;
  rewardsByFunction: Float64Array[];
  /** Reward functions that failed and were passed over (rewardErrors 'skip'). */
  rewardsFailed?: string[];
  /** Of what sampled it, when that is corrected for. */
  correction?: SamplerImportanceSampling;
  oldLogps?: Float32Array[];
  refLogps?: Float32Array[];
  /** With the KL in the reward: its mean per token, nats. */
  kl?: number;
  /** Where in the data set its rows ended. */
  epoch?: number;
  /** Groups sampled for it, with dynamic sampling. */
  groupsSampled?: number;
  /** PPO: what the critic thought, and what it is taught; per completion, one per token. */
  values?: Float32Array[];
  returns?: Float32Array[];
  /** Optimizer steps that the policy which it was drawn for had seen. */
  policyVersion?: number;
  /** Of the servers that sampled it. */
  report?: RolloutReport;
  /** Optimizer steps already made on it. */
  used: number;
  seconds: { generate: number; reward: number; score: number };
}

const now = () => performance.now() / 1000;

/** What log-probs are asked of. */
export type Scorer = Pick<Policy, 'score'>;

/** The base model of a policy with an adapter: the same weights, no second copy. Calls of one policy run one after the other. */
export const withoutAdapter = (policy: Policy): Scorer => ({
  score: (prompts, completions, options) => policy.score(prompts, completions, { ...options, adapter: false }),
});

export interface RolloutContext extends SampleContext {
  reference?: Scorer;
  rewards: NamedReward[];
  /** Who makes it together; default: this process alone. */
  ranks?: Ranks;
  /** PPO: advantages are its. */
  critic?: Critic;
}

export function encodePrompts(context: Pick<RolloutContext, 'policy' | 'config'>, rows: Row[]): Int32Array[] {
  const { policy, config } = context;
  const limit = Math.min(config.maxPromptLength ?? Infinity, policy.contextLength - config.maxCompletionLength);
  return rows.map((row, i) => {
    const tokens = policy.encode(row.prompt as string | ChatMessage[]);
    if (tokens.length === 0) throw new FusedGrpoError('ERR_DATA', `Prompt ${i} of the step is empty`);
    if (tokens.length > limit)
      throw new FusedGrpoError(
        'ERR_CONTEXT_LENGTH',
        `A prompt of ${tokens.length} tokens does not fit: ${config.maxPromptLength !== undefined && config.maxPromptLength === limit ? `maxPromptLength is ${limit}` : `the context of ${policy.contextLength} leaves ${limit} beside maxCompletionLength ${config.maxCompletionLength}`}. It begins ${JSON.stringify(String(typeof row.prompt === 'string' ? row.prompt : JSON.stringify(row.prompt)).slice(0, 80))}`,
      );
    return tokens;
  });
}

/** What reward functions receive for the completions of `rows`, numGenerations of each row side by side. */
export function rewardInput(rows: Row[], completions: Completion[], numGenerations: number, trainerState: TrainerState): AnyRewardInput {
  const repeat = <T>(values: T[]) => values.flatMap((v) => Array.from({ length: numGenerations }, () => v));
  const columns = new Set(rows.flatMap((row) => Object.keys(row)));
  columns.delete('prompt');
  const prompts = repeat(rows.map((row) => row.prompt as string | ChatMessage[]));
  return {
    ...Object.fromEntries([...columns].map((name) => [name, repeat(rows.map((row) => row[name]))])),
    prompts,
    completions: completions.map((c, i) => (typeof prompts[i] === 'string' ? c.text : [{ role: 'assistant', content: c.text }])),
    completionTokens: completions.map((c) => c.tokens),
    trainerState,
    ...ownColumns(completions, [...columns, 'prompt']),
  };
}

const INPUT_NAMES = ['prompts', 'completions', 'completionTokens', 'trainerState', 'signal'];

/** What a rollout function adds to its completions. */
function ownColumns(completions: Completion[], taken: string[]): Record<string, unknown[]> {
  const names = [...new Set(completions.flatMap((c) => Object.keys(c.columns ?? {})))];
  const clash = names.find((name) => taken.includes(name) || INPUT_NAMES.includes(name));
  if (clash !== undefined)
    throw new FusedGrpoError(
      'ERR_ROLLOUT',
      `The rollout function returned a column '${clash}', which reward functions get already: give it another name`,
    );
  return Object.fromEntries(names.map((name) => [name, completions.map((c) => c.columns?.[name] ?? null)]));
}

/** Groups that have been sampled and rewarded, those of one prompt side by side. */
export interface SampledGroups {
  rows: Row[];
  promptTokens: Int32Array[];
  completions: Completion[];
  scored: ScoredRewards;
  seconds: { generate: number; reward: number };
}

/** Where in a run a rollout is drawn. */
export interface Place {
  /** Of the rollout. */
  index: number;
  state: TrainerState;
  /** Optimizer steps that the policy which samples has seen. */
  policyVersion: number;
}

/** Samples a group for each row and calls the reward functions. `promptOffset`: how many prompts of this rollout came before. */
export async function sampleGroups(context: RolloutContext, rows: Row[], place: Place, promptOffset: number): Promise<SampledGroups> {
  const { config, signal } = context;
  const { index, state, policyVersion } = place;
  const promptTokens = encodePrompts(context, rows);
  const begin = now();
  const ranks = context.ranks ?? alone;
  const completions = await sampleJointly(ranks, context, {
    ...{ purpose: 'train', greedy: false, rows, promptTokens, index, promptOffset, state, policyVersion },
    ...{ numGenerations: config.numGenerations, seed: config.seed },
  });
  const middle = now();
  const { numGenerations, gatherRewards: onFirst } = config;
  const rewarding = { rewards: context.rewards, options: scoreOptions(config, signal), onFirst };
  const scored = await rewardJointly(ranks, rewarding, rows, completions, numGenerations, (some, theirs) =>
    rewardInput(some, theirs, numGenerations, state),
  );
  if (ranks.rank === 0) warnOfSilence(context.rewards, scored, (i) => rows[Math.floor(i / numGenerations)]!.prompt);
  const seconds = { generate: middle - begin, reward: now() - middle };
  const kept = completions.map(({ columns: _, ...completion }) => completion); // the reward functions have had them
  return { rows, promptTokens, completions: kept, scored, seconds };
}

/** Log-probs that training needs, and advantages. `keepOld`: old log-probs are needed (several steps per rollout, or a stale sampler). */
export async function finishRollout(context: RolloutContext, groups: SampledGroups, index: number, keepOld: boolean): Promise<Rollout> {
  const { policy, reference, config, critic, signal } = context;
  const { rows, promptTokens, completions, scored } = groups;
  const begin = now();
  const expanded = completions.map((_, i) => promptTokens[Math.floor(i / config.numGenerations)]!);
  const tokens = completions.map((c) => c.tokens);
  const { ranks = alone } = context;
  const score = (by: Scorer) =>
    divided(ranks, tokens.length, async (from, to) => {
      const options = { temperature: config.temperature, signal };
      return (await by.score(expanded.slice(from, to), tokens.slice(from, to), options)).logps;
    });
  const oldLogps = !keepOld ? undefined : config.reuseSamplingLogps ? completions.map((c) => c.logps!) : await score(policy);
  const refLogps = reference ? await score(reference) : undefined;
  // For a KL in the reward by the reference's path: equal weights, no KL.
  const logps = config.klInReward && !oldLogps ? await score(policy) : (oldLogps ?? []);
  const seconds = { ...groups.seconds, score: now() - begin };
  return {
    index,
    prompts: rows.map((row) => row.prompt as string | ChatMessage[]),
    promptTokens,
    completions,
    rewards: scored.total,
    rewardsByFunction: scored.byFunction,
    ...(scored.failed.length ? { rewardsFailed: scored.failed } : {}),
    ...(critic
      ? {
          ...(await critic.judge(expanded, completions, scored, context.rewards, policy, logps, refLogps, ranks)),
          groupStd: groupStdOf(scored.total, config),
        }
      : rolloutAdvantages(scored, completions, context, logps, refLogps)),
    correction: samplerCorrection(
      config,
      context.external !== undefined,
      completions.every((c) => c.logps),
    ),
    oldLogps,
    refLogps: config.klInReward ? undefined : refLogps,
    ...(config.klInReward && refLogps ? { kl: sampledKl(config, completions, logps, refLogps) } : {}),
    used: 0,
    seconds,
  };
}

/** Samples, scores and normalises one rollout on `rows`. */
export async function drawRollout(
  context: RolloutContext,
  rows: Row[],
  index: number,
  keepOld: boolean,
  state: TrainerState,
): Promise<Rollout> {
  return finishRollout(context, await sampleGroups(context, rows, { index, state, policyVersion: index }, 0), index, keepOld);
}
