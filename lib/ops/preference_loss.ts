import { core } from '../native.js';
import { number, optionalTyped, rowsOf, typed } from './check.js';
import { readOnce } from './inputs.js';

/** What preferenceLoss takes. B pairs. */
export interface PreferenceBatch {
  /** Float32Array(B): the reward model's scores of the better completion of each pair, */
  chosenRewards: Float32Array;
  /** and of the worse one. */
  rejectedRewards: Float32Array;
  /** Float32Array(B): by how much the scores should differ. Default: 0 each. */
  margins?: Float32Array;
}

/** Of preferenceLoss. */
export interface PreferenceConfig {
  /** Weight of (chosen + rejected)^2, which keeps scores around 0 (TRL: center_rewards_coefficient). Default 0. */
  centerRewardsCoefficient?: number;
  /** What the sums are divided by, over the whole optimizer step. Default: B, at least 1. */
  normalizer?: number;
}

/** What preferenceLoss gives. */
export interface PreferenceLoss {
  /** The sum divided by the normalizer. */
  loss: number;
  /** (B) d(loss) / d(chosenRewards). */
  gradChosen: Float32Array;
  /** (B) d(loss) / d(rejectedRewards). */
  gradRejected: Float32Array;
  /** The share of pairs with chosen > rejected, and the mean of chosen - rejected; both 0 without pairs. */
  metrics: { accuracy: number; margin: number };
}

/**
 * The loss of a reward model by Bradley and Terry, and its derivatives: sum(-log sigmoid(chosen - rejected - margin)) / normalizer +
 * centerRewardsCoefficient * sum((chosen + rejected)^2) / normalizer. Float64 inside; finite however far apart the scores are.
 *
 * @throws RangeError ERR_NON_FINITE naming the score or margin that is not finite
 * @see arXiv:2203.02155 eq. 1; margins arXiv:2307.09288 eq. 2; centering arXiv:2312.09244; TRL's RewardTrainer
 */
export function preferenceLoss(batch: PreferenceBatch, config: PreferenceConfig = {}): PreferenceLoss {
  batch = readOnce('preferenceLoss batch', batch, ['chosenRewards', 'rejectedRewards', 'margins']);
  config = readOnce('preferenceLoss config', config, ['centerRewardsCoefficient', 'normalizer']);
  const pairs = rowsOf('chosenRewards', batch.chosenRewards);
  const { gradChosen, gradRejected, totals } = core().preferenceLoss({
    pairs,
    chosenRewards: typed<Float32Array>('chosenRewards', batch.chosenRewards, 'Float32Array', pairs),
    rejectedRewards: typed<Float32Array>('rejectedRewards', batch.rejectedRewards, 'Float32Array', pairs),
    margins: optionalTyped<Float32Array>('margins', batch.margins, 'Float32Array', pairs),
    centerRewardsCoefficient: number('centerRewardsCoefficient', config.centerRewardsCoefficient ?? 0, { min: 0 }),
    normalizer: number('normalizer', config.normalizer ?? Math.max(pairs, 1), { above: 0 }),
  });
  const mean = (sum: number) => (pairs > 0 ? sum / pairs : 0);
  return { loss: totals.loss, gradChosen, gradRejected, metrics: { accuracy: mean(totals.ranked), margin: mean(totals.margin) } };
}
