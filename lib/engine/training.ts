// The native side of a training step: gradients of a batch, then one optimizer step. See native/torch/training.h.
import type { NativeCall, NativeGroup, TokenLists } from './addon.js';
import { lossArguments } from '../ops/config.js';
import type { LossConfig } from '../ops/types.js';
import { settle } from './call.js';

/** Sequences of one optimizer step (or a part of it). N: completion tokens in total, in sequence order. */
export interface TrainBatch {
  /** Prompt and completion of every sequence, one after the other. */
  tokens: Int32Array;
  /** (B+1) where each sequence begins in `tokens`. */
  offsets: Int32Array;
  /** (B) how many tokens at the start of each sequence are prompt. */
  promptLengths: Int32Array;
  /** (B) or (N) */
  advantages: Float32Array;
  /** (N) 0: the token carries no loss. */
  mask?: Uint8Array;
  /** (B) 1: completion was cut at its maximum length. */
  truncated?: Uint8Array;
  /** (N) log-probs under the policy that sampled; omitted: on policy. */
  oldLogps?: Float32Array;
  /** (N) log-probs under the reference; needed when beta is not 0. */
  refLogps?: Float32Array;
  /** (N) log-probs by what sampled, for samplerImportanceSampling. */
  samplerLogps?: Float32Array;
}

/** The loss, with the normalizers of the whole optimizer step. */
export interface TrainLoss extends LossConfig {
  normalizer: number;
}

export interface AccumulateResult {
  loss: number;
  tokens: number;
  sequences: number;
  kl?: number;
  entropy: number;
  clipRatio: { low: number; high: number; region: number };
  ratio: { min: number; mean: number; max: number };
  /** Mean log-prob of the selected tokens (its negative is the SFT loss). */
  meanLogp: number;
}

export interface AccumulateOptions {
  /** Rows of one forward and backward (a prompt that several completions share counts once); 0: about 1.5 GB of activations. */
  microBatchTokens: number;
  fused: boolean;
  /** Memory for logits; default 256 MB. */
  workspaceBytes?: number;
  /** Ranks whose gradients are added up: each of them makes this call, with its own part of the step. */
  group?: NativeGroup;
  /** Leave out completions of advantage 0 where nothing else gives them a gradient. Default false. */
  skipZeroAdvantages?: boolean;
  signal?: AbortSignal;
}

/** For calls that add up gradients. */
export interface GradientOptions {
  microBatchTokens: number;
  signal: AbortSignal;
  /** The ranks of the run, where there are several. */
  group?: NativeGroup;
}

const LOGITS_BYTES = 2 ** 28;

/** Preference pairs of one optimizer step (or a part of it), P of them: sequences chosen, rejected, chosen, ... (2 P), none of them empty. */
export interface PairBatch extends TokenLists {
  /** (P) by how much the chosen side must be better; omitted: 0. */
  margins?: Float32Array;
}

export interface PairResult {
  /** Mean of -log sigmoid(chosen - rejected - margin) + coefficient (chosen + rejected)^2: the sum over the pairs / normalizer. */
  loss: number;
  pairs: number;
  /** Share of pairs whose chosen side has the higher score. */
  accuracy: number;
  /** Mean of chosen - rejected. */
  margin: number;
  /** (P) scores before the step. */
  chosen: Float32Array;
  rejected: Float32Array;
}

/** What a critic is trained on. N: completion tokens in total, in sequence order. */
export interface ValueBatch extends TokenLists {
  /** (B) how many tokens at the start of each sequence are prompt; at least 1. */
  promptLengths: Int32Array;
  /** (N) */
  returns: Float32Array;
  /** (N) values when the rollout was scored; needed when cliprangeValue is finite. */
  oldValues?: Float32Array;
  /** (N) 0: the token carries no loss. */
  mask?: Uint8Array;
}

export interface ValueResult {
  /** Sum over the selected tokens of half the (larger, clipped) squared error / normalizer. */
  loss: number;
  tokens: number;
  /** Share of tokens whose clipped error was the larger one. */
  clipFraction: number;
  /** Means over the selected tokens; error = return - value. */
  meanValue: number;
  meanReturn: number;
  meanError: number;
  meanSquaredError: number;
  /** Of the selected returns, dividing by their number. Explained variance: 1 - (meanSquaredError - meanError^2) / returnVariance. */
  returnVariance: number;
  /** (N) before the step; the value of token t is that of the state in which it is chosen. */
  values: Float32Array;
}

export interface OptimizerOptions {
  learningRate: number;
  weightDecay: number;
  adamBeta1: number;
  adamBeta2: number;
  adamEpsilon: number;
  maxGradNorm: number;
}

export interface TrainingMemory {
  /** Numbers that are trained. */
  parameters: number;
  /** Of moments, masters and gradients, as far as they exist by now. */
  optimizerBytes: number;
  /** That a row of a micro-batch needs, about, its logits left out. */
  bytesPerRow: number;
}

/** What the engine addon's model object offers for training (native/addon/engine/model_train.cc). */
export interface NativeTraining {
  accumulate(batch: TrainBatch, options: object): NativeCall<AccumulateResult>;
  accumulatePairs(batch: PairBatch, options: object): NativeCall<PairResult>;
  accumulateValues(batch: ValueBatch, options: object): NativeCall<ValueResult>;
  optimizerStep(options: OptimizerOptions): NativeCall<number>;
  zeroGrad(): NativeCall<void>;
  gradientNorm(): NativeCall<number>;
  /** Names of all parameters, and of the modules that can have an adapter. */
  describe(): NativeCall<{ parameters: string[]; modules: string[] }>;
  /** Trains these parameters only (none: all), with gradient checkpointing or without. Forgets the optimizer. */
  chooseTrained(options: { names: readonly string[]; recompute: boolean }): NativeCall<void>;
  /** Of all weights, as text. */
  digest(): NativeCall<string>;
  trainingMemory(): NativeCall<TrainingMemory>;
  shardOptimizer(group: NativeGroup): NativeCall<void>;
  saveOptimizer(path: string): NativeCall<void>;
  loadOptimizer(path: string): NativeCall<void>;
}

/** Gradients and optimizer moments of one model. They are created at the first use and freed with the model. */
export class Training {
  constructor(private readonly model: { readonly native: NativeTraining; markTrained?(): void }) {}

  private get native(): NativeTraining {
    return this.model.native;
  }

  /** When the call fails or is aborted, all accumulated gradients are thrown away. */
  private async wholly<T>(call: () => NativeCall<T>, signal?: AbortSignal): Promise<T> {
    try {
      return await settle(call, signal);
    } catch (error) {
      await settle(() => this.native.zeroGrad()).catch(() => undefined); // the first error is the one to tell
      throw error;
    }
  }

  /** Adds the batch's gradients to the accumulated ones. When it fails or is aborted, they are all thrown away. */
  async accumulate(batch: TrainBatch, loss: TrainLoss, options: AccumulateOptions): Promise<AccumulateResult> {
    const { signal, ...given } = options;
    const rest = { workspaceBytes: LOGITS_BYTES, skipZeroAdvantages: false, ...given };
    const { native, maskTruncated } = lossArguments('loss', loss);
    return this.wholly(() => this.native.accumulate(batch, { ...native, maskTruncatedCompletions: maskTruncated, ...rest }), signal);
  }

  /**
   * The same for preference pairs and a model with a scalar head. A pair stays in one micro-batch, and what its two sequences begin with is
   * computed once. `normalizer`: pairs of the whole optimizer step.
   */
  accumulatePairs(
    batch: PairBatch,
    options: { normalizer: number; centerRewardsCoefficient: number; microBatchTokens: number; group?: NativeGroup; signal?: AbortSignal },
  ): Promise<PairResult> {
    const { signal, ...rest } = options;
    return this.wholly(() => this.native.accumulatePairs(batch, rest), signal);
  }

  /**
   * The same for the values of completion tokens (PPO's critic). `normalizer`: tokens of the whole optimizer step (divided by the loss's
   * coefficient). `cliprangeValue` Infinity: not clipped.
   */
  accumulateValues(
    batch: ValueBatch,
    options: { normalizer: number; cliprangeValue: number; microBatchTokens: number; group?: NativeGroup; signal?: AbortSignal },
  ): Promise<ValueResult> {
    const { signal, ...rest } = options;
    return this.wholly(() => this.native.accumulateValues(batch, rest), signal);
  }

  /** Forgets the accumulated gradients. */
  zeroGrad(): Promise<void> {
    return settle(() => this.native.zeroGrad());
  }

  /** Norm of the accumulated gradients. */
  gradientNorm(): Promise<number> {
    return settle(() => this.native.gradientNorm());
  }

  /** One AdamW step on the accumulated gradients, which are then zero again. Returns their norm before clipping. */
  optimizerStep(options: OptimizerOptions): Promise<number> {
    this.model.markTrained?.();
    return settle(() => this.native.optimizerStep(options));
  }

  /** What training takes, as far as it is known by now. */
  memory(): Promise<TrainingMemory> {
    return settle(() => this.native.trainingMemory());
  }

  /** Divides moments and master weights among the ranks: before the first step or loadOptimizer(). */
  shardOptimizer(group: NativeGroup): Promise<void> {
    return settle(() => this.native.shardOptimizer(group));
  }

  /** With a sharded optimizer every rank must call it; rank 0 writes. */
  saveOptimizer(path: string): Promise<void> {
    return settle(() => this.native.saveOptimizer(path));
  }

  loadOptimizer(path: string): Promise<void> {
    return settle(() => this.native.loadOptimizer(path));
  }
}
