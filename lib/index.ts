export { FusedGrpoError, type ErrorCode } from './errors.js';
export type { StepMetrics, Sample, GRPOStep } from './trainer/types.js';
export { Policy, type Completion, type GenerateResult, type Prompt, type ScoreResult, type ScoredCompletion } from './engine/policy.js';
export type { GenerateOptions, LoadOptions, ScoreOptions } from './engine/options.js';
export type { ChatMessage } from './engine/chat.js';
