// Ready configurations for --preset. Each sets only what the paper changes; everything else keeps its default.

export const presets: Record<string, object> = {
  /** DeepSeekMath, arXiv 2402.03300: sequence means, KL to the reference inside the loss. */
  grpo: { lossType: 'grpo', epsilon: 0.2, beta: 0.04, useBiasCorrectionKl: false },
  /** DAPO, arXiv 2503.14476: token mean, higher upper clip, no KL. */
  dapo: { lossType: 'dapo', epsilon: 0.2, epsilonHigh: 0.28, beta: 0 },
  /** Dr. GRPO, arXiv 2503.20783: constant normaliser, no division by the standard deviation. */
  drGrpo: { lossType: 'dr_grpo', scaleRewards: 'none', beta: 0 },
  /** Mean over the tokens of the local batch, as in TRL's bnpo. */
  bnpo: { lossType: 'bnpo' },
};
