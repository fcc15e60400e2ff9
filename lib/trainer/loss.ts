// The loss options of GRPOConfig, and the loss of one optimizer step.
import { LEVELS, LOSS_OPTIONS, LOSS_TYPES, SAMPLER_MODES, lossArguments, normalizerOf } from '../ops/config.js';
import type { LossConfig, SamplerImportanceSampling } from '../ops/types.js';
import type { TrainLoss } from '../engine/training.js';
import type { OptionTable } from '../options.js';

const share = { type: 'number', min: 0, max: 1, exclusiveMin: true } as const;
const positive = { type: 'number', min: 0, exclusiveMin: true } as const;
const notNegative = { type: 'number', min: 0 } as const;

/** Names, meanings and defaults of LossConfig (docs/losses.md). */
export const lossOptions = {
  lossType: {
    type: 'enum',
    values: LOSS_TYPES,
    default: 'dapo',
    description: 'The surrogate and how token losses are averaged (docs/losses.md)',
  },
  importanceSamplingLevel: {
    type: 'enum',
    values: LEVELS,
    default: 'token',
    description: "Ratio per token, or of the sequence (GSPO: 'sequence')",
  },
  epsilon: { ...notNegative, description: 'Clip below 1 - epsilon; default 0.2 (gmpo, in log space: 0.4)' },
  epsilonHigh: { ...notNegative, description: 'Clip above 1 + epsilonHigh; default epsilon. cispo: the upper bound of the ratio itself' },
  delta: { type: 'number', min: 1, exclusiveMin: true, description: 'Upper bound of the unclipped ratio (two-sided clipping)' },
  dualClip: { type: 'number', min: 1, exclusiveMin: true, description: "PPO's dual clip: bounds the loss of negative advantages" },
  beta: { ...notNegative, default: 0, description: 'Weight of the KL to the reference; 0: no reference is loaded' },
  klEstimator: { type: 'enum', values: ['k1', 'k2', 'k3'], default: 'k3', description: 'Estimator of the KL' },
  klGradient: {
    type: 'enum',
    values: ['estimator', 'straight_through', 'score_function'],
    default: 'estimator',
    description: "The KL's derivative: of the estimate, of k2, or with the score-function term",
  },
  useBiasCorrectionKl: { type: 'boolean', description: 'KL term times the ratio; default true (false with another klGradient)' },
  maskTruncatedCompletions: { type: 'boolean', default: false, description: 'Completions cut at maxCompletionLength carry no loss' },
  topEntropyQuantile: {
    type: 'number',
    min: 0,
    max: 1,
    default: 1,
    description: 'Only this share of the tokens of a micro-batch, those of highest entropy, carries the surrogate',
  },
  entropyThreshold: { type: 'number', description: 'The same by a given entropy in nats' },
  entropyCoef: { type: 'number', default: 0, description: 'Weight of the entropy bonus' },
  samplerImportanceSampling: {
    type: 'enum',
    values: [...SAMPLER_MODES, 'none'],
    description:
      "Correct for what sampling's log-probs differ from scoring's (TRL: vllm_importance_sampling_mode); default: 'sequence_mask' for a rollout function that gives samplerLogps (vespo: 'token_truncate'), else 'none'",
  },
  samplerImportanceSamplingClipMin: { ...notNegative, description: 'Lower bound of that weight; default: none' },
  samplerImportanceSamplingClipMax: { ...positive, default: 3, description: 'Upper bound of that weight' },
  offPolicyMaskThreshold: { type: 'number', description: 'Leave out sequences of negative advantage that drifted further (mean KL)' },
  sapoTemperaturePos: { ...positive, default: 1, description: "SAPO's temperature for positive advantages" },
  sapoTemperatureNeg: { ...positive, default: 1.05, description: "SAPO's temperature for the others" },
  vespoKPos: { ...notNegative, default: 2, description: "VESPO's k for advantages >= 0" },
  vespoLambdaPos: { ...notNegative, default: 3, description: "VESPO's lambda for advantages >= 0" },
  vespoKNeg: { ...notNegative, default: 3, description: "VESPO's k for negative advantages" },
  vespoLambdaNeg: { ...notNegative, default: 2, description: "VESPO's lambda for negative advantages" },
  dppoDivergence: { type: 'enum', values: ['tv', 'kl'], default: 'tv', description: 'The divergence that epsilon bounds in dppo' },
  dppoRatioMax: { ...positive, default: 20, description: "Upper bound of dppo's ratio" },
  clipCovRatio: { ...share, default: 2e-4, description: 'clip_cov: share of the tokens of a micro-batch that is left out' },
  clipCovLow: { type: 'number', default: 1, description: 'clip_cov: covariances from here' },
  clipCovHigh: { type: 'number', default: 5, description: 'clip_cov: covariances up to here' },
  clipCovSeed: { type: 'integer', min: 0, max: 0xffffffff, default: 0, description: 'clip_cov: seed of the choice' },
  klCovRatio: { ...share, default: 2e-4, description: 'kl_cov: share of the tokens of a micro-batch that is penalised' },
  klCovCoef: { ...notNegative, default: 1, description: 'kl_cov: weight of the penalty' },
} as const satisfies OptionTable & Partial<Record<keyof LossConfig, unknown>>;

/** The LossConfig inside a GRPOConfig. A KL in the reward is none in the loss. */
export function lossConfigOf(config: object): LossConfig {
  const given = config as Record<string, unknown>;
  const loss = Object.fromEntries(LOSS_OPTIONS.filter((name) => given[name] !== undefined).map((name) => [name, given[name]]));
  if (loss.samplerImportanceSampling === 'none') delete loss.samplerImportanceSampling;
  return given.klInReward === true ? { ...loss, beta: 0 } : loss;
}

/** Refuses options that cannot go together, before a model is loaded. */
export const checkLoss = (config: object): void => void lossArguments('GRPOConfig', lossConfigOf(config));

/**
 * How a rollout's samplers are corrected for: as the config says; where it says nothing, log-probs from elsewhere are corrected for as TRL does
 * (vllm_importance_sampling_mode), and the policy's own are not.
 */
export function samplerCorrection(
  config: { samplerImportanceSampling?: SamplerImportanceSampling | 'none'; lossType?: string },
  fromElsewhere: boolean,
  haveLogps: boolean,
): SamplerImportanceSampling | undefined {
  const { samplerImportanceSampling: mode, lossType } = config;
  if (mode !== undefined) return mode === 'none' || !haveLogps ? undefined : mode;
  if (!fromElsewhere || !haveLogps) return undefined;
  return lossType === 'vespo' ? 'token_truncate' : 'sequence_mask';
}

/** The loss of an optimizer step of so many selected tokens and sequences. */
export function stepLoss(config: object, tokens: number, sequences: number): TrainLoss {
  const c = lossConfigOf(config);
  const normalizer = normalizerOf(c.lossType ?? 'dapo', tokens, sequences, c.maxCompletionLength ?? 1);
  // The entropy mask keeps a share of the tokens; the bonus is a mean over those.
  const entropyNormalizer = Math.max(1, tokens * (c.topEntropyQuantile ?? 1));
  return { ...c, normalizer, entropyNormalizer };
}
