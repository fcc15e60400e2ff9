// Calling reward functions: user code, so everything it can do wrong is told in plain words.
import { createHash } from 'node:crypto';
import { FusedGrpoError, invalidType } from '../errors.js';
import { CallFailed, callWithRetries, mapLimited, type CallOptions } from './calls.js';
import { ours } from '../realm.js';
import { ModelReward, RewardModel } from '../reward/reward-model.js';
import type { ResolvedGRPOConfig } from './config.js';
import { checkSteps, isStepRewards, meanStepReward, type StepRewards } from './process-rewards.js';
import type { AnyRewardFn, AnyRewardInput } from './reward-types.js';

export interface NamedReward {
  name: string;
  fn: (input: AnyRewardInput, signal?: AbortSignal) => ReturnType<AnyRewardFn>;
  weight: number;
  /** A digest of its source; several ranks must have the same. */
  code: string;
  /** Set where a checkpoint must hold something of it. */
  memory?: { state: unknown };
}

/** What the functions remember, in their order; undefined where none does. */
export const memoryOf = (rewards: NamedReward[]): unknown[] | undefined =>
  rewards.some((r) => r.memory) ? rewards.map((r) => r.memory?.state) : undefined;

export const setMemory = (rewards: NamedReward[], state: unknown[] | undefined): void =>
  rewards.forEach(({ memory }, i) => memory && (memory.state = state?.[i]));

/** A name, unless it was given out before: then with a number. */
function uniqueName(base: string, used: Map<string, number>): string {
  const seen = used.get(base) ?? 0;
  used.set(base, seen + 1);
  return seen ? `${base}_${seen + 1}` : base;
}

function ofModel(model: RewardModel): Pick<NamedReward, 'fn' | 'memory'> {
  const memory = new ModelReward(model);
  return { fn: (input, signal) => memory.score(input, signal), memory };
}

/** Gives each function (or reward model) a name (its own, else rewardK) and a weight. */
export function nameRewards(rewardFuncs: unknown, weights?: number[]): NamedReward[] {
  const list: unknown[] = Array.isArray(rewardFuncs) ? rewardFuncs : [rewardFuncs];
  if (list.length === 0) throw invalidType('rewardFuncs', 'at least one reward function', rewardFuncs);
  if (weights && weights.length !== list.length)
    throw invalidType('rewardWeights', `${list.length} numbers, one per reward function,`, weights);
  const used = new Map<string, number>();
  return list.map((fn, i) => {
    const weight = weights?.[i] ?? 1;
    if (fn instanceof RewardModel) return { name: uniqueName(fn.name, used), ...ofModel(fn), weight, code: `a reward model (${fn.path})` };
    if (typeof fn !== 'function')
      throw invalidType(Array.isArray(rewardFuncs) ? `rewardFuncs[${i}]` : 'rewardFuncs', 'a function or a RewardModel', fn);
    const call = fn as AnyRewardFn;
    return { name: uniqueName(call.name || `reward${i}`, used), fn: (input) => call(input), weight, code: digestOf(String(call)) };
  });
}

const digestOf = (text: string) => createHash('sha256').update(text).digest('hex').slice(0, 16);

interface Checked {
  values: Float64Array;
  steps?: (StepRewards | undefined)[];
}

function checkValues(name: string, values: unknown, count: number): Checked {
  const list = values as ArrayLike<unknown>;
  if (values === null || typeof values !== 'object' || typeof list.length !== 'number')
    throw new FusedGrpoError(
      'ERR_REWARD',
      `Reward function '${name}' must return an array of ${count} numbers, one per completion; it returned ${values === null ? 'null' : typeof values}`,
    );
  if (list.length !== count)
    throw new FusedGrpoError('ERR_REWARD', `Reward function '${name}' returned ${list.length} values for ${count} completions`);
  const checked = new Float64Array(count);
  const steps: (StepRewards | undefined)[] = [];
  for (let i = 0; i < count; ++i) {
    const value = list[i];
    if (value === null || value === undefined)
      checked[i] = NaN; // nothing to say
    else if (isStepRewards(value)) {
      checkSteps(name, i, value);
      steps[i] = value;
      checked[i] = meanStepReward(value);
    } else if (typeof value !== 'number' && typeof value !== 'boolean')
      throw new FusedGrpoError(
        'ERR_REWARD',
        `Reward function '${name}' returned a ${typeof value} for completion ${i}; a finite number is needed`,
      );
    else if (!Number.isFinite(Number(value)))
      throw new FusedGrpoError('ERR_REWARD', `Reward function '${name}' returned ${value} for completion ${i}; a finite number is needed`);
    else checked[i] = Number(value);
  }
  if (steps.length === 0) return { values: checked };
  const other = checked.findIndex((v, i) => !steps[i] && !Number.isNaN(v));
  if (other >= 0)
    throw new FusedGrpoError(
      'ERR_REWARD',
      `Reward function '${name}' returned steps for some completions and a number for completion ${other}`,
    );
  return { values: checked, steps: Array.from({ length: count }, (_, i) => steps[i]) };
}

export interface ScoredRewards {
  /** (B) weighted sum over the functions; NaN where no function had anything to say. */
  total: Float64Array;
  /** Per function (B); NaN: nothing to say. Of steps, their mean. */
  byFunction: Float64Array[];
  /** Per function: undefined when it judges whole completions, else each completion's steps. */
  steps: ((StepRewards | undefined)[] | undefined)[];
  /** (B) weighted sum over the functions that judge whole completions. */
  outcome: Float64Array;
  /** Names of the functions that failed and were passed over (errors: 'skip'). */
  failed: string[];
}

export interface ScoreOptions extends CallOptions {
  /** Functions in flight at once; default: all. */
  concurrency?: number;
  /** 'skip': a function that failed has nothing to say about these completions. */
  errors?: 'throw' | 'skip';
}

/** How a run's reward functions are called. */
export const scoreOptions = (
  config: Pick<ResolvedGRPOConfig, 'rewardTimeout' | 'rewardConcurrency' | 'rewardRetries' | 'rewardRetryDelay' | 'rewardErrors'>,
  signal?: AbortSignal,
): ScoreOptions => ({
  timeout: config.rewardTimeout,
  timeoutName: 'rewardTimeout',
  concurrency: config.rewardConcurrency,
  retries: config.rewardRetries,
  retryDelay: config.rewardRetryDelay,
  errors: config.rewardErrors,
  signal,
});

/** A value that a function may change without another, or the rollout, noticing. What cannot be copied (a function) is shared. */
function cloned<T>(value: T): T {
  if (value === null || typeof value !== 'object') return value;
  try {
    return ours(structuredClone(value));
  } catch {
    return value;
  }
}

/** Each reward function gets its own: user code may sort, reverse or overwrite what it is given. */
const copyOf = (input: AnyRewardInput): AnyRewardInput =>
  Object.fromEntries(
    Object.entries(input).map(([name, value]) => [name, Array.isArray(value) ? value.map(cloned) : cloned(value)]),
  ) as AnyRewardInput;

/** Runs all reward functions (concurrently where they are async) and sums them with their weights. */
export async function scoreRewards(rewards: NamedReward[], input: AnyRewardInput, options: ScoreOptions): Promise<ScoredRewards> {
  const count = input.completions.length;
  const failed: string[] = [];
  const checked = await mapLimited<NamedReward, Checked>(
    rewards,
    options.concurrency ?? Infinity,
    options.signal,
    async ({ name, fn }, signal) => {
      let values: unknown;
      try {
        values = await callWithRetries(`Reward function '${name}'`, (own) => fn({ ...copyOf(input), signal: own }, own), {
          ...options,
          signal,
        });
      } catch (error) {
        if (options.errors !== 'skip' || !(error instanceof CallFailed)) throw error;
        failed.push(name);
        const consequence = "it has nothing to say about this step's completions (rewardErrors 'skip')";
        process.emitWarning(`${error.message}; ${consequence}`, 'FusedGrpoWarning');
        return { values: new Float64Array(count).fill(NaN) };
      }
      return checkValues(name, values, count);
    },
  );
  const byFunction = checked.map((c) => c.values);
  const steps = checked.map((c) => c.steps);
  const all = rewards.map((_, k) => k);
  const outcome = all.filter((k) => !steps[k]);
  return {
    total: weighted(rewards, byFunction, all, count),
    byFunction,
    steps,
    outcome: weighted(rewards, byFunction, outcome, count),
    failed,
  };
}

const told = new WeakSet<NamedReward[]>();

/** Says once a run that a completion got no reward at all (TRL says so, too): it teaches nothing, and often a column is not what a function expects. */
export function warnOfSilence(rewards: NamedReward[], { total, failed }: ScoredRewards, promptOf: (i: number) => unknown): void {
  const without = total.findIndex(Number.isNaN);
  if (without < 0 || failed.length > 0 || told.has(rewards)) return;
  told.add(rewards);
  const who = rewards.length === 1 ? `Reward function '${rewards[0]!.name}'` : 'No reward function';
  const verb = rewards.length === 1 ? 'had nothing (null) to say' : 'had anything to say (all returned null)';
  const prompt = JSON.stringify(promptOf(without)).slice(0, 80);
  const silent = total.filter(Number.isNaN).length;
  process.emitWarning(
    `${who} ${verb} about ${silent} of ${total.length} completions (the first prompt: ${prompt}): they teach nothing. This is said once`,
    'FusedGrpoWarning',
  );
}

/** The sum over functions `of`; NaN where none of them had anything to say. */
function weighted(rewards: NamedReward[], byFunction: Float64Array[], of: number[], count: number): Float64Array {
  return Float64Array.from({ length: count }, (_, i) => {
    const said = of.filter((k) => !Number.isNaN(byFunction[k]![i]));
    return said.length === 0 ? NaN : said.reduce((sum, k) => sum + rewards[k]!.weight * byFunction[k]![i]!, 0);
  });
}
