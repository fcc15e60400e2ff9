// GRPOConfig and SFTConfig: names, meanings and defaults are TRL's GRPOConfig in camelCase, unless a description says otherwise.
import { incompatible } from '../errors.js';
import { worldSize } from '../distributed/environment.js';
import { resolveOptions, type OptionTable } from '../options.js';
import { BASELINES, dependentDefaults } from '../ops/config.js';
import type { GRPOConfig, SFTConfig } from './config-types.js';
import { EVAL_METRICS } from './evaluate.js';
import { checkLoss, lossConfigOf, lossOptions } from './loss.js';
import { staleAnyway, stepsPerRollout } from './schedule.js';
import { rejectTrlNames } from './trl.js';
import { checkTrained, loraOptions, partOptions, refuseLora } from './trained-part.js';

export type { GRPOConfig, SFTConfig } from './config-types.js';

/** Options that every trainer has: optimizer, schedule, length of the run, output. */
export const commonOptions = {
  outputDir: {
    type: 'string',
    description: "Folder for checkpoints, metrics.jsonl and the run's config.json; nothing is written without it",
  },
  maxSteps: { type: 'integer', default: -1, min: -1, description: 'Optimizer steps; -1: as many as numTrainEpochs takes' },
  numTrainEpochs: { type: 'number', default: 3, min: 0, exclusiveMin: true, description: 'Passes over the data set (when maxSteps is -1)' },
  perDeviceTrainBatchSize: {
    type: 'integer',
    default: 8,
    min: 1,
    description: 'Completions (GRPO) or examples (SFT) per gradient accumulation step and rank',
  },
  gradientAccumulationSteps: {
    type: 'integer',
    default: 1,
    min: 1,
    description: 'An optimizer step trains on perDeviceTrainBatchSize x this many (x ranks); memory is bounded by microBatchTokens instead',
  },
  microBatchTokens: {
    type: 'integer',
    default: 0,
    min: 0,
    description:
      'Tokens per forward and backward (a prompt that several completions share counts once); 0: as many as need about 1.5 GB. Does not change results beyond rounding, but for statistics of a micro-batch (topEntropyQuantile, clip_cov, kl_cov)',
  },
  workspaceBytes: {
    type: 'integer',
    default: 2 ** 28,
    min: 1,
    description: 'Memory for logits, which exist for a part of the rows at a time',
  },
  learningRate: { type: 'number', default: 1e-6, min: 0, description: 'Peak learning rate of AdamW' },
  lrSchedulerType: {
    type: 'enum',
    values: ['linear', 'cosine', 'constant', 'constant_with_warmup'],
    default: 'linear',
    description: 'Learning rate after the warm-up',
  },
  warmupSteps: { type: 'integer', default: 0, min: 0, description: 'Steps of linear warm-up from 0' },
  warmupRatio: { type: 'number', default: 0, min: 0, max: 1, description: 'Warm-up as a share of all steps (when warmupSteps is 0)' },
  weightDecay: { type: 'number', default: 0, min: 0, description: 'Decoupled weight decay; biases and norms are left out' },
  adamBeta1: { type: 'number', default: 0.9, min: 0, max: 1, description: 'AdamW beta1' },
  adamBeta2: { type: 'number', default: 0.999, min: 0, max: 1, description: 'AdamW beta2' },
  adamEpsilon: { type: 'number', default: 1e-8, min: 0, description: 'AdamW epsilon' },
  maxGradNorm: { type: 'number', default: 1, min: 0, description: 'Gradients are scaled down to this norm; 0: never' },
  seed: { type: 'integer', default: 42, min: 0, description: 'Decides data order and samples, together with the step' },
  shuffleDataset: { type: 'boolean', default: true, description: 'New order every epoch' },
  saveSteps: { type: 'integer', default: 500, min: 0, description: 'Write a resumable checkpoint every so many steps; 0: only at the end' },
  saveTotalLimit: { type: 'integer', default: 2, min: 1, description: 'Checkpoints kept' },
  resume: {
    type: 'string',
    description: "'auto': the newest checkpoint in outputDir if there is one; else a checkpoint folder. Continues bit for bit",
  },
  reportTo: {
    type: 'enum',
    values: ['none', 'tensorboard'],
    default: 'none',
    description: "'tensorboard': event files in outputDir/tensorboard, beside metrics.jsonl",
  },
  maxSkippedSteps: {
    type: 'integer',
    default: 3,
    min: 0,
    description:
      'A step whose loss or gradient is not finite is left out (weights and moments stay as they are; outputDir/non-finite/ names the sequences or pairs); after this many more in a row the run ends. 0: at the first',
  },
  ddpTimeout: {
    type: 'number',
    default: 120,
    min: 0,
    exclusiveMin: true,
    description: 'With several ranks: seconds without a sign of life after which a rank is missing, and the others end',
  },
  shardOptimizer: {
    type: 'boolean',
    default: false,
    description: 'With several ranks: each holds its part of the moments and master weights (the same result)',
  },
  fused: { type: 'boolean', default: true, description: 'false: the loss by unfused libtorch operations (same numbers, for comparison)' },
  device: {
    type: 'enum',
    values: ['auto', 'cpu', 'cuda'],
    default: 'auto',
    description: 'Where the model is loaded (when `model` is a folder)',
  },
  dtype: {
    type: 'enum',
    values: ['auto', 'float32', 'bfloat16'],
    default: 'auto',
    description: 'Weights (when `model` is a folder); the optimizer keeps float32 masters',
  },
  ...partOptions,
} as const satisfies OptionTable;

/** Every option of GRPOConfig. */
export const grpoConfigOptions = {
  ...commonOptions,
  ...loraOptions,
  numGenerations: { type: 'integer', default: 8, min: 1, description: 'Completions per prompt: the group' },
  numIterations: { type: 'integer', default: 1, min: 1, description: 'Times each rollout is trained on (mu in the paper)' },
  stepsPerGeneration: {
    type: 'integer',
    min: 1,
    description: 'A rollout holds perDeviceTrainBatchSize x this many completions; default gradientAccumulationSteps',
  },
  maxCompletionLength: { type: 'integer', default: 512, min: 1, description: 'Tokens sampled per completion at most' },
  maxPromptLength: {
    type: 'integer',
    min: 1,
    description: 'Longer prompts are an error that names the row; default: what the context leaves',
  },
  temperature: { type: 'number', default: 1, min: 0, exclusiveMin: true, description: 'Of sampling and of every log-prob' },
  topP: { type: 'number', default: 1, min: 0, max: 1, exclusiveMin: true, description: 'Nucleus sampling' },
  topK: { type: 'integer', default: 0, min: 0, description: 'Sample among the k likeliest; 0: all' },
  minP: { type: 'number', min: 0, max: 1, description: 'Sample among tokens at least this likely relative to the likeliest' },
  repetitionPenalty: {
    type: 'number',
    default: 1,
    min: 0,
    exclusiveMin: true,
    description: 'Divides (or multiplies) the logits of tokens already there',
  },
  ...lossOptions,
  scaleRewards: {
    type: 'enum',
    values: ['group', 'batch', 'none'],
    default: 'group',
    description: 'Which standard deviation divides the advantages',
  },
  baseline: {
    type: 'enum',
    values: BASELINES,
    default: 'group_mean',
    description: 'What is subtracted from a reward',
  },
  klInReward: {
    type: 'boolean',
    default: false,
    description:
      "beta times the KL to the reference is subtracted from the rewards, not added to the loss; klEstimator is then 'k1' unless given",
  },
  multiObjectiveAggregation: {
    type: 'enum',
    values: ['sum_then_normalize', 'normalize_then_sum'],
    default: 'sum_then_normalize',
    description: 'Several reward functions: add the rewards and normalize, or the other way round (GDPO)',
  },
  rewardWeights: { type: 'numbers', description: 'One weight per reward function; default 1 each' },
  transform: {
    type: 'enum',
    values: ['none', 'rank'],
    default: 'none',
    description: "'rank': average ranks inside the group replace the rewards",
  },
  dynamicSampling: {
    type: 'boolean',
    default: false,
    description: 'Sample further prompts in place of groups whose rewards are all equal (DAPO)',
  },
  maxResamples: {
    type: 'integer',
    default: 3,
    min: 1,
    description:
      'dynamicSampling: further rounds of prompts per rollout at most; what is still missing is filled with groups that teach nothing',
  },
  generateAhead: {
    type: 'boolean',
    default: false,
    description:
      'Sample the next rollout on a second thread while this one is trained on, by a copy of the policy as it was before (one rollout stale; the ratio to its log-probs corrects for it)',
  },
  refModelSyncSteps: {
    type: 'integer',
    default: 0,
    min: 0,
    description:
      'Iterative GRPO: the reference becomes the policy every so many steps; 0: never (TRL: sync_ref_model, ref_model_sync_steps, mixup 1)',
  },
  evalSteps: {
    type: 'integer',
    default: 0,
    min: 0,
    description: 'Evaluate on evalDataset every so many steps, and at the end; 0: at the end only',
  },
  evalNumGenerations: { type: 'integer', min: 1, description: 'Samples per row of evalDataset: the K of pass@K; default numGenerations' },
  evalPassThreshold: { type: 'number', default: 1, description: 'A completion passes when its reward is at least this' },
  metricForBestModel: {
    type: 'enum',
    values: EVAL_METRICS,
    default: 'evalReward',
    description: 'The best checkpoint by this (greater is better) is kept beside the last saveTotalLimit',
  },
  loadBestModelAtEnd: {
    type: 'boolean',
    default: false,
    description: "The run's model/ is that of the best evaluation instead of the last step",
  },
  reuseSamplingLogps: {
    type: 'boolean',
    default: false,
    description: 'Take the old log-probs from sampling instead of recomputing them (when a rollout is trained on more than once)',
  },
  skipZeroAdvantages: {
    type: 'boolean',
    default: false,
    description:
      'Do not train on completions of advantage 0 (groups whose rewards are all equal): same gradient, less work; loss metrics (entropy, ratio) are then of the others. No effect with a KL or an entropy term in the loss',
  },
  rolloutTimeout: {
    type: 'number',
    default: 1800,
    min: 0,
    exclusiveMin: true,
    description: 'Seconds until a rollout function (or the hook of syncWeights) that has not settled is an error',
  },
  maxStaleness: {
    type: 'integer',
    min: 0,
    description:
      'A completion is trained on at most this many optimizer steps after the weights that sampled it: syncWeights hands over as often as that takes, and what a rollout function says is older is drawn again. Default: no bound',
  },
  rolloutRetries: {
    type: 'integer',
    default: 0,
    min: 0,
    description: 'Further attempts when the rollout function throws or times out, the first after a second, then twice as long each time',
  },
  rewardTimeout: {
    type: 'number',
    default: 600,
    min: 0,
    exclusiveMin: true,
    description: 'Seconds until a reward function that has not settled is an error',
  },
  gatherRewards: {
    type: 'boolean',
    default: false,
    description:
      'With several ranks: rank 0 calls the reward functions for all completions; default: each rank for its own. Functions that remember what they have seen are called on rank 0 in any case',
  },
  rewardConcurrency: { type: 'integer', min: 1, description: 'Reward functions under way at once; default: all' },
  rewardRetries: {
    type: 'integer',
    default: 0,
    min: 0,
    description: 'Further attempts when a reward function throws or times out',
  },
  rewardRetryDelay: {
    type: 'number',
    default: 1,
    min: 0,
    description: 'Seconds before the first retry; doubled with each further one, up to a minute',
  },
  rewardErrors: {
    type: 'enum',
    values: ['throw', 'skip'],
    default: 'throw',
    description:
      "A reward function that throws or times out (after its retries) ends the run, or has nothing to say about that step's completions (metric rewardFailures)",
  },
} as const satisfies OptionTable;

/** Every option of SFTConfig. */
export const sftConfigOptions = {
  ...commonOptions,
  ...loraOptions,
  learningRate: { ...commonOptions.learningRate, default: 2e-5 },
  completionOnlyLoss: { type: 'boolean', default: true, description: 'Prompt tokens carry no loss' },
  maxLength: { type: 'integer', min: 2, description: 'Longer examples are cut at the end; default: the context' },
} as const satisfies OptionTable;

/** An option's type, by its entry in a table. */
export type ValueOf<S> = S extends { type: 'number' | 'integer' }
  ? number
  : S extends { type: 'boolean' }
    ? boolean
    : S extends { type: 'enum'; values: readonly (infer V)[] }
      ? V
      : S extends { type: 'numbers' }
        ? number[]
        : S extends { type: 'strings' }
          ? string[]
          : string;
/** The values of a table of options: what has a default is there. */
export type Resolved<T> = { -readonly [K in keyof T as T[K] extends { default: unknown } ? K : never]: ValueOf<T[K]> } & {
  -readonly [K in keyof T as T[K] extends { default: unknown } ? never : K]?: ValueOf<T[K]>;
};

/** GRPOConfig with all defaults filled in, also those that depend on other options. */
export type ResolvedGRPOConfig = Resolved<typeof grpoConfigOptions> & {
  /** See LossConfig. */
  epsilon: number;
  /** See LossConfig. */
  epsilonHigh: number;
  /** See LossConfig. */
  useBiasCorrectionKl: boolean;
  /** Micro-steps that one rollout is used for. */
  stepsPerGeneration: number;
  /** K of pass@K. */
  evalNumGenerations: number;
  /** Completions per optimizer step. */
  stepCompletions: number;
  /** Completions per rollout. */
  rolloutCompletions: number;
};
/** SFTConfig with all defaults filled in. */
export type ResolvedSFTConfig = Resolved<typeof sftConfigOptions>;

/** Checks a GRPOConfig and fills in the defaults. Throws TypeError/RangeError naming the option. */
export function resolveGRPOConfig(config: GRPOConfig): ResolvedGRPOConfig {
  rejectTrlNames('GRPOConfig', config, Object.keys(grpoConfigOptions));
  refuseLora(config);
  const c = resolveOptions('GRPOConfig', grpoConfigOptions, config) as unknown as ResolvedGRPOConfig;
  if (c.numGenerations === 1 && (c.baseline === 'group_mean' || c.baseline === 'leave_one_out' || c.scaleRewards === 'group'))
    throw incompatible("numGenerations 1 is no group: baseline must be 'batch_mean' or 'none', and scaleRewards 'batch' or 'none'");
  completeConfig(c, config.klEstimator !== undefined);
  return c;
}

/** Fills in what depends on other options, and refuses what cannot go together. `klEstimatorGiven`: by the user. */
export function completeConfig(c: ResolvedGRPOConfig, klEstimatorGiven: boolean): void {
  const accumulation = c.gradientAccumulationSteps;
  c.stepsPerGeneration ??= accumulation;
  c.evalNumGenerations ??= c.numGenerations;
  checkLoss(c);
  checkTrained(c);
  if (c.multiObjectiveAggregation === 'normalize_then_sum') {
    if (c.scaleRewards !== 'group' || c.baseline !== 'group_mean' || c.transform !== 'none')
      throw incompatible(
        "multiObjectiveAggregation 'normalize_then_sum' defines itself what rewards are normalised by: no scaleRewards, baseline or transform",
      );
    if (c.klInReward)
      throw incompatible("klInReward needs multiObjectiveAggregation 'sum_then_normalize': the KL belongs to no reward function");
  }
  if (c.refModelSyncSteps > 0 && c.beta === 0) throw incompatible('refModelSyncSteps needs a beta above 0: there is no reference');
  if (c.dynamicSampling && c.klInReward) throw incompatible('dynamicSampling looks at rewards alone: no klInReward');
  if (c.klInReward && !klEstimatorGiven) c.klEstimator = 'k1'; // as TRL's RLOO
  if (c.klInReward && c.beta === 0) throw incompatible('klInReward needs a beta above 0');
  Object.assign(c, dependentDefaults(lossConfigOf(c)));
  if (c.stepsPerGeneration % accumulation !== 0 && accumulation % c.stepsPerGeneration !== 0)
    throw incompatible(
      `stepsPerGeneration (${c.stepsPerGeneration}) and gradientAccumulationSteps (${accumulation}): one must be a multiple of the other, or part of each rollout would be left over`,
    );
  const perPass = c.perDeviceTrainBatchSize * worldSize();
  c.stepCompletions = perPass * accumulation;
  // Several rollouts within one optimizer step see the same weights: they are one larger rollout.
  c.rolloutCompletions = perPass * Math.max(c.stepsPerGeneration, accumulation);
  if (c.rolloutCompletions % c.numGenerations !== 0)
    throw incompatible(
      `A rollout of ${c.rolloutCompletions} completions (perDeviceTrainBatchSize ${c.perDeviceTrainBatchSize} x ${c.rolloutCompletions / perPass}${perPass === c.perDeviceTrainBatchSize ? '' : ` x ${worldSize()} ranks`}) is not a multiple of numGenerations (${c.numGenerations})`,
    );
  if (c.maxStaleness !== undefined && c.maxStaleness < staleAnyway(c))
    throw incompatible(
      `maxStaleness ${c.maxStaleness}: the last optimizer step on a rollout is ${staleAnyway(c)} steps after the weights that it is drawn by (${stepsPerRollout(c)} steps on each rollout${c.generateAhead ? ', generateAhead' : ''})`,
    );
  if (c.resume !== undefined && c.outputDir === undefined && c.resume === 'auto') throw incompatible("resume: 'auto' needs outputDir");
}

export function resolveSFTConfig(config: SFTConfig): ResolvedSFTConfig {
  rejectTrlNames('SFTConfig', config, Object.keys(sftConfigOptions));
  refuseLora(config);
  const c = resolveOptions('SFTConfig', sftConfigOptions, config) as unknown as ResolvedSFTConfig;
  checkTrained(c);
  return c;
}
