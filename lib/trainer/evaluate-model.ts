// Evaluation without training: a model's folder on a data set, by the code that evaluates during training.
import { Policy } from '../engine/policy.js';
import { FusedGrpoError } from '../errors.js';
import type { ColumnMapping } from '../data/columns.js';
import { grpoConfigOptions, resolveGRPOConfig, type GRPOConfig } from './config.js';
import { openDataset, type Dataset, type Row } from './dataset.js';
import { evaluatePolicy, type EvalMetrics } from './evaluate.js';
import type { RewardFuncs } from './reward-types.js';
import { nameRewards } from './rewards.js';
import { checkPromptRow } from './rows.js';

/** The options of GRPOConfig that say how completions are drawn and scored. */
export const EVAL_OPTIONS = [
  ...['maxCompletionLength', 'temperature', 'topK', 'topP', 'minP', 'repetitionPenalty', 'seed'],
  ...['rewardWeights', 'rewardTimeout', 'rewardConcurrency', 'rewardRetries', 'rewardRetryDelay', 'rewardErrors', 'evalPassThreshold'],
] as const satisfies readonly (keyof typeof grpoConfigOptions)[];

export interface EvaluateModelOptions {
  /** A folder, a run's folder, or the id of a model of the hub. */
  model: string;
  rewardFuncs: RewardFuncs;
  /** Rows { prompt, ...columns for the reward }. */
  dataset: Dataset;
  columnMapping?: ColumnMapping;
  /** Options named in EVAL_OPTIONS. maxCompletionLength: 256, or what the longest prompt leaves of the context. */
  config?: GRPOConfig;
  /** Samples a row, the K of pass@K; 0: the greedy completion alone. Default 8. */
  numGenerations?: number;
  /** Rows at most, from the first. Default: all. */
  limit?: number;
  /** Completions sampled at a time; changes no result. Default 128. */
  batchSize?: number;
  device?: 'auto' | 'cpu' | 'cuda';
  dtype?: 'auto' | 'float32' | 'bfloat16';
  signal?: AbortSignal;
  onRows?: (done: number, total: number, means: Pick<EvalMetrics, 'evalPassGreedy' | 'evalPassAt1'>) => void;
}

/** What an evaluation found, and with what. */
export interface Evaluation extends EvalMetrics {
  rows: number;
  maxCompletionLength: number;
}

async function readRows({ dataset, columnMapping, limit }: EvaluateModelOptions): Promise<Row[]> {
  const source = await openDataset(dataset, { seed: null, lazy: false, check: checkPromptRow, name: 'dataset', columnMapping });
  return source.take(Math.min(limit ?? Infinity, source.length!));
}

/** As many tokens as every prompt leaves, up to 256. */
function roomFor(policy: Policy, rows: Row[]): number {
  const longest = rows.reduce((most, row) => Math.max(most, policy.encode(row.prompt as string).length), 0);
  if (longest >= policy.contextLength)
    throw new FusedGrpoError('ERR_CONTEXT_LENGTH', `A prompt has ${longest} tokens; the model's context is ${policy.contextLength}`);
  return Math.min(256, policy.contextLength - longest);
}

/**
 * pass@1, pass@K and mean rewards of a model on a data set: what a trainer with the same seed and options says of the same weights.
 * @throws TypeError, RangeError for options; FusedGrpoError with a code for data, model and reward failures; the signal's reason.
 */
export async function evaluateModel(options: EvaluateModelOptions): Promise<Evaluation> {
  const { numGenerations = 8, batchSize = 128, signal } = options;
  const given = resolveGRPOConfig(options.config ?? {});
  const rewards = nameRewards(options.rewardFuncs, given.rewardWeights); // what is wrong with them costs no loading
  const rows = await readRows(options);
  const policy = await Policy.load(options.model, { device: options.device ?? 'auto', dtype: options.dtype ?? 'auto', signal });
  try {
    const maxCompletionLength = options.config?.maxCompletionLength ?? roomFor(policy, rows);
    const config = { ...given, maxCompletionLength, evalNumGenerations: numGenerations, rolloutCompletions: batchSize };
    const state = { step: 0, totalSteps: 0, epoch: 0 };
    const metrics = await evaluatePolicy(rows, { policy, rewards, policyVersion: 0, config, signal }, state, (done, means) =>
      options.onRows?.(done, rows.length, means),
    );
    return { ...metrics, rows: rows.length, maxCompletionLength };
  } finally {
    policy.dispose();
  }
}
