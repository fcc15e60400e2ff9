export { FusedGrpoError, type ErrorCode } from './errors.js';
export type { StepMetrics, RankMetrics, Sample, GRPOStep } from './trainer/types.js';
export type { EvalMetrics } from './trainer/evaluate.js';
export type { CriticConfig, ResolvedPPOConfig } from './trainer/ppo-config.js';
export type { ResolvedRewardConfig } from './trainer/reward-config.js';
export type { Resolved, ResolvedGRPOConfig, ResolvedSFTConfig, ValueOf } from './trainer/config.js';
export type { OptionSpec, OptionTable, OptionType } from './options.js';
export type { Tokenizer, TokenizerConfig } from './engine/tokenizer.js';
export * from './ops/index.js';
export { capabilities, type Capabilities, type DeviceInfo } from './capabilities.js';
export { Policy, type Completion, type GenerateResult, type Prompt, type ScoreResult, type ScoredCompletion } from './engine/policy.js';
export type { Adapter, LoraOptions } from './engine/adapter.js';
export { Tensor, type TensorData, type TensorDtype, type TensorOptions } from './engine/tensor.js';
export { ProcessGroup, type AllReduceOptions, type ProcessGroupOptions } from './distributed/process-group.js';
export type { GenerateOptions, LoadOptions, ScoreOptions } from './engine/options.js';
export type { ChatMessage } from './engine/chat.js';
export type { Trainer } from './trainer/trainer.js';
export { GRPOTrainer, type GRPOTrainerOptions } from './trainer/grpo-trainer.js';
export { PPOTrainer, type PPOTrainerOptions } from './trainer/ppo-trainer.js';
export { ppoConfigOptions, type PPOConfig } from './trainer/ppo-config.js';
export { SFTTrainer, type SFTMetrics, type SFTStep, type SFTTrainerOptions } from './trainer/sft-trainer.js';
export { RewardTrainer, type RewardMetrics, type RewardStep, type RewardTrainerOptions } from './trainer/reward-trainer.js';
export { rewardConfigOptions, type RewardConfig } from './trainer/reward-config.js';
export { RewardModel, type RewardModelOptions, type RewardTransform } from './reward/reward-model.js';
export type { RewardItem, RewardText } from './reward/texts.js';
export { withReplay, type ReplayOptions } from './reward/replay.js';
export type { TrainingConfig, PolicyConfig, SampledConfig } from './trainer/config-types.js';
export { grpoConfigOptions, sftConfigOptions, type GRPOConfig, type SFTConfig } from './trainer/config.js';
export type {
  AnyPrompt,
  ChatPrompt,
  RolloutCompletion,
  RolloutFn,
  RolloutPrompt,
  RolloutRequest,
  RolloutResult,
  RolloutSampling,
  SyncedWeights,
  SyncWeights,
  TextPrompt,
} from './trainer/rollout-function.js';
export { openAICompatible, type ServerRollout } from './rollouts/openai-compatible.js';
export type { OpenAICompatibleOptions, ReloadFn } from './rollouts/options.js';
export type { RolloutReport, ServerNumbers } from './rollouts/stats.js';
export type {
  AnyRewardFn,
  AnyRewardInput,
  AnyRow,
  RewardFn,
  RewardFuncs,
  RewardInput,
  RewardInputOf,
  RewardValue,
  TextRow,
  TrainerState,
} from './trainer/reward-types.js';
export type { StepReward, StepRewards as CompletionSteps } from './trainer/process-rewards.js';
export type { Dataset, Row } from './trainer/dataset.js';
export type { ColumnMapping } from './data/columns.js';
export { presets } from './presets.js';
export { ALGORITHMS, algorithmConfigs, type Algorithm } from './trainer/algorithms.js';
export type { DownloadProgress } from './hub/resolve.js';
export type { Logger, RunEnd, RunStart } from './loggers/types.js';
export { TensorBoardLogger } from './loggers/tensorboard.js';
export * as rewards from './rewards/index.js';
export { accuracyReward, perCompletion, reasoningAccuracyReward, thinkFormatReward } from './rewards/index.js';
export type { OneCompletion, OneCompletionFn, OneCompletionOf, PerCompletionFn, PerCompletionOptions } from './rewards/index.js';
