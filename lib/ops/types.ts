// Types of the functional ops. B completions ("sequences"), N token positions in total, V columns of logits.

/** Where sequences begin and end: one of the two. */
export type SequenceLayout =
  | {
      /** Int32Array(B + 1): ragged sequences; first 0, non-decreasing, last N. */
      offsets: Int32Array;
      /** With offsets there is none. */
      completionLength?: undefined;
    }
  | {
      /** Rectangular: N = B * completionLength. */
      completionLength: number;
      /** With completionLength there are none. */
      offsets?: undefined;
    };

/** What elements of logits can be. */
export type LogitsDtype = 'float32' | 'bfloat16' | 'float16';

/** Logits in JavaScript's memory: the array's class and dtype go together. Views with an offset are fine. */
export type LogitsArray =
  | {
      /**
       * Float32Array, or Uint16Array holding bfloat16 or float16 bits (then `dtype` is required). Or a Tensor of the engine: the op then runs
       * where the Tensor is and returns a promise.
       */
      logits: Float32Array | Uint16Array;
      /** What the elements are. Default: 'float32'; a Uint16Array needs 'bfloat16' or 'float16'. */
      dtype: LogitsDtype;
    }
  | {
      /** The same, where the class is known when the code is compiled. (The last of the two: compilers' messages are about it.) */
      logits: Float32Array;
      /** Not needed. */
      dtype?: 'float32';
    };

/** The array that a gradient of such logits is in. */
export type GradientOf<Logits extends Float32Array | Uint16Array> = Logits extends Float32Array ? Float32Array : Uint16Array;

/** How rows of logits lie, and what they predict. */
export interface LogitsLayout {
  /** V: columns of a row. */
  vocabSize: number;
  /** Int32Array(N): the token id of each position. Positions behind the mask may hold anything. */
  targets: Int32Array;
  /** Elements from one row to the next. Default: vocabSize. */
  rowStride?: number;
  /** Elements from one sequence's first row to the next's (padded or shifted views). Default: rows follow each other. */
  sequenceStride?: number;
}

/** Rows of logits; row t predicts targets[t]. */
export type LogitsInput = LogitsArray & LogitsLayout;

/** The surrogate of the loss: see LossConfig. */
export type LossType =
  'dapo' | 'grpo' | 'bnpo' | 'dr_grpo' | 'cispo' | 'sapo' | 'vespo' | 'luspo' | 'gmpo' | 'reinforce' | 'dppo' | 'clip_cov' | 'kl_cov';
/** What an importance ratio belongs to: see LossConfig. */
export type ImportanceSamplingLevel = 'token' | 'sequence' | 'sequence_token';
/** How the KL of a token is estimated: see LossConfig. */
export type KlEstimator = 'k1' | 'k2' | 'k3';
/** How samplerLogps correct the loss: see LossConfig. */
export type SamplerImportanceSampling = 'token_truncate' | 'token_mask' | 'sequence_truncate' | 'sequence_mask';

/** How the loss is formed. Names and meanings are those of TRL's GRPOConfig; docs/losses.md gives every formula. */
export interface LossConfig {
  /**
   * The surrogate and how token losses are averaged. PPO's clip: 'grpo' per sequence, then over sequences (arXiv:2402.03300); 'dapo' and
   * 'bnpo' over tokens (arXiv:2503.14476); 'dr_grpo' by sequences * maxCompletionLength (arXiv:2503.20783); 'luspo' summed over a
   * sequence (arXiv:2602.05261). 'cispo' clips the weight of the log-prob (arXiv:2506.13585), 'sapo' has a soft gate (2511.20347), 'vespo' a
   * weight by the sequence's ratio (2602.10693), 'gmpo' a geometric mean (2507.20673), 'reinforce' no ratio, 'dppo' a mask by
   * divergence (2602.04879), 'clip_cov' and 'kl_cov' act on tokens of large covariance (2505.22617). Default 'dapo'.
   */
  lossType?: LossType;
  /** Level of the importance ratio: each token's, or its sequence's mean (GSPO, arXiv:2507.18071; 'sequence_token': GSPO-token). */
  importanceSamplingLevel?: ImportanceSamplingLevel;
  /** The ratio is clipped to [1 - epsilon, 1 + epsilonHigh]. Defaults 0.2 (gmpo, in log space: 0.4) and epsilon; cispo: the raw bound. */
  epsilon?: number;
  /** The clip's upper side; see epsilon. */
  epsilonHigh?: number;
  /** Upper bound of the ratio on the unclipped side too (two-sided clipping, arXiv:2505.07291). Default: none. */
  delta?: number;
  /** With a negative advantage A, the surrogate is at least dualClip * A (arXiv:1912.09729). More than 1; default: none. */
  dualClip?: number;
  /** Weight of the KL term; 0 (default): refLogps are not read. */
  beta?: number;
  /** Estimator of the KL of a token: 'k3' (default) = exp(d) - d - 1, 'k1' = -d, 'k2' = d^2 / 2, d = ref - logp. */
  klEstimator?: KlEstimator;
  /** The KL's derivative: of the estimate itself (default), of k2 behind the estimate's value, or with the score-function term added. */
  klGradient?: 'estimator' | 'straight_through' | 'score_function';
  /** Multiply the KL estimate by the (unbounded, differentiated) ratio, as TRL does since 1.10. Default true (false with a klGradient). */
  useBiasCorrectionKl?: boolean;
  /** Logits are divided by it. Default 1. */
  temperature?: number;
  /** Needed by 'dr_grpo' unless `normalizer` is given. */
  maxCompletionLength?: number;
  /**
   * What the sum of token losses is divided by, over the whole optimizer step: sequences (grpo, sapo, luspo, gmpo), sequences *
   * maxCompletionLength (dr_grpo), tokens (all others). Default: counted on this batch. With it given, cutting a batch changes nothing.
   */
  normalizer?: number;
  /** The default normalizer counts sequences without a selected token ('count', as TRL) or leaves them out. */
  emptySequences?: 'count' | 'exclude';
  /** Sequences marked in batch.truncated contribute nothing. Default false. */
  maskTruncatedCompletions?: boolean;
  /** loss -= entropyCoef * mean entropy of the selected tokens (that the entropy mask keeps). Default 0. */
  entropyCoef?: number;
  /** Tokens of the whole optimizer step that the entropy is a mean over. Default: counted on this batch. */
  entropyNormalizer?: number;
  /** Only the share of tokens with the highest entropy carries the surrogate (arXiv:2506.01939). Default 1: all. */
  topEntropyQuantile?: number;
  /** The same by a given entropy (nats): of the whole step, where a batch is cut. */
  entropyThreshold?: number;
  /** Correct for samplerLogps (TRL: vllm_importance_sampling_mode). Default: off. */
  samplerImportanceSampling?: SamplerImportanceSampling;
  /** Bounds of that weight. Defaults: none, and 3. */
  samplerImportanceSamplingClipMin?: number;
  /** The upper bound. Default 3. */
  samplerImportanceSamplingClipMax?: number;
  /** Leave out sequences with negative advantage whose mean(samplerLogps - logps) exceeds it (arXiv:2512.02556). Default: off. */
  offPolicyMaskThreshold?: number;
  /** SAPO's gate: temperatures for positive and other advantages. Defaults 1 and 1.05. */
  sapoTemperaturePos?: number;
  /** For other advantages. Default 1.05. */
  sapoTemperatureNeg?: number;
  /** VESPO's gamma weight: shape and rate for advantages >= 0 (2, 3) and below (3, 2). */
  vespoKPos?: number;
  /** Rate for advantages >= 0. Default 3. */
  vespoLambdaPos?: number;
  /** Shape for advantages below 0. Default 3. */
  vespoKNeg?: number;
  /** Rate for advantages below 0. Default 2. */
  vespoLambdaNeg?: number;
  /** DPPO: the divergence that epsilon and epsilonHigh bound ('tv' default, or 'kl'), and the ratio's upper bound (20). */
  dppoDivergence?: 'tv' | 'kl';
  /** The ratio's upper bound. Default 20. */
  dppoRatioMax?: number;
  /** clip_cov: share of tokens (2e-4) left out among those with covariance between the bounds (1, 5), and the seed of that choice (0). */
  clipCovRatio?: number;
  /** The least covariance. Default 1. */
  clipCovLow?: number;
  /** The largest covariance. Default 5. */
  clipCovHigh?: number;
  /** Seed of the choice. Default 0. */
  clipCovSeed?: number;
  /** kl_cov: share of tokens (2e-4) that get the penalty, and its coefficient (1). */
  klCovRatio?: number;
  /** The penalty's coefficient. Default 1. */
  klCovCoef?: number;
}

/** lossTypes whose surrogate is PPO's clip: delta and dualClip bound it. */
export type ClippedLossType = 'grpo' | 'bnpo' | 'dr_grpo' | 'dapo' | 'luspo' | 'clip_cov';
/** lossTypes that define a token's weight themselves. */
export type TokenLevelLossType = 'vespo' | 'gmpo' | 'reinforce' | 'dppo' | 'clip_cov' | 'kl_cov';

/** Of every lossType in T: what it needs beside LossConfig, and what it cannot have. A T that is not known is let pass: calls check it. */
export type LossRequirements<T extends LossType> = LossType extends T
  ? unknown
  : (T extends 'cispo' ? { epsilonHigh: number } : unknown) &
      (T extends 'dr_grpo' ? { maxCompletionLength: number } | { normalizer: number } : unknown) &
      (T extends 'luspo' ? { importanceSamplingLevel: 'sequence' } : unknown) &
      (T extends TokenLevelLossType ? { importanceSamplingLevel?: 'token' } : unknown) &
      (T extends ClippedLossType ? unknown : { delta?: undefined; dualClip?: undefined });

/** LossConfig where the lossType is known when the code is compiled: cispo then asks for its epsilonHigh, and so on. */
export type LossConfigOf<T extends LossType> = LossConfig & { lossType?: T } & LossRequirements<T>;

/** How rewards become advantages. */
export interface AdvantageConfig {
  /** What the advantage is divided by: the std of its group (default), of the batch, or nothing. */
  scaleRewards?: 'group' | 'batch' | 'none';
  /** What is subtracted. Default 'group_mean'. */
  baseline?: 'group_mean' | 'leave_one_out' | 'batch_mean' | 'none';
  /** 'rank': average ranks inside the group replace the rewards. Default 'none'. */
  transform?: 'none' | 'rank';
  /** Delta degrees of freedom of the std. Default 1. */
  ddof?: 0 | 1;
  /** Added to the std. Default 1e-4. */
  eps?: number;
  /** NaN or infinite reward: an error (default), or left out of the statistics with advantage 0. */
  nonFinite?: 'error' | 'exclude';
}

/** Completions of one prompt follow each other: groups of equal size, or offsets; one of the two. */
export type Groups =
  | {
      /** Completions of every group. */
      numGenerations: number;
      /** Groups are given the other way, or are not needed. */
      groupOffsets?: undefined;
    }
  | {
      /** Int32Array(groups + 1): first 0, non-decreasing, last B. */
      groupOffsets: Int32Array;
      /** Groups are given the other way, or are not needed. */
      numGenerations?: undefined;
    };

/** What a completion is worth: rewards in groups, or advantages. */
export type RewardsOrAdvantages =
  | ({
      /** (B): turned into advantages by the AdvantageConfig part of the config. */
      rewards: Rewards;
      /** Rewards are given. */
      advantages?: undefined;
    } & Groups)
  | {
      /** Float32Array(B), or (N) for one per token. */
      advantages: Float32Array;
      /** Advantages are given. */
      rewards?: undefined;
      /** Groups are given the other way, or are not needed. */
      numGenerations?: undefined;
      /** Groups are given the other way, or are not needed. */
      groupOffsets?: undefined;
    };

/** One number per completion. */
export type Rewards = Float32Array | Float64Array | readonly number[];

/** Advantages, and statistics of their groups. */
export interface GroupAdvantages {
  /** (B) (r - baseline) / (std + eps); exactly 0 where all rewards that the baseline sees are equal. */
  advantages: Float32Array;
  /** (groups) of the group's own (finite, transformed) rewards. */
  mean: Float32Array;
  /** (groups) Standard deviation, with ddof. */
  std: Float32Array;
  /** 1 where all rewards of the group are equal: it teaches nothing. */
  zeroStd: Uint8Array;
}

/** What stands for each token, beside the log-probs of the policy itself. */
export interface TokenArrays {
  /** (N) log-probs of the sampling policy. Omitted: on policy, the ratio is 1 and keeps its gradient. */
  oldLogps?: Float32Array;
  /** (N) log-probs of the reference; needed iff beta > 0, and never read otherwise. */
  refLogps?: Float32Array | null;
  /** (N) log-probs by the engine that sampled, NaN where unknown: for samplerImportanceSampling and offPolicyMaskThreshold. */
  samplerLogps?: Float32Array;
  /** Uint8Array(N): 0 leaves a position out. What stands there is never read. */
  mask?: Uint8Array;
  /** Uint8Array(B): completions that hit the length limit (see maskTruncatedCompletions). */
  truncated?: Uint8Array;
}

/** What a beta asks of the batch, where it is known (and not 0) when the code is compiled: refLogps. Any other is let pass: calls check it. */
export type NeedsReference<Beta extends number> = number extends Beta ? unknown : Beta extends 0 ? unknown : { refLogps: Float32Array };

/** Everything token-sized that the loss is made of. */
export type PolicyBatch = TokenArrays & SequenceLayout;

/** Means over selected tokens; 0 when there are none. */
export interface LossMetrics {
  /** The KL estimate that beta multiplies; absent when beta is 0. */
  kl?: number;
  /** Nats per token. */
  entropy?: number;
  /** Shares of tokens that clipping stops: ratio < 1 - epsilon and advantage < 0, ratio > 1 + epsilonHigh and advantage > 0, either. */
  clipRatio: { low: number; high: number; region: number };
  /** Of exp(logp - old), before delta. */
  ratio: { min: number; mean: number; max: number };
  /** Selected tokens. */
  tokens: number;
  /** Sequences that count in the mean over sequences. */
  sequences: number;
}
