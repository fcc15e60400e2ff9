// A rollout: prompts, their sampled completions, rewards and advantages; and what of it one optimizer step trains on.
import type { ChatMessage } from '../engine/chat.js';
import type { Policy } from '../engine/policy.js';
import { FusedGrpoError } from '../errors.js';
import { groupAdvantages } from '../ops/group_advantages.js';
import { multiRewardAdvantages } from '../ops/multi_reward_advantages.js';
import { rewardsWithKl } from '../ops/rewards_with_kl.js';
import type { GroupAdvantages } from '../ops/types.js';
import { permutation } from '../random.js';
import type { ResolvedGRPOConfig } from './config.js';
import type { Row } from './dataset.js';
import { scoreRewards, type NamedReward, type RewardInput, type ScoredRewards, type TrainerState } from './rewards.js';
import type { TrainBatch } from '../engine/training.js';

export interface Completion {
  text: string;
  tokens: Int32Array;
  logps: Float32Array;
  finishReason: 'stop' | 'length';
}

/** B = prompts x numGenerations completions; those of one prompt lie side by side. */
export interface Rollout {
  /** Number of rollouts drawn before this one: with the seed it decides every sample. */
  index: number;
  prompts: (string | ChatMessage[])[];
  promptTokens: Int32Array[];
  completions: Completion[];
  rewards: Float64Array;
  rewardsByFunction: Float64Array[];
  advantages: Float32Array;
  groupStd: Float32Array;
  oldLogps?: Float32Array[];
  refLogps?: Float32Array[];
  /** Optimizer steps already made on it. */
  used: number;
  seconds: { generate: number; reward: number; score: number };
}

const now = () => performance.now() / 1000;

export interface RolloutContext {
  policy: Policy;
  reference?: Policy;
  rewards: NamedReward[];
  config: ResolvedGRPOConfig;
  signal?: AbortSignal;
  /** Benchmarks: every completion gets its full length. */
  ignoreEos?: boolean;
}

function encodePrompts(context: RolloutContext, rows: Row[]): Int32Array[] {
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

/** What reward functions get; `completions`: numGenerations for each row. */
export function rewardInput(rows: Row[], completions: Completion[], numGenerations: number, trainerState: TrainerState): RewardInput {
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
  };
}

/** Rewards minus beta times the KL of what was sampled; a completion that no function has anything to say about keeps its NaN. */
function penalised(total: Float64Array, config: ResolvedGRPOConfig, logps: Float32Array[], refLogps: Float32Array[]): Float64Array {
  const offsets = new Int32Array(logps.length + 1);
  logps.forEach((l, i) => (offsets[i + 1] = offsets[i]! + l.length));
  const rewards = total.map((v) => (Number.isNaN(v) ? 0 : v));
  const batch = { rewards, logps: concatenate(logps, Float32Array), refLogps: concatenate(refLogps, Float32Array), offsets };
  return rewardsWithKl(batch, { beta: config.beta, klEstimator: config.klEstimator }).map((v, i) => (Number.isNaN(total[i]) ? NaN : v));
}

/** Advantages of a rollout. `logps`: of the policy that sampled. */
function advantagesOf(scored: ScoredRewards, context: RolloutContext, logps: Float32Array[], refLogps?: Float32Array[]): GroupAdvantages {
  const { config, rewards } = context;
  const { numGenerations, multiObjectiveAggregation } = config;
  if (multiObjectiveAggregation === 'normalize_then_sum')
    return multiRewardAdvantages(scored.byFunction, {
      numGenerations,
      multiObjectiveAggregation,
      rewardWeights: rewards.map((r) => r.weight),
    });
  const total = config.klInReward && refLogps ? penalised(scored.total, config, logps, refLogps) : scored.total;
  return groupAdvantages(total, { numGenerations, scaleRewards: config.scaleRewards, baseline: config.baseline, nonFinite: 'exclude' });
}

/** Samples, scores and normalises one rollout on `rows`. `keepOld`: old log-probs are needed (several steps per rollout). */
export async function drawRollout(
  context: RolloutContext,
  rows: Row[],
  index: number,
  keepOld: boolean,
  state: TrainerState,
): Promise<Rollout> {
  const { policy, reference, config, signal } = context;
  const promptTokens = encodePrompts(context, rows);
  let clock = now();
  const lap = () => -clock + (clock = now());
  const { completions } = await policy.generate(promptTokens, {
    numGenerations: config.numGenerations,
    maxNewTokens: config.maxCompletionLength,
    temperature: config.temperature,
    topK: config.topK,
    topP: config.topP,
    minP: config.minP,
    repetitionPenalty: config.repetitionPenalty,
    seed: config.seed,
    step: index,
    ignoreEos: context.ignoreEos,
    signal,
  });
  const seconds = { generate: lap(), reward: 0, score: 0 };
  const scored = await scoreRewards(context.rewards, rewardInput(rows, completions, config.numGenerations, state), {
    timeout: config.rewardTimeout,
    signal,
  });
  seconds.reward = lap();
  const expanded = completions.map((c) => promptTokens[c.promptIndex]!);
  const score = async (by: Policy) =>
    (
      await by.score(
        expanded,
        completions.map((c) => c.tokens),
        { temperature: config.temperature, signal },
      )
    ).logps;
  const oldLogps = !keepOld ? undefined : config.reuseSamplingLogps ? completions.map((c) => c.logps) : await score(policy);
  const refLogps = reference ? await score(reference) : undefined;
  seconds.score = lap();
  const group = advantagesOf(
    scored,
    context,
    config.klInReward && !oldLogps ? await score(policy) : (oldLogps ?? []), // by the reference's path: equal weights, no KL
    refLogps,
  );
  return {
    index,
    prompts: rows.map((row) => row.prompt as string | ChatMessage[]),
    promptTokens,
    completions: completions.map(({ text, tokens, logps, finishReason }) => ({ text, tokens, logps, finishReason })),
    rewards: scored.total,
    rewardsByFunction: scored.byFunction,
    advantages: group.advantages,
    groupStd: group.std,
    oldLogps,
    refLogps: config.klInReward ? undefined : refLogps,
    used: 0,
    seconds,
  };
}

/** Which completions the next optimizer step on this rollout trains on: shuffled parts of equal size, the same in every iteration. */
export function minibatch(rollout: Rollout, config: ResolvedGRPOConfig): Int32Array {
  const count = rollout.completions.length;
  const parts = count / config.stepCompletions;
  if (parts === 1) return Int32Array.from({ length: count }, (_, i) => i);
  const order = permutation(count, config.seed, rollout.index, 1);
  const part = rollout.used % parts;
  return order.slice(part * config.stepCompletions, (part + 1) * config.stepCompletions);
}

function concatenate<T extends Int32Array | Float32Array>(arrays: T[], make: new (n: number) => T): T {
  const all = new make(arrays.reduce((n, a) => n + a.length, 0));
  let at = 0;
  for (const array of arrays) {
    all.set(array, at);
    at += array.length;
  }
  return all;
}

/** Completion tokens of the chosen that carry a loss. */
export function trainedTokens(rollout: Rollout, chosen: Int32Array, config: Pick<ResolvedGRPOConfig, 'maskTruncatedCompletions'>): number {
  let tokens = 0;
  for (const i of chosen) {
    const completion = rollout.completions[i]!;
    if (!(config.maskTruncatedCompletions && completion.finishReason === 'length')) tokens += completion.tokens.length;
  }
  return tokens;
}

/** The chosen completions as the engine takes them. */
export function toBatch(
  rollout: Rollout,
  chosen: Int32Array,
  config: Pick<ResolvedGRPOConfig, 'numGenerations' | 'samplerImportanceSampling'>,
): TrainBatch {
  const { numGenerations } = config;
  const picks = [...chosen];
  const pairs = picks.map((i) => [rollout.promptTokens[Math.floor(i / numGenerations)]!, rollout.completions[i]!.tokens] as const);
  const offsets = new Int32Array(picks.length + 1);
  pairs.forEach(([prompt, completion], k) => (offsets[k + 1] = offsets[k]! + prompt.length + completion.length));
  const pick = (logps?: Float32Array[]) =>
    logps &&
    concatenate(
      picks.map((i) => logps[i]!),
      Float32Array,
    );
  return {
    tokens: concatenate(pairs.flat(), Int32Array),
    offsets,
    promptLengths: Int32Array.from(pairs, ([prompt]) => prompt.length),
    advantages: Float32Array.from(picks, (i) => rollout.advantages[i]!),
    truncated: Uint8Array.from(picks, (i) => (rollout.completions[i]!.finishReason === 'length' ? 1 : 0)),
    oldLogps: pick(rollout.oldLogps),
    refLogps: pick(rollout.refLogps),
    samplerLogps: config.samplerImportanceSampling && pick(rollout.completions.map((c) => c.logps)),
  };
}

/** A rollout as JSON (float32 values survive exactly) and back. */
export function encodeRollout(rollout: Rollout): unknown {
  return JSON.parse(
    JSON.stringify(rollout, (_key, value: unknown) =>
      ArrayBuffer.isView(value) ? Array.from(value as Float32Array, (v) => (Number.isNaN(v) ? null : v)) : value,
    ),
  );
}

export function decodeRollout(json: unknown): Rollout {
  const plain = json as { [K in keyof Rollout]: unknown } & { completions: { tokens: number[]; logps: number[] }[] };
  const doubles = (values: unknown) => Float64Array.from(values as (number | null)[], (v) => v ?? NaN);
  const floats = (values: unknown) => (values as number[][] | undefined)?.map((v) => Float32Array.from(v));
  return {
    ...(plain as unknown as Rollout),
    promptTokens: (plain.promptTokens as number[][]).map((t) => Int32Array.from(t)),
    completions: plain.completions.map((c) => ({
      ...(c as unknown as Completion),
      tokens: Int32Array.from(c.tokens),
      logps: Float32Array.from(c.logps),
    })),
    rewards: doubles(plain.rewards),
    rewardsByFunction: (plain.rewardsByFunction as unknown[]).map(doubles),
    advantages: Float32Array.from(plain.advantages as number[]),
    groupStd: Float32Array.from(plain.groupStd as number[]),
    oldLogps: floats(plain.oldLogps),
    refLogps: floats(plain.refLogps),
  };
}
