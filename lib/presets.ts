import type { AdvantageConfig, LossConfig } from './ops/types.js';

type Preset = Readonly<LossConfig & AdvantageConfig>;

/** Ready configurations of papers: spread one and override what you need, `{ ...presets.dapo, maxCompletionLength: 512 }`. */
export const presets = {
  /** GRPO as DeepSeekMath introduced it, arXiv:2402.03300: per-sequence mean, z-score in the group, plain k3 KL with beta 0.04. */
  grpo: { lossType: 'grpo', epsilon: 0.2, beta: 0.04, useBiasCorrectionKl: false, scaleRewards: 'group' },
  /** DAPO, arXiv:2503.14476: token mean, clip higher (0.28), no KL, overlong completions filtered. */
  dapo: { lossType: 'dapo', epsilon: 0.2, epsilonHigh: 0.28, beta: 0, maskTruncatedCompletions: true, scaleRewards: 'group' },
  /** Dr. GRPO, arXiv:2503.20783: constant normaliser, no division by std, no KL. Needs maxCompletionLength. */
  drGrpo: { lossType: 'dr_grpo', epsilon: 0.2, beta: 0, scaleRewards: 'none' },
  /** Mean over the batch's tokens, TRL's loss_type 'bnpo'. */
  bnpo: { lossType: 'bnpo', epsilon: 0.2, beta: 0, scaleRewards: 'group' },
} as const satisfies Record<string, Preset>;
