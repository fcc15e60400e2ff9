// PPO's critic: values of a rollout, advantages from them, and its own part of an optimizer step.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Policy } from '../engine/policy.js';
import { ScalarModel } from '../engine/scalar-model.js';
import { Training, type GradientOptions, type ValueResult } from '../engine/training.js';
import { FusedGrpoError } from '../errors.js';
import { gae } from '../ops/gae.js';
import { rewardsWithKl } from '../ops/rewards_with_kl.js';
import { concatenate, toBatch } from './batch.js';
import { alone, type Ranks } from '../distributed/ranks.js';
import { makeFolder } from './files.js';
import { divided } from './jointly.js';
import type { ResolvedPPOConfig } from './ppo-config.js';
import { stepEnds } from './process-rewards.js';
import type { NamedReward, ScoredRewards } from './rewards.js';
import type { Completion, Rollout } from './rollout.js';
import { chooseTrained } from './trained-part.js';

/** What a critic adds to a rollout: per completion, one per token. */
export interface Valued {
  advantages: Float32Array;
  tokenAdvantages: Float32Array[];
  values: Float32Array[];
  returns: Float32Array[];
}

/** Of one optimizer step, on the critic's side. */
export interface CriticMetrics {
  /** Mean over tokens of half the (clipped) squared error of the value. */
  valueLoss: number;
  /** Share of tokens whose clipped error was the larger one. */
  valueClipRatio: number;
  /** 1: the values are the returns; 0: no better than their mean; below: worse. */
  explainedVariance: number;
  /** Means over tokens. */
  meanValue: number;
  /** Mean of the returns that the critic learns. */
  meanReturn: number;
}

function split(flat: Float32Array, like: { tokens: Int32Array }[]): Float32Array[] {
  let at = 0;
  return like.map(({ tokens }) => flat.slice(at, (at += tokens.length)));
}

export class Critic {
  private model?: ScalarModel;
  private training?: Training;

  constructor(
    private readonly config: ResolvedPPOConfig,
    /** A folder: a reward model, or a language model that gets a new head. Default: the policy as it is when the run begins. */
    private readonly source: string | undefined,
    private readonly signal: AbortSignal,
  ) {}

  /** At a loop's begin; the first time from a checkpoint's folder `trainer/` when the run is resumed. */
  async open(policy: Policy, checkpoint?: string, ranks: Ranks = alone): Promise<void> {
    const { device, dtype, seed } = this.config;
    const folder = checkpoint && join(checkpoint, 'critic');
    if (this.model) return this.shard(ranks);
    if (folder && !existsSync(folder)) throw new FusedGrpoError('ERR_DATA', `Cannot resume: ${folder} is not there`);
    const from = folder ?? this.source;
    this.model = from
      ? await ScalarModel.load(from, { device, dtype, signal: this.signal, ...(folder ? {} : { newHead: { seed, std: 0 } }) })
      : await ScalarModel.from(policy, { seed, std: 0 }); // values begin at 0
    if (this.model.vocabSize !== policy.vocabSize)
      throw new FusedGrpoError(
        'ERR_MODEL',
        `valueModel has ${this.model.vocabSize} tokens, the policy ${policy.vocabSize}: it must read the same ids`,
      );
    const { gradientCheckpointing } = this.config;
    await chooseTrained(this.model, { seed, gradientCheckpointing }); // as a whole, whatever is trained of the policy
    this.training = new Training(this.model);
    await this.shard(ranks);
    if (folder) await this.training.loadOptimizer(join(folder, 'optimizer.safetensors'));
  }

  private async shard({ native }: Ranks): Promise<void> {
    if (this.config.shardOptimizer && native) await this.training!.shardOptimizer(native);
  }

  async save(checkpoint: string): Promise<void> {
    const folder = join(checkpoint, 'critic');
    makeFolder(folder);
    await this.model!.save(folder);
    await this.training!.saveOptimizer(join(folder, 'optimizer.safetensors'));
  }

  /** What another rank than the first adds to its checkpoint: the part of the moments that it has. */
  async saveShard(): Promise<void> {
    if (this.config.shardOptimizer) await this.training!.saveOptimizer('');
  }

  /** The critic as a Hugging Face sequence-classification folder. */
  saveModel(folder: string): Promise<void> {
    return this.model!.save(folder);
  }

  dispose(): void {
    this.model?.dispose();
  }

  /** A token's reward: minus beta times its KL; what was said of the completion stands at its last token, of a step at the step's. */
  private tokenRewards(
    scored: ScoredRewards,
    completions: Completion[],
    rewards: NamedReward[],
    policy: Policy,
    logps: Float32Array[],
    refLogps: Float32Array[] | undefined,
  ): Float32Array {
    const { config } = this;
    const plain = completions.map((c, i) => {
      const r = new Float64Array(c.tokens.length);
      if (r.length === 0) return r;
      const whole = scored.outcome[i]!;
      const penalty = c.finishReason === 'length' ? (config.missingEosPenalty ?? 0) : 0;
      r[r.length - 1]! += (Number.isNaN(whole) ? 0 : whole) - penalty;
      rewards.forEach(({ name, weight }, k) => {
        const steps = scored.steps[k]?.[i];
        if (!steps) return;
        const at = stepEnds(name, i, steps, c, policy);
        at.ends.forEach((end, s) => (r[end]! += weight * at.rewards[s]!));
      });
      return r;
    });
    const all = Float64Array.from(plain.flatMap((r) => [...r]));
    if (!config.klInReward || !refLogps) return Float32Array.from(all);
    // A KL for each token: every token a sequence of its own.
    const offsets = Int32Array.from({ length: all.length + 1 }, (_, i) => i);
    const batch = { rewards: all, logps: concatenate(logps, Float32Array), refLogps: concatenate(refLogps, Float32Array), offsets };
    return Float32Array.from(rewardsWithKl(batch, { beta: config.beta, klEstimator: config.klEstimator }));
  }

  /** Values by the critic as it is, and generalised advantages (arXiv:1506.02438). */
  async judge(
    prompts: Int32Array[],
    completions: Completion[],
    scored: ScoredRewards,
    rewards: NamedReward[],
    policy: Policy,
    logps: Float32Array[],
    refLogps?: Float32Array[],
    ranks: Ranks = alone,
  ): Promise<Valued> {
    const tokens = completions.map((c) => c.tokens);
    const parts = await divided(ranks, tokens.length, async (from, to) => [
      await this.model!.values(prompts.slice(from, to), tokens.slice(from, to), { positions: 'completion', signal: this.signal }),
    ]);
    const values = concatenate(parts, Float32Array);
    const offsets = new Int32Array(tokens.length + 1);
    tokens.forEach((t, i) => (offsets[i + 1] = offsets[i]! + t.length));
    const { gamma, lam: lambda, whitenAdvantages: whiten } = this.config;
    const tokenRewards = this.tokenRewards(scored, completions, rewards, policy, logps, refLogps);
    const { advantages, returns } = gae({ rewards: tokenRewards, values, offsets }, { gamma, lambda, whiten });
    const tokenAdvantages = split(advantages, completions);
    return {
      tokenAdvantages,
      advantages: Float32Array.from(tokenAdvantages, (a) => (a.length ? a.reduce((x, y) => x + y, 0) / a.length : 0)),
      values: split(values, completions),
      returns: split(returns, completions),
    };
  }

  /** Gradients of the value loss of the chosen completions, of which `own` are this rank's. Throws when they are not finite, and leaves none behind then. */
  async accumulate(rollout: Rollout, chosen: Int32Array, options: GradientOptions, own = chosen): Promise<ValueResult> {
    const { tokens, offsets, promptLengths } = toBatch(rollout, own, this.config);
    const pick = (lists: Float32Array[]) =>
      concatenate(
        [...own].map((i) => lists[i]!),
        Float32Array,
      );
    const batch = { tokens, offsets, promptLengths, returns: pick(rollout.returns!), oldValues: pick(rollout.values!) };
    const { vfCoef, cliprangeValue } = this.config;
    const count = chosen.reduce((n, i) => n + rollout.returns![i]!.length, 0);
    const normalizer = Math.max(1, count) / vfCoef;
    const result = await this.training!.accumulateValues(batch, { ...options, normalizer, cliprangeValue });
    if (Number.isFinite(await this.training!.gradientNorm())) return result;
    await this.discard();
    throw new FusedGrpoError('ERR_NON_FINITE', "The gradient of the critic's loss is not finite");
  }

  async step(learningRate: number): Promise<void> {
    const { weightDecay, adamBeta1, adamBeta2, adamEpsilon, maxGradNorm, valueLearningRate, learningRate: peak } = this.config;
    const rate = valueLearningRate === undefined || peak === 0 ? learningRate : (learningRate / peak) * valueLearningRate;
    await this.training!.optimizerStep({ learningRate: rate, weightDecay, adamBeta1, adamBeta2, adamEpsilon, maxGradNorm });
  }

  discard(): Promise<void> {
    return this.training!.zeroGrad();
  }

  metrics({ loss, clipFraction, meanError, meanSquaredError, returnVariance, meanValue, meanReturn }: ValueResult): CriticMetrics {
    const unexplained = meanSquaredError - meanError ** 2;
    return {
      valueLoss: loss / this.config.vfCoef,
      valueClipRatio: clipFraction,
      explainedVariance: returnVariance > 0 ? 1 - unexplained / returnVariance : 0,
      meanValue,
      meanReturn,
    };
  }
}
