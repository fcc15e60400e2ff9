import { incompatible, rejectUnknown } from '../errors.js';
import { core } from '../native.js';
import { boolean, gradientArguments, invalidRewards, layout, logitsArguments, record, type Layout } from './check.js';
import { ADVANTAGE_OPTIONS, lossArguments } from './config.js';
import { rewardArguments } from './group_advantages.js';
import { BATCH_NAMES, advantagesArguments, batchArguments, lossMetrics } from './policy_loss.js';
import { LOGITS_NAMES, targetsOf } from './selective_logp.js';
import type { AdvantageConfig, GroupAdvantages, Groups, LogitsInput, LossConfig, LossMetrics, PolicyBatch, Rewards } from './types.js';

/** Give `advantages`, or `rewards` with their groups. */
export interface GrpoLossBatch extends LogitsInput, PolicyBatch, Groups {
  /** (B): turned into advantages by the AdvantageConfig part of the config. */
  rewards?: Rewards;
}

export interface GrpoLossConfig extends LossConfig, AdvantageConfig {
  /** Compute the entropy of every selected row. Default true; the gradient does not depend on it unless entropyCoef is not 0. */
  entropy?: boolean;
  /** Default true: gradLogits is the logits' own memory. Otherwise a new compact (N, V) array. */
  inPlace?: boolean;
}

export interface GrpoLossResult {
  loss: number;
  /** d(loss) / d(logits) in the logits' dtype, 1 / temperature included; rows behind the mask are exactly 0. */
  gradLogits: Float32Array | Uint16Array;
  /** (N) */
  logps: Float32Array;
  /** (B), or (N) when given per token. */
  advantages: Float32Array;
  entropies?: Float32Array;
  /** Group statistics, when rewards were given. */
  groups?: Omit<GroupAdvantages, 'advantages'>;
  metrics: LossMetrics;
}

function advantages(batch: GrpoLossBatch, config: GrpoLossConfig, l: Layout): Record<string, unknown> {
  if (batch.rewards === undefined) {
    if (batch.numGenerations !== undefined || batch.groupOffsets !== undefined)
      throw incompatible('numGenerations and groupOffsets describe rewards; give rewards, or leave them out');
    return advantagesArguments(batch.advantages, l);
  }
  if (batch.advantages !== undefined) throw incompatible('Give either rewards or advantages, not both');
  const made = rewardArguments(batch.rewards, batch, config);
  if (made.count !== l.sequences) throw invalidRewards(batch.rewards, l.sequences);
  return { rewardArguments: made, advantagesPerToken: false };
}

/**
 * GRPO's loss and the gradient of the logits in one native call: rewards -> advantages -> log-probs -> ratio -> clip -> KL ->
 * gradient, with one read and one write of the logits.
 *
 * @param batch logits (N, V), targets (N), layout, advantages or rewards, and optionally oldLogps, refLogps, mask, truncated
 * @param config LossConfig; for rewards also AdvantageConfig; inPlace (default true); entropy (default true)
 * @throws RangeError naming the position of a bad target, log-prob or advantage (nothing has been written then), or the row with NaN,
 *   +Infinity or no finite logit (logits given in place are lost then: that row's gradient is 0, the others are valid)
 * @example
 * const { loss, gradLogits, metrics } = grpoLoss(
 *   { logits, vocabSize: 151936, targets, oldLogps, rewards: [1, 0, 0, 1], numGenerations: 4, completionLength: 128 },
 *   { lossType: 'dapo', epsilon: 0.2, epsilonHigh: 0.28 },
 * );
 */
export function grpoLoss(batch: GrpoLossBatch, config: GrpoLossConfig = {}): GrpoLossResult {
  const { native, withKl, entropy } = grpoArguments(batch, config);
  const out = core().grpoLoss(native);
  return {
    loss: out.metrics.loss,
    gradLogits: native.gradLogits,
    logps: out.logps,
    advantages: out.advantages,
    ...(out.entropies ? { entropies: out.entropies } : {}),
    ...(out.mean ? { groups: { mean: out.mean, std: out.std!, zeroStd: out.zeroStd! } } : {}),
    metrics: lossMetrics(out.metrics, withKl, entropy),
  };
}

/** The checked native arguments, also those of the unfused reference. @internal */
export function grpoArguments(batch: GrpoLossBatch, config: GrpoLossConfig = {}) {
  const names = [...BATCH_NAMES, ...LOGITS_NAMES, 'rewards', 'numGenerations', 'groupOffsets'];
  rejectUnknown('grpoLoss batch', record('grpoLoss batch', batch), names);
  const loss = lossArguments('grpoLoss config', config, [...ADVANTAGE_OPTIONS, 'entropy', 'inPlace']);
  const l = layout(batch, targetsOf(batch.targets).length, 'targets');
  const entropy = boolean('entropy', config.entropy ?? true);
  const logits = logitsArguments(batch, l);
  const native = {
    ...batchArguments(batch, l, loss),
    ...advantages(batch, config, l),
    ...logits,
    ...gradientArguments(logits, l.rows, boolean('inPlace', config.inPlace ?? true)),
    entropy,
  };
  return { native, withKl: loss.beta > 0, entropy };
}
