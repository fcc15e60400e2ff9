import type { GRPOConfig } from './trainer/config.js';

/**
 * Ready configurations of papers, for GRPOTrainer and for the functional ops (the options that are LossConfig's or AdvantageConfig's):
 * spread one and override what you need, `{ ...presets.dapo, maxCompletionLength: 512 }`. docs/losses.md lists them option by option.
 * Where a paper leaves a number open, the comment says whose it is.
 */
export const presets = {
  /** GRPO as DeepSeekMath introduced it, arXiv:2402.03300: per-sequence mean, z-score in the group, plain k3 KL with beta 0.04. */
  grpo: { lossType: 'grpo', epsilon: 0.2, beta: 0.04, useBiasCorrectionKl: false, scaleRewards: 'group' },
  /** DeepSeek-R1, arXiv:2501.12948: hardly any clipping (epsilon 10), beta 0.001; its groups are of 16. */
  deepseekR1: { lossType: 'grpo', epsilon: 10, beta: 0.001, useBiasCorrectionKl: false, scaleRewards: 'group' },
  /** DeepSeek-V3.2, arXiv:2512.02556: unbiased KL, off-policy sequence mask, no division by std. The threshold 0.5 is ours. */
  deepseekV32: {
    lossType: 'grpo',
    epsilon: 0.2,
    beta: 0.001,
    useBiasCorrectionKl: true,
    offPolicyMaskThreshold: 0.5,
    scaleRewards: 'none',
  },
  /** DAPO, arXiv:2503.14476: token mean, clip higher (0.28), no KL, overlong completions filtered. */
  dapo: { lossType: 'dapo', epsilon: 0.2, epsilonHigh: 0.28, beta: 0, maskTruncatedCompletions: true, scaleRewards: 'group' },
  /** Dr. GRPO, arXiv:2503.20783: constant normaliser, no division by std, no KL. Needs maxCompletionLength. */
  drGrpo: { lossType: 'dr_grpo', epsilon: 0.2, beta: 0, scaleRewards: 'none' },
  /** Mean over the batch's tokens, TRL's loss_type 'bnpo'. */
  bnpo: { lossType: 'bnpo', epsilon: 0.2, beta: 0, scaleRewards: 'group' },
  /** GSPO, arXiv:2507.18071: one ratio per sequence (its geometric mean), a tight clip, no KL. */
  gspo: { lossType: 'grpo', importanceSamplingLevel: 'sequence', epsilon: 3e-4, epsilonHigh: 4e-4, beta: 0, scaleRewards: 'group' },
  /** GSPO-token, arXiv:2507.18071 section 4.3: the sequence's ratio with each token's own gradient, for advantages per token. */
  gspoToken: {
    lossType: 'grpo',
    importanceSamplingLevel: 'sequence_token',
    epsilon: 3e-4,
    epsilonHigh: 4e-4,
    beta: 0,
    scaleRewards: 'group',
  },
  /** LUSPO, arXiv:2602.05261: GSPO without its length bias: the sequence's loss times its length. */
  luspo: { lossType: 'luspo', importanceSamplingLevel: 'sequence', epsilon: 2e-3, epsilonHigh: 2.5e-3, beta: 0, scaleRewards: 'group' },
  /** CISPO, arXiv:2506.13585, with the bound 5 and the batch's std of ScaleRL, arXiv:2510.13786. */
  cispo: { lossType: 'cispo', epsilonHigh: 5, beta: 0, scaleRewards: 'batch' },
  /** SAPO, arXiv:2511.20347: a soft gate, steeper for negative advantages. */
  sapo: { lossType: 'sapo', sapoTemperaturePos: 1, sapoTemperatureNeg: 1.05, beta: 0, scaleRewards: 'group' },
  /** VESPO, arXiv:2602.10693: a gamma weight of the sequence's ratio, for stale rollouts. */
  vespo: { lossType: 'vespo', vespoKPos: 2, vespoLambdaPos: 3, vespoKNeg: 3, vespoLambdaNeg: 2, beta: 0, scaleRewards: 'group' },
  /** GMPO, arXiv:2507.20673: the geometric mean of the ratios, clipped token by token to exp(-0.4) ... exp(0.4). */
  gmpo: { lossType: 'gmpo', epsilon: 0.4, epsilonHigh: 0.4, beta: 0, scaleRewards: 'group' },
  /** RLOO, arXiv:2402.14740: REINFORCE with the mean of the other rewards as the baseline; no ratio, no clip. */
  rloo: { lossType: 'reinforce', baseline: 'leave_one_out', scaleRewards: 'none', beta: 0 },
  /** INTELLECT-2, arXiv:2505.07291: two-sided clipping (delta 4), beta 0.001. */
  intellect2: { lossType: 'grpo', epsilon: 0.2, delta: 4, beta: 0.001, useBiasCorrectionKl: false, scaleRewards: 'group' },
  /** Dual-clip PPO, arXiv:1912.09729, on group advantages; 3 is verl's default. */
  dualClip: { lossType: 'dapo', epsilon: 0.2, dualClip: 3, beta: 0, scaleRewards: 'group' },
  /** DPPO with the binary total variation, arXiv:2602.04879; thresholds 0.2 as prime-rl. */
  dppo: { lossType: 'dppo', dppoDivergence: 'tv', epsilon: 0.2, epsilonHigh: 0.2, dppoRatioMax: 20, beta: 0, scaleRewards: 'group' },
  /** Clip-Cov, arXiv:2505.22617. */
  clipCov: { lossType: 'clip_cov', epsilon: 0.2, clipCovRatio: 2e-4, clipCovLow: 1, clipCovHigh: 5, beta: 0, scaleRewards: 'group' },
  /** KL-Cov, arXiv:2505.22617. */
  klCov: { lossType: 'kl_cov', klCovRatio: 2e-4, klCovCoef: 1, beta: 0, scaleRewards: 'group' },
  /** The 20 % of tokens with the highest entropy ("beyond the 80/20 rule"), arXiv:2506.01939, on DAPO. */
  highEntropy: { lossType: 'dapo', epsilon: 0.2, epsilonHigh: 0.28, topEntropyQuantile: 0.2, beta: 0, scaleRewards: 'group' },
  /** Rewards of several functions normalised one by one before they are added: GDPO, arXiv:2601.05242. */
  gdpo: { lossType: 'dapo', epsilon: 0.2, multiObjectiveAggregation: 'normalize_then_sum', beta: 0, scaleRewards: 'group' },
} as const satisfies Record<string, Readonly<GRPOConfig>>;
