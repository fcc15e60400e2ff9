// PPOConfig: GRPOConfig without what belongs to groups, and what belongs to a critic by TRL's PPOConfig names in camelCase.
import type { PPOConfig } from './config-types.js';
import { incompatible, unknownOption } from '../errors.js';
import { resolveOptions, type OptionTable } from '../options.js';
import { completeConfig, grpoConfigOptions, type Resolved, type ResolvedGRPOConfig } from './config.js';

const NO_GROUP = 'a critic takes the place of the group';
/** Options of GRPOConfig that PPOConfig has not, and why. */
const NOT_HERE: Record<string, string> = {
  ...{ scaleRewards: NO_GROUP, baseline: NO_GROUP, transform: NO_GROUP, multiObjectiveAggregation: NO_GROUP },
  ...{ dynamicSampling: NO_GROUP, maxResamples: NO_GROUP, skipZeroAdvantages: NO_GROUP },
  generateAhead: 'the critic would judge a rollout while it is being trained',
};

const {
  scaleRewards: _scale,
  baseline: _baseline,
  transform: _transform,
  multiObjectiveAggregation: _aggregation,
  dynamicSampling: _dynamic,
  maxResamples: _resamples,
  skipZeroAdvantages: _skip,
  generateAhead: _ahead,
  ...shared
} = grpoConfigOptions;

export type { PPOConfig } from './config-types.js';

/** Every option of PPOConfig. */
export const ppoConfigOptions = {
  ...shared,
  numGenerations: { ...shared.numGenerations, default: 1, min: 1, description: 'Completions per prompt' },
  numIterations: { ...shared.numIterations, default: 4, description: 'Times each rollout is trained on (TRL: num_ppo_epochs)' },
  beta: { ...shared.beta, default: 0.05, description: 'Weight of the KL to the reference (TRL: kl_coef); 0: no reference is loaded' },
  klInReward: {
    ...shared.klInReward,
    default: true,
    description:
      "beta times each token's KL to the reference is subtracted from its reward ('k1' unless klEstimator is given); false: it is added to the loss",
  },
  gamma: { type: 'number', default: 1, min: 0, max: 1, description: 'Discount of later rewards' },
  lam: { type: 'number', default: 0.95, min: 0, max: 1, description: 'GAE: weight of later temporal differences' },
  whitenAdvantages: { type: 'boolean', default: true, description: "Bring a rollout's advantages to mean 0 and variance 1" },
  vfCoef: { type: 'number', default: 0.1, min: 0, exclusiveMin: true, description: "Weight of the critic's loss" },
  cliprangeValue: {
    type: 'number',
    default: 0.2,
    min: 0,
    exclusiveMin: true,
    description: 'The value loss is clipped this far from the old value',
  },
  valueLearningRate: { type: 'number', min: 0, description: 'Peak learning rate of the critic; default: learningRate' },
  missingEosPenalty: { type: 'number', min: 0, description: 'Taken from the reward of a completion that was cut at maxCompletionLength' },
} as const satisfies OptionTable;

/** What the critic reads. */
export interface CriticConfig {
  /** Discount of gae. */
  gamma: number;
  /** gae's lambda. */
  lam: number;
  /** Advantages with mean 0 and variance 1. */
  whitenAdvantages: boolean;
  /** Weight of the critic's loss. */
  vfCoef: number;
  /** How far a value may be from its old one and still count. */
  cliprangeValue: number;
  /** The critic's own learning rate; default: the policy's. */
  valueLearningRate?: number;
  /** Taken from the reward of completions without an end token. */
  missingEosPenalty?: number;
}
/** PPOConfig with all defaults filled in. */
export type ResolvedPPOConfig = ResolvedGRPOConfig & CriticConfig & Omit<Resolved<typeof ppoConfigOptions>, keyof ResolvedGRPOConfig>;

/** What PPOConfig has not; a run's config.json lists them. */
export const NO_GROUPS = {
  ...{ scaleRewards: 'none', baseline: 'none', transform: 'none', multiObjectiveAggregation: 'sum_then_normalize' },
  ...{ dynamicSampling: false, maxResamples: 1, skipZeroAdvantages: false, generateAhead: false },
} as const;

/** Checks a PPOConfig and fills in the defaults. Throws TypeError/RangeError naming the option. */
export function resolvePPOConfig(config: PPOConfig): ResolvedPPOConfig {
  const other = Object.keys(config ?? {}).find((name) => Object.hasOwn(NOT_HERE, name));
  if (other !== undefined) throw unknownOption(`PPO has no '${other}': ${NOT_HERE[other]}`);
  const given = config.beta === 0 && config.klInReward === undefined ? { ...config, klInReward: false } : config;
  const c = resolveOptions('PPOConfig', ppoConfigOptions, given) as unknown as ResolvedPPOConfig;
  // What a critic does not need: one data path, and these say that rewards are left as they are.
  Object.assign(c, NO_GROUPS);
  if (c.importanceSamplingLevel === 'sequence')
    throw incompatible(
      "importanceSamplingLevel 'sequence' has one ratio for all tokens, PPO an advantage for each: use 'token' or 'sequence_token'",
    );
  completeConfig(c, given.klEstimator !== undefined);
  return c;
}
