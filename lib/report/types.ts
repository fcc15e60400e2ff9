import type { RewardMetrics } from '../trainer/reward-trainer.js';
import type { RewardGroup, Sample, StepMetrics } from '../trainer/types.js';

/** A step's numbers as read back from metrics.jsonl: anything but the step may be missing, and NaN was written as null. */
export type ReportStep = { step: number } & { [K in Exclude<keyof StepMetrics, 'step'>]?: StepMetrics[K] | null } & {
  [K in 'accuracy' | 'margin' | 'evalAccuracy' | 'evalMargin']?:
    RewardMetrics[K] | null; // of a reward model's run
};

export interface ReportSamples {
  step: number;
  samples: readonly Sample[];
  /** Rewards of the step's first groups. */
  groups?: readonly RewardGroup[];
}

/** One held-out problem, answered before and after training. */
export interface BeforeAfterRow {
  prompt: string;
  expected?: string;
  before: string;
  after: string;
  beforeCorrect?: boolean;
  afterCorrect?: boolean;
}

export interface BeforeAfter {
  /** What was measured, e.g. 'held-out accuracy'. */
  label: string;
  /** From 0 to 1. */
  beforeScore: number;
  afterScore: number;
  rows: readonly BeforeAfterRow[];
}

export interface ReportInput {
  title: string;
  /** What is known of the run: config, versions, machine; nested objects are shown as one line each. */
  run?: Record<string, unknown>;
  steps: readonly ReportStep[];
  samples?: readonly ReportSamples[];
  beforeAfter?: BeforeAfter;
  /** Told above the report's own findings. */
  warnings?: readonly string[];
}
