// The functional ops: they need the core addon only.
export { groupAdvantages } from './group_advantages.js';
export {
  selectiveLogp,
  selectiveLogpBackward,
  type SelectiveLogp,
  type SelectiveLogpInput,
  type SelectiveLogpBackwardInput,
} from './selective_logp.js';
export { policyLoss, type PolicyLossBatch } from './policy_loss.js';
export { grpoLoss, type GrpoLossBatch, type GrpoLossConfig, type GrpoLossResult } from './grpo_loss.js';
export type { OnTensor } from './tensors.js';
export type {
  AdvantageConfig,
  GroupAdvantages,
  Groups,
  KlEstimator,
  LogitsDtype,
  LogitsInput,
  LossConfig,
  LossMetrics,
  LossType,
  PolicyBatch,
  Rewards,
  SequenceLayout,
} from './types.js';
