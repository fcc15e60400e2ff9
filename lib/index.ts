export { FusedGrpoError, type ErrorCode } from './errors.js';
export type { StepMetrics, Sample, GRPOStep } from './trainer/types.js';
export * from './ops/index.js';
export { presets } from './presets.js';
