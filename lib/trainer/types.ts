import type { CriticMetrics } from './critic.js';
import type { EvalMetrics } from './evaluate.js';

/** With several ranks: what the exchange of one optimizer step has cost rank 0. */
export interface RankMetrics {
  count: number;
  bytes: number;
  waiting: number;
  exchanging: number;
}

/** One line of metrics.jsonl, and what a GRPOTrainer step yields as `metrics`; docs/metrics.md explains each. Means are over the step's selected tokens or completions. */
export interface StepMetrics extends Partial<EvalMetrics>, Partial<CriticMetrics> {
  step: number;
  epoch: number;
  loss: number;
  /** Mean and (mean over groups of the) standard deviation of the weighted reward. */
  reward: number;
  rewardStd: number;
  /** Of the weighted rewards of single completions. */
  rewardQuantiles: { min: number; q25: number; median: number; q75: number; max: number };
  /** Per reward function. */
  rewards: Record<string, { mean: number; std: number }>;
  /** Completions that a failed reward function left without its reward, by function; absent when none failed (rewardErrors 'skip'). */
  rewardFailures?: Record<string, number>;
  /** Share of groups whose rewards are all equal: they teach nothing. */
  fracRewardZeroStd: number;
  /** KL to the reference by klEstimator, nats per token (with klInReward: of the rollout, when it was sampled); absent when beta is 0. */
  kl?: number;
  /** Nats per token. */
  entropy: number;
  clipRatio: { low: number; high: number; region: number };
  ratio: { min: number; mean: number; max: number };
  completionLength: { mean: number; min: number; max: number };
  /** Dynamic sampling: groups sampled for this rollout; those beyond the trained ones had equal rewards. */
  groupsSampled?: number;
  /** Steps of the run so far that were left out because something was not finite: this step's loss is then NaN (null in metrics.jsonl). */
  skippedSteps: number;
  /** Share of completions that hit maxCompletionLength. */
  truncated: number;
  learningRate: number;
  gradNorm: number;
  /** Prompt + completion tokens of this step. */
  tokens: number;
  tokensPerSecond: number;
  /** With several ranks: their number, and what the step's sums cost rank 0 (bytes handed over, seconds). */
  ranks?: RankMetrics;
  seconds: { generate: number; reward: number; score: number; train: number; optimizer: number; total: number };
  peakMemoryBytes: number;
}

export interface Sample {
  prompt: string;
  completion: string;
  reward: number;
  advantage: number;
  finishReason: 'stop' | 'length';
}

/** One prompt of a step and the weighted rewards of its completions (null: no function had anything to say): a line of samples.jsonl has a few. */
export interface RewardGroup {
  prompt: string;
  rewards: (number | null)[];
}

export interface GRPOStep {
  step: number;
  metrics: StepMetrics;
  samples: Sample[];
}
