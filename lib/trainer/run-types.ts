// What a Run is given, and what its steps give back.
import type { ColumnMapping } from '../data/columns.js';
import type { Policy } from '../engine/policy.js';
import type { AccumulateResult, GradientOptions, NativeTraining } from '../engine/training.js';
import type { FusedGrpoError } from '../errors.js';
import type { Logger } from '../loggers/types.js';
import type { TrainerKind } from './checkpoint.js';
import type { ResolvedSFTConfig } from './config.js';
import type { Dataset, RowCheck } from './dataset.js';
import type { RankMetrics } from './types.js';
import type { TrainedConfig } from './trained-part.js';

/** SFTConfig's common part: what Run itself reads. */
export type CommonConfig = Pick<
  ResolvedSFTConfig,
  | 'outputDir'
  | 'maxSteps'
  | 'microBatchTokens'
  | 'weightDecay'
  | 'adamBeta1'
  | 'adamBeta2'
  | 'adamEpsilon'
  | 'maxGradNorm'
  | 'seed'
  | 'shuffleDataset'
  | 'saveSteps'
  | 'saveTotalLimit'
  | 'resume'
  | 'reportTo'
  | 'maxSkippedSteps'
  | 'ddpTimeout'
  | 'shardOptimizer'
  | 'device'
  | 'dtype'
> &
  TrainedConfig & { fused?: boolean; workspaceBytes?: number; skipZeroAdvantages?: boolean };

/** What a run needs of the model it trains. */
export interface TrainedModel {
  readonly native: NativeTraining;
  readonly path: string;
  readonly vocabSize: number;
  save(dir: string): Promise<void>;
  dispose(): void;
}

export interface RunOptions<M extends TrainedModel = Policy> {
  kind: TrainerKind;
  model: string | M;
  /** How another model than a policy is loaded, when `model` is a folder. */
  load?: (folder: string, signal: AbortSignal) => Promise<M>;
  dataset: Dataset;
  columnMapping?: ColumnMapping;
  /** What is made of the data set before the first step: rows left out, say. */
  prepare?: (dataset: Dataset) => Promise<Dataset>;
  check: RowCheck;
  config: CommonConfig;
  /** Options that a resumed run must share with the one that wrote the checkpoint. */
  settings: Record<string, unknown>;
  /** More of what the run was given, for config.json. */
  described?: Record<string, unknown>;
  /** What else must be the same on all ranks. */
  trainedOn?: Record<string, unknown>;
  /** The run's model/ is that of the best evaluation. */
  loadBestModelAtEnd?: boolean;
  /** Adds the trainer's own files to a checkpoint. */
  saveMore?: (folder: string) => Promise<void>;
  /** What the other ranks do meanwhile. */
  saveShard?: () => Promise<void>;
  /** Waits for what goes on beside the steps. */
  settled?: () => Promise<void>;
  signal?: AbortSignal;
  loggers?: Logger[];
}

/** `skipped`: the step was not made, as something was not finite; its numbers are NaN. */
export type Updated<R> = R & {
  gradNorm: number;
  skipped?: boolean;
  seconds: { train: number; optimizer: number };
  ranks?: RankMetrics;
};

export type Trained = Updated<AccumulateResult>;

/** A model that is trained beside the policy. */
export interface SecondModel {
  /** Throws when its gradients are not finite. */
  accumulate(options: GradientOptions): Promise<void>;
  step(): Promise<void>;
  discard(): Promise<void>;
}

/** How a step that is not finite is told. */
export interface NotMade<R> {
  result: R;
  /** Writes down which part of the batch is to blame; returns where, in words. */
  record?: (error: FusedGrpoError) => Promise<string | undefined>;
}
