export { FusedGrpoError, type ErrorCode } from './errors.js';
export type { StepMetrics, Sample, GRPOStep } from './trainer/types.js';
export * from './ops/index.js';
export { capabilities, type Capabilities, type DeviceInfo } from './capabilities.js';
