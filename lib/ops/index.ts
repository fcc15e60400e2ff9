// The functional ops: they need the core addon only.
export { groupAdvantages } from './group_advantages.js';
export { gae, type GaeBatch, type GaeConfig } from './gae.js';
export { informativeGroups } from './informative_groups.js';
export { multiRewardAdvantages, type MultiRewardConfig } from './multi_reward_advantages.js';
export { passAtKAdvantages } from './pass_at_k_advantages.js';
export { preferenceLoss, type PreferenceBatch, type PreferenceConfig, type PreferenceLoss } from './preference_loss.js';
export { processAdvantages, type ProcessAdvantagesConfig, type StepRewards } from './process_advantages.js';
export { rewardsWithKl, type RewardsWithKlBatch, type RewardsWithKlConfig } from './rewards_with_kl.js';
export { valueLoss, type ValueBatch, type ValueLoss, type ValueLossConfig } from './value_loss.js';
export {
  selectiveLogp,
  selectiveLogpBackward,
  type Entropies,
  type OptionalLayout,
  type SelectiveLogp,
  type SelectiveLogpInput,
  type SelectiveLogpBackwardInput,
} from './selective_logp.js';
export { policyLoss, type PolicyLossBatch, type PolicyLossResult } from './policy_loss.js';
export { grpoLoss, type GrpoLossBatch, type GrpoLossConfig, type GrpoLossConfigOf, type GrpoLossResult } from './grpo_loss.js';
export { linearGrpoLoss, type LinearGrpoLossBatch, type LinearGrpoLossConfig, type LinearGrpoLossResult } from './linear_grpo_loss.js';
export type { OnTensor } from './tensors.js';
export type {
  AdvantageConfig,
  GroupAdvantages,
  GradientOf,
  Groups,
  ClippedLossType,
  ImportanceSamplingLevel,
  KlEstimator,
  LogitsArray,
  LogitsDtype,
  LogitsInput,
  LogitsLayout,
  LossConfig,
  LossConfigOf,
  LossRequirements,
  LossMetrics,
  LossType,
  NeedsReference,
  PolicyBatch,
  Rewards,
  RewardsOrAdvantages,
  SamplerImportanceSampling,
  SequenceLayout,
  TokenArrays,
  TokenLevelLossType,
} from './types.js';
