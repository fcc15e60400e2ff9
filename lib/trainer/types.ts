import type { CriticMetrics } from './critic.js';
import type { EvalMetrics } from './evaluate.js';

/** With several ranks: what the exchange of one optimizer step has cost rank 0. */
export interface RankMetrics {
  /** Processes that train together. */
  count: number;
  /** Handed over to the others. */
  bytes: number;
  /** Seconds until the last of them came. */
  waiting: number;
  /** Seconds of exchange that backward did not hide. */
  exchanging: number;
}

/** One line of metrics.jsonl, and what a GRPOTrainer step yields as `metrics`; docs/metrics.md explains each. Means are over the step's selected tokens or completions. */
export interface StepMetrics extends Partial<EvalMetrics>, Partial<CriticMetrics> {
  /** The step, from 1. */
  step: number;
  /** Passes over the data set so far, a fraction. */
  epoch: number;
  /** The step's loss, as the lossType forms it. */
  loss: number;
  /** Mean and (mean over groups of the) standard deviation of the weighted reward. */
  reward: number;
  /** See `reward`. */
  rewardStd: number;
  /** Of the weighted rewards of single completions. */
  rewardQuantiles: { min: number; q25: number; median: number; q75: number; max: number };
  /** Per reward function; without those that had nothing to say about any completion. */
  rewards: Record<string, { mean: number; std: number }>;
  /** Completions that a failed reward function left without its reward, by function; absent when none failed (rewardErrors 'skip'). */
  rewardFailures?: Record<string, number>;
  /** Share of groups whose rewards are all equal: they teach nothing. */
  fracRewardZeroStd: number;
  /** KL to the reference by klEstimator, nats per token (with klInReward: of the rollout, when it was sampled); absent when beta is 0. */
  kl?: number;
  /** Nats per token. */
  entropy: number;
  /** Shares of tokens that clipping stops: below, above, either. */
  clipRatio: { low: number; high: number; region: number };
  /** Importance ratios exp(logp - old). */
  ratio: { min: number; mean: number; max: number };
  /** Tokens per completion. */
  completionLength: { mean: number; min: number; max: number };
  /** Dynamic sampling: groups sampled for this rollout; those beyond the trained ones had equal rewards. */
  groupsSampled?: number;
  /** Optimizer steps between the weights that sampled the step's completions and those that it trains. */
  staleness: { mean: number; max: number };
  /** With a rollout function's log-probs: an estimate of the KL from what sampled to the policy, nats per token. */
  samplerKl?: number;
  /** Servers (openAICompatible), in the step that draws a rollout: its requests. */
  rollout?: { requests: number; retries: number; stale: number; queueSeconds: number; serversOut: number };
  /** Each of them. */
  servers?: Record<string, { completions: number; tokensPerSecond: number; failures: number; outs: number }>;
  /** Steps of the run so far that were left out because something was not finite: this step's loss is then NaN (null in metrics.jsonl). */
  skippedSteps: number;
  /** Share of completions that hit maxCompletionLength. */
  truncated: number;
  /** Of this step. */
  learningRate: number;
  /** Norm of the whole gradient before it was clipped. */
  gradNorm: number;
  /** Prompt + completion tokens of this step. */
  tokens: number;
  /** Of the whole step: `tokens` by `seconds.total`. */
  tokensPerSecond: number;
  /** With several ranks: their number, and what the step's sums cost rank 0 (bytes handed over, seconds). */
  ranks?: RankMetrics;
  /** Wall-clock seconds of the step, by phase. */
  seconds: { generate: number; reward: number; score: number; train: number; optimizer: number; total: number };
  /** The process's largest resident memory so far. */
  peakMemoryBytes: number;
}

/** One completion of a step. */
export interface Sample {
  /** As text; a conversation as its template renders it. */
  prompt: string;
  /** As text. */
  completion: string;
  /** The weighted sum over the reward functions. */
  reward: number;
  /** What the reward became; of steps, the mean over its tokens. */
  advantage: number;
  /** 'stop': it ended by itself; 'length': it was cut off. */
  finishReason: 'stop' | 'length';
}

/** One prompt of a step and the weighted rewards of its completions (null: no function had anything to say): a line of samples.jsonl has a few. */
export interface RewardGroup {
  prompt: string;
  rewards: (number | null)[];
}

/** What a trainer yields after each optimizer step. */
export interface GRPOStep {
  /** The step, from 1. */
  step: number;
  /** The line that is in metrics.jsonl. */
  metrics: StepMetrics;
  /** The completions that the step trained on. */
  samples: Sample[];
}
