// Reward functions as recipes use them, in TRL's names. Each takes what a GRPOTrainer hands to its rewardFuncs; see docs/recipes.md.
export {
  accuracyReward,
  getAccuracyReward,
  getCosineScaledReward,
  getReasoningAccuracyReward,
  reasoningAccuracyReward,
  type AccuracyOptions,
  type CosineScaledOptions,
  type ReasoningAccuracyOptions,
} from './accuracy.js';
export {
  getThinkAnswerFormatReward,
  getThinkFormatReward,
  thinkAnswerFormatReward,
  thinkFormatReward,
  type ThinkFormatOptions,
} from './format.js';
export { getLanguageConsistencyReward, languageConsistencyReward, type LanguageConsistencyOptions } from './language.js';
export {
  getRepetitionPenaltyReward,
  getSoftOverlongPunishment,
  type RepetitionPenaltyOptions,
  type SoftOverlongOptions,
} from './lengths.js';
export {
  perCompletion,
  type OneCompletion,
  type OneCompletionFn,
  type OneCompletionOf,
  type PerCompletionFn,
  type PerCompletionOptions,
} from './per-completion.js';
export { answersAgree } from './answers-agree.js';
export { textOf } from './text.js';
