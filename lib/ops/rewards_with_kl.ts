import { core } from '../native.js';
import { choice, invalidRewards, layout, number, optionalTyped, rowsOf, typed } from './check.js';
import { KL_ESTIMATORS } from './config.js';
import { doubles, readOnce } from './inputs.js';
import type { KlEstimator, Rewards, SequenceLayout } from './types.js';

/** What rewardsWithKl takes. */
export type RewardsWithKlBatch = SequenceLayout & {
  /** (B) one per completion. */
  rewards: Rewards;
  /** Float32Array(N): log-probs of the policy that sampled. */
  logps: Float32Array;
  /** Float32Array(N): log-probs of the reference. Neither is read when beta is 0. */
  refLogps: Float32Array;
  /** Uint8Array(N): 0 leaves a position out. What stands there is never read. */
  mask?: Uint8Array;
};

/** Of rewardsWithKl. */
export interface RewardsWithKlConfig {
  /** Weight of the KL, at least 0. */
  beta: number;
  /** The estimate of a token, from d = min(ref - logp, 40): 'k1' (default) = -d, 'k2' = d^2 / 2, 'k3' = exp(d) - d - 1. */
  klEstimator?: KlEstimator;
}

/**
 * The KL to the reference as part of the reward, rather than of the loss: r_i - beta * sum of the KL estimates of its selected tokens.
 * Float64 inside and out: made for groupAdvantages.
 *
 * @returns (B) rewards; of a completion without selected tokens, its own
 * @throws RangeError ERR_NON_FINITE naming the reward, or the selected log-prob, that is not finite
 * @see arXiv:2203.02155 eq. 2; TRL's RLOOTrainer ('k1'); why 'k1': arXiv:2512.21852
 */
export function rewardsWithKl(batch: RewardsWithKlBatch, config: RewardsWithKlConfig): Float64Array {
  const names = ['rewards', 'logps', 'refLogps', 'mask', 'offsets', 'completionLength'];
  batch = readOnce('rewardsWithKl batch', batch, names);
  config = readOnce('rewardsWithKl config', config, ['beta', 'klEstimator']);
  const rows = rowsOf('logps', batch.logps);
  const l = layout(batch, rows, 'logps');
  const rewards = doubles('rewards', batch.rewards);
  if (rewards.length !== l.sequences) throw invalidRewards(batch.rewards, l.sequences);
  const args = {
    ...l,
    rewards,
    logps: typed<Float32Array>('logps', batch.logps, 'Float32Array', rows),
    refLogps: typed<Float32Array>('refLogps', batch.refLogps, 'Float32Array', rows),
    mask: optionalTyped<Uint8Array>('mask', batch.mask, 'Uint8Array', rows),
    beta: number('beta', config.beta, { min: 0 }),
    klEstimator: choice('klEstimator', config.klEstimator ?? 'k1', KL_ESTIMATORS),
  };
  return core().rewardsWithKl(args).rewards;
}
