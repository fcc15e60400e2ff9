// Generated from the tables of options: node scripts/docs.mjs

/** Options of every trainer. */
export interface TrainingConfig {
  /** Folder for checkpoints, metrics.jsonl and the run's config.json; nothing is written without it. */
  outputDir?: string;
  /** Optimizer steps; -1: as many as numTrainEpochs takes. An integer of at least -1. Default -1. */
  maxSteps?: number;
  /** Passes over the data set (when maxSteps is -1). A number above 0. Default 3. */
  numTrainEpochs?: number;
  /** An optimizer step trains on perDeviceTrainBatchSize x this many (x ranks); memory is bounded by microBatchTokens instead. An integer of at least 1. Default 1. */
  gradientAccumulationSteps?: number;
  /** Learning rate after the warm-up. Default "linear". */
  lrSchedulerType?: 'linear' | 'cosine' | 'constant' | 'constant_with_warmup';
  /** Steps of linear warm-up from 0. An integer of at least 0. Default 0. */
  warmupSteps?: number;
  /** Warm-up as a share of all steps (when warmupSteps is 0). A number of at least 0 and of at most 1. Default 0. */
  warmupRatio?: number;
  /** Decoupled weight decay; biases and norms are left out. A number of at least 0. Default 0. */
  weightDecay?: number;
  /** AdamW beta1. A number of at least 0 and of at most 1. Default 0.9. */
  adamBeta1?: number;
  /** AdamW beta2. A number of at least 0 and of at most 1. Default 0.999. */
  adamBeta2?: number;
  /** AdamW epsilon. A number of at least 0. Default 1e-8. */
  adamEpsilon?: number;
  /** Gradients are scaled down to this norm; 0: never. A number of at least 0. Default 1. */
  maxGradNorm?: number;
  /** Decides data order and samples, together with the step. An integer of at least 0. Default 42. */
  seed?: number;
  /** New order every epoch. Default true. */
  shuffleDataset?: boolean;
  /** Write a resumable checkpoint every so many steps; 0: only at the end. An integer of at least 0. Default 500. */
  saveSteps?: number;
  /** Checkpoints kept. An integer of at least 1. Default 2. */
  saveTotalLimit?: number;
  /** 'auto': the newest checkpoint in outputDir if there is one; else a checkpoint folder. Continues bit for bit. */
  resume?: string;
  /** 'tensorboard': event files in outputDir/tensorboard, beside metrics.jsonl. Default "none". */
  reportTo?: 'none' | 'tensorboard';
  /** A step whose loss or gradient is not finite is left out (weights and moments stay as they are; outputDir/non-finite/ names the sequences or pairs); after this many more in a row the run ends. 0: at the first. An integer of at least 0. Default 3. */
  maxSkippedSteps?: number;
  /** With several ranks: seconds without a sign of life after which a rank is missing, and the others end. A number above 0. Default 120. */
  ddpTimeout?: number;
  /** With several ranks: each holds its part of the moments and master weights (the same result). Default false. */
  shardOptimizer?: boolean;
  /** Where the model is loaded (when `model` is a folder). Default "auto". */
  device?: 'auto' | 'cpu' | 'cuda';
  /** Weights (when `model` is a folder); the optimizer keeps float32 masters. Default "auto". */
  dtype?: 'auto' | 'float32' | 'bfloat16';
  /** Trains only parameters whose names match one of these patterns (* and ?), like model.layers.29.*; the others are frozen. */
  trainableParameters?: string[];
  /** Freezes the embeddings (a tied head is one) and this many first layers; with loraRank these layers get no adapter. An integer of at least 1. */
  freezeLayers?: number;
  /** Keeps only the input of each layer for the backward pass and computes the rest again: the same bits, less memory, more time (TRL turns it on by default). Default false. */
  gradientCheckpointing?: boolean;
}

/** Options of the trainers of a policy. */
export interface PolicyConfig extends TrainingConfig {
  /** Completions (GRPO) or examples (SFT) per gradient accumulation step and rank. An integer of at least 1. Default 8. */
  perDeviceTrainBatchSize?: number;
  /** Tokens per forward and backward (a prompt that several completions share counts once); 0: as many as need about 1.5 GB. Does not change results beyond rounding, but for statistics of a micro-batch (topEntropyQuantile, clip_cov, kl_cov). An integer of at least 0. Default 0. */
  microBatchTokens?: number;
  /** Memory for logits, which exist for a part of the rows at a time. An integer of at least 1. Default 268435456. */
  workspaceBytes?: number;
  /** false: the loss by unfused libtorch operations (same numbers, for comparison). Default true. */
  fused?: boolean;
  /** Trains a LoRA adapter of this rank beside frozen weights (peft: r; TRL: lora_r); default: the weights themselves. An integer of at least 1. */
  loraRank?: number;
  /** The adapter is scaled by loraAlpha / loraRank (peft: lora_alpha); default twice loraRank. A number above 0. */
  loraAlpha?: number;
  /** Modules with an adapter, by name or end of name, like q_proj,v_proj (peft: target_modules); default all-linear: every layer's projections. */
  loraTargetModules?: string[];
  /** Scale by loraAlpha / sqrt(loraRank) instead (peft: use_rslora). */
  useRslora?: boolean;
}

/** Options of the trainers whose policy is rewarded for what it samples. */
export interface SampledConfig extends PolicyConfig {
  /** Peak learning rate of AdamW. A number of at least 0. Default 0.000001. */
  learningRate?: number;
  /** A rollout holds perDeviceTrainBatchSize x this many completions; default gradientAccumulationSteps. An integer of at least 1. */
  stepsPerGeneration?: number;
  /** Tokens sampled per completion at most. An integer of at least 1. Default 512. */
  maxCompletionLength?: number;
  /** Longer prompts are an error that names the row; default: what the context leaves. An integer of at least 1. */
  maxPromptLength?: number;
  /** Of sampling and of every log-prob. A number above 0. Default 1. */
  temperature?: number;
  /** Nucleus sampling. A number above 0 and of at most 1. Default 1. */
  topP?: number;
  /** Sample among the k likeliest; 0: all. An integer of at least 0. Default 0. */
  topK?: number;
  /** Sample among tokens at least this likely relative to the likeliest. A number of at least 0 and of at most 1. */
  minP?: number;
  /** Divides (or multiplies) the logits of tokens already there. A number above 0. Default 1. */
  repetitionPenalty?: number;
  /** The surrogate and how token losses are averaged (docs/losses.md). Default "dapo". */
  lossType?:
    'grpo' | 'bnpo' | 'dr_grpo' | 'dapo' | 'cispo' | 'sapo' | 'vespo' | 'luspo' | 'gmpo' | 'reinforce' | 'dppo' | 'clip_cov' | 'kl_cov';
  /** Ratio per token, or of the sequence (GSPO: 'sequence'). Default "token". */
  importanceSamplingLevel?: 'token' | 'sequence' | 'sequence_token';
  /** Clip below 1 - epsilon; default 0.2 (gmpo, in log space: 0.4). A number of at least 0. */
  epsilon?: number;
  /** Clip above 1 + epsilonHigh; default epsilon. cispo: the upper bound of the ratio itself. A number of at least 0. */
  epsilonHigh?: number;
  /** Upper bound of the unclipped ratio (two-sided clipping). A number above 1. */
  delta?: number;
  /** PPO's dual clip: bounds the loss of negative advantages. A number above 1. */
  dualClip?: number;
  /** Estimator of the KL. Default "k3". */
  klEstimator?: 'k1' | 'k2' | 'k3';
  /** The KL's derivative: of the estimate, of k2, or with the score-function term. Default "estimator". */
  klGradient?: 'estimator' | 'straight_through' | 'score_function';
  /** KL term times the ratio; default true (false with another klGradient). */
  useBiasCorrectionKl?: boolean;
  /** Completions cut at maxCompletionLength carry no loss. Default false. */
  maskTruncatedCompletions?: boolean;
  /** Only this share of the tokens of a micro-batch, those of highest entropy, carries the surrogate. A number of at least 0 and of at most 1. Default 1. */
  topEntropyQuantile?: number;
  /** The same by a given entropy in nats. */
  entropyThreshold?: number;
  /** Weight of the entropy bonus. Default 0. */
  entropyCoef?: number;
  /** Correct for what sampling's log-probs differ from scoring's (TRL: vllm_importance_sampling_mode); default: 'sequence_mask' for a rollout function that gives samplerLogps (vespo: 'token_truncate'), else 'none'. */
  samplerImportanceSampling?: 'token_truncate' | 'token_mask' | 'sequence_truncate' | 'sequence_mask' | 'none';
  /** Lower bound of that weight; default: none. A number of at least 0. */
  samplerImportanceSamplingClipMin?: number;
  /** Upper bound of that weight. A number above 0. Default 3. */
  samplerImportanceSamplingClipMax?: number;
  /** Leave out sequences of negative advantage that drifted further (mean KL). */
  offPolicyMaskThreshold?: number;
  /** SAPO's temperature for positive advantages. A number above 0. Default 1. */
  sapoTemperaturePos?: number;
  /** SAPO's temperature for the others. A number above 0. Default 1.05. */
  sapoTemperatureNeg?: number;
  /** VESPO's k for advantages >= 0. A number of at least 0. Default 2. */
  vespoKPos?: number;
  /** VESPO's lambda for advantages >= 0. A number of at least 0. Default 3. */
  vespoLambdaPos?: number;
  /** VESPO's k for negative advantages. A number of at least 0. Default 3. */
  vespoKNeg?: number;
  /** VESPO's lambda for negative advantages. A number of at least 0. Default 2. */
  vespoLambdaNeg?: number;
  /** The divergence that epsilon bounds in dppo. Default "tv". */
  dppoDivergence?: 'tv' | 'kl';
  /** Upper bound of dppo's ratio. A number above 0. Default 20. */
  dppoRatioMax?: number;
  /** clip_cov: share of the tokens of a micro-batch that is left out. A number above 0 and of at most 1. Default 0.0002. */
  clipCovRatio?: number;
  /** clip_cov: covariances from here. Default 1. */
  clipCovLow?: number;
  /** clip_cov: covariances up to here. Default 5. */
  clipCovHigh?: number;
  /** clip_cov: seed of the choice. An integer of at least 0 and of at most 4294967295. Default 0. */
  clipCovSeed?: number;
  /** kl_cov: share of the tokens of a micro-batch that is penalised. A number above 0 and of at most 1. Default 0.0002. */
  klCovRatio?: number;
  /** kl_cov: weight of the penalty. A number of at least 0. Default 1. */
  klCovCoef?: number;
  /** One weight per reward function; default 1 each. */
  rewardWeights?: number[];
  /** Iterative GRPO: the reference becomes the policy every so many steps; 0: never (TRL: sync_ref_model, ref_model_sync_steps, mixup 1). An integer of at least 0. Default 0. */
  refModelSyncSteps?: number;
  /** Evaluate on evalDataset every so many steps, and at the end; 0: at the end only. An integer of at least 0. Default 0. */
  evalSteps?: number;
  /** Samples per row of evalDataset: the K of pass@K; default numGenerations. An integer of at least 1. */
  evalNumGenerations?: number;
  /** A completion passes when its reward is at least this. Default 1. */
  evalPassThreshold?: number;
  /** The best checkpoint by this (greater is better) is kept beside the last saveTotalLimit. Default "evalReward". */
  metricForBestModel?: 'evalReward' | 'evalRewardGreedy' | 'evalPassGreedy' | 'evalPassAt1' | 'evalPassAtK';
  /** The run's model/ is that of the best evaluation instead of the last step. Default false. */
  loadBestModelAtEnd?: boolean;
  /** Take the old log-probs from sampling instead of recomputing them (when a rollout is trained on more than once). Default false. */
  reuseSamplingLogps?: boolean;
  /** Seconds until a rollout function (or the hook of syncWeights) that has not settled is an error. A number above 0. Default 1800. */
  rolloutTimeout?: number;
  /** A completion is trained on at most this many optimizer steps after the weights that sampled it: syncWeights hands over as often as that takes, and what a rollout function says is older is drawn again. Default: no bound. An integer of at least 0. */
  maxStaleness?: number;
  /** Further attempts when the rollout function throws or times out, the first after a second, then twice as long each time. An integer of at least 0. Default 0. */
  rolloutRetries?: number;
  /** Seconds until a reward function that has not settled is an error. A number above 0. Default 600. */
  rewardTimeout?: number;
  /** With several ranks: rank 0 calls the reward functions for all completions; default: each rank for its own. Functions that remember what they have seen are called on rank 0 in any case. Default false. */
  gatherRewards?: boolean;
  /** Reward functions under way at once; default: all. An integer of at least 1. */
  rewardConcurrency?: number;
  /** Further attempts when a reward function throws or times out. An integer of at least 0. Default 0. */
  rewardRetries?: number;
  /** Seconds before the first retry; doubled with each further one, up to a minute. A number of at least 0. Default 1. */
  rewardRetryDelay?: number;
  /** A reward function that throws or times out (after its retries) ends the run, or has nothing to say about that step's completions (metric rewardFailures). Default "throw". */
  rewardErrors?: 'throw' | 'skip';
}

/** Options of GRPOTrainer. Names, meanings and defaults are those of GRPOConfig of TRL (docs/trl-config.md), in camelCase. */
export interface GRPOConfig extends SampledConfig {
  /** Completions per prompt: the group. An integer of at least 1. Default 8. */
  numGenerations?: number;
  /** Times each rollout is trained on (mu in the paper). An integer of at least 1. Default 1. */
  numIterations?: number;
  /** Weight of the KL to the reference; 0: no reference is loaded. A number of at least 0. Default 0. */
  beta?: number;
  /** Which standard deviation divides the advantages. Default "group". */
  scaleRewards?: 'group' | 'batch' | 'none';
  /** What is subtracted from a reward. Default "group_mean". */
  baseline?: 'group_mean' | 'leave_one_out' | 'batch_mean' | 'none';
  /** beta times the KL to the reference is subtracted from the rewards, not added to the loss; klEstimator is then 'k1' unless given. Default false. */
  klInReward?: boolean;
  /** Several reward functions: add the rewards and normalize, or the other way round (GDPO). Default "sum_then_normalize". */
  multiObjectiveAggregation?: 'sum_then_normalize' | 'normalize_then_sum';
  /** 'rank': average ranks inside the group replace the rewards. Default "none". */
  transform?: 'none' | 'rank';
  /** Sample further prompts in place of groups whose rewards are all equal (DAPO). Default false. */
  dynamicSampling?: boolean;
  /** dynamicSampling: further rounds of prompts per rollout at most; what is still missing is filled with groups that teach nothing. An integer of at least 1. Default 3. */
  maxResamples?: number;
  /** Sample the next rollout on a second thread while this one is trained on, by a copy of the policy as it was before (one rollout stale; the ratio to its log-probs corrects for it). Default false. */
  generateAhead?: boolean;
  /** Do not train on completions of advantage 0 (groups whose rewards are all equal): same gradient, less work; loss metrics (entropy, ratio) are then of the others. No effect with a KL or an entropy term in the loss. Default false. */
  skipZeroAdvantages?: boolean;
}

/** Options of PPOTrainer: those of GRPOConfig that do not need groups, and those of the critic. */
export interface PPOConfig extends SampledConfig {
  /** Completions per prompt. An integer of at least 1. Default 1. */
  numGenerations?: number;
  /** Times each rollout is trained on (TRL: num_ppo_epochs). An integer of at least 1. Default 4. */
  numIterations?: number;
  /** Weight of the KL to the reference (TRL: kl_coef); 0: no reference is loaded. A number of at least 0. Default 0.05. */
  beta?: number;
  /** beta times each token's KL to the reference is subtracted from its reward ('k1' unless klEstimator is given); false: it is added to the loss. Default true. */
  klInReward?: boolean;
  /** Discount of later rewards. A number of at least 0 and of at most 1. Default 1. */
  gamma?: number;
  /** GAE: weight of later temporal differences. A number of at least 0 and of at most 1. Default 0.95. */
  lam?: number;
  /** Bring a rollout's advantages to mean 0 and variance 1. Default true. */
  whitenAdvantages?: boolean;
  /** Weight of the critic's loss. A number above 0. Default 0.1. */
  vfCoef?: number;
  /** The value loss is clipped this far from the old value. A number above 0. Default 0.2. */
  cliprangeValue?: number;
  /** Peak learning rate of the critic; default: learningRate. A number of at least 0. */
  valueLearningRate?: number;
  /** Taken from the reward of a completion that was cut at maxCompletionLength. A number of at least 0. */
  missingEosPenalty?: number;
}

/** Options of SFTTrainer. */
export interface SFTConfig extends PolicyConfig {
  /** Peak learning rate of AdamW. A number of at least 0. Default 0.00002. */
  learningRate?: number;
  /** Prompt tokens carry no loss. Default true. */
  completionOnlyLoss?: boolean;
  /** Longer examples are cut at the end; default: the context. An integer of at least 2. */
  maxLength?: number;
}

/** Options of RewardTrainer. */
export interface RewardConfig extends TrainingConfig {
  /** Pairs per gradient accumulation step. An integer of at least 1. Default 8. */
  perDeviceTrainBatchSize?: number;
  /** Tokens per forward and backward (what both sides of a pair begin with counts once; a pair is never cut apart); 0: as many as need about 1.5 GB. Does not change results beyond rounding. An integer of at least 0. Default 0. */
  microBatchTokens?: number;
  /** Peak learning rate of AdamW. A number of at least 0. Default 0.0001. */
  learningRate?: number;
  /** Pairs with a side of more tokens are left out before training, as in TRL; never more than the context. An integer of at least 1. Default 1024. */
  maxLength?: number;
  /** Weight of (chosen + rejected)^2, which keeps scores around 0; 0.01 is usual (arXiv 2312.09244). A number of at least 0. Default 0. */
  centerRewardsCoefficient?: number;
  /** With an evaluation set: measure it every so many steps; after the last step always. An integer of at least 0. Default 0. */
  evalSteps?: number;
}
