// The native side of a training step: gradients of a batch, then one optimizer step. See native/torch/training.h.
import type { NativeCall } from './addon.js';
import { lossArguments } from '../ops/config.js';
import type { LossConfig } from '../ops/types.js';
import { settle } from './call.js';
import type { Policy } from './policy.js';

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
  /** Leave out completions of advantage 0 where nothing else gives them a gradient. Default false. */
  skipZeroAdvantages?: boolean;
  signal?: AbortSignal;
}

const LOGITS_BYTES = 2 ** 28;

export interface OptimizerOptions {
  learningRate: number;
  weightDecay: number;
  adamBeta1: number;
  adamBeta2: number;
  adamEpsilon: number;
  maxGradNorm: number;
}

/** What the engine addon's model object offers for training (native/addon/engine/model_train.cc). */
export interface NativeTraining {
  accumulate(batch: TrainBatch, options: object): NativeCall<AccumulateResult>;
  optimizerStep(options: OptimizerOptions): NativeCall<number>;
  zeroGrad(): NativeCall<void>;
  gradientNorm(): NativeCall<number>;
  saveOptimizer(path: string): NativeCall<void>;
  loadOptimizer(path: string): NativeCall<void>;
}

/** Gradients and optimizer moments of one policy. They are created at the first use and freed with the policy. */
export class Training {
  constructor(private readonly policy: Policy) {}

  private get native(): NativeTraining {
    return this.policy.native;
  }

  /** Adds the batch's gradients to the accumulated ones. When it fails or is aborted, they are all thrown away. */
  async accumulate(batch: TrainBatch, loss: TrainLoss, options: AccumulateOptions): Promise<AccumulateResult> {
    const { signal, ...given } = options;
    const rest = { workspaceBytes: LOGITS_BYTES, skipZeroAdvantages: false, ...given };
    const { native, maskTruncated } = lossArguments('loss', loss);
    try {
      return await settle(() => this.native.accumulate(batch, { ...native, maskTruncatedCompletions: maskTruncated, ...rest }), signal);
    } catch (error) {
      await settle(() => this.native.zeroGrad()).catch(() => undefined); // the first error is the one to tell
      throw error;
    }
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
    return settle(() => this.native.optimizerStep(options));
  }

  saveOptimizer(path: string): Promise<void> {
    return settle(() => this.native.saveOptimizer(path));
  }

  loadOptimizer(path: string): Promise<void> {
    return settle(() => this.native.loadOptimizer(path));
  }
}
