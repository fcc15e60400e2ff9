// Random loss options: every cell of docs/losses.md that is legal, in the form that both the ops and the oracle take.
import { LOSS_TYPES, type LossType, type OracleConfig } from './oracle_types.js';
import type { Random } from './random.js';

const CLIP: readonly LossType[] = ['grpo', 'bnpo', 'dr_grpo', 'dapo', 'luspo', 'clip_cov'];
const TOKEN_LEVEL: readonly LossType[] = ['vespo', 'gmpo', 'reinforce', 'dppo', 'clip_cov', 'kl_cov'];

function level(r: Random, lossType: LossType): OracleConfig['importanceSamplingLevel'] {
  if (lossType === 'luspo') return 'sequence';
  if (TOKEN_LEVEL.includes(lossType)) return r.pick([undefined, 'token']);
  return r.pick([undefined, 'token', 'sequence', 'sequence_token']);
}

/** Clipping, by the type's own meaning of epsilon. */
function clipping(r: Random, lossType: LossType): OracleConfig {
  if (lossType === 'cispo') return { epsilonHigh: r.pick([0.9, 1.5, 5]), epsilon: r.pick([undefined, 0.1]) };
  if (lossType === 'dppo') {
    const epsilon = r.pick([undefined, 0.02, 0.005]);
    return {
      epsilon,
      epsilonHigh: r.pick([undefined, 0.05, 0.01]),
      dppoDivergence: r.pick(['tv', 'kl']),
      dppoRatioMax: r.pick([undefined, 1.5]),
    };
  }
  const bounds = { epsilon: r.pick([undefined, 0.2, 0.1, 0.3]), epsilonHigh: r.pick([undefined, 0.28, 0.5]) };
  if (!CLIP.includes(lossType)) return bounds;
  return { ...bounds, delta: r.chance(0.4) ? r.pick([1.2, 2, 4]) : undefined, dualClip: r.chance(0.3) ? r.pick([1.5, 3]) : undefined };
}

/** Options of one type only. */
function own(r: Random, lossType: LossType): OracleConfig {
  switch (lossType) {
    case 'sapo':
      return { sapoTemperaturePos: r.pick([undefined, 0.5, 2]), sapoTemperatureNeg: r.pick([undefined, 0.7, 3]) };
    case 'vespo':
      return {
        vespoKPos: r.pick([undefined, 1, 0.5]),
        vespoKNeg: r.pick([undefined, 2]),
        vespoLambdaPos: r.pick([undefined, 1, 0]),
        vespoLambdaNeg: r.pick([undefined, 0.5]),
      };
    case 'clip_cov':
      return {
        clipCovRatio: r.pick([undefined, 0.2, 0.5]),
        clipCovLow: r.pick([0.01, 0.03, 0.1]),
        clipCovHigh: r.pick([undefined, 1, 20]),
        clipCovSeed: r.pick([undefined, 1, 12345, 0x7fffffff]),
      };
    case 'kl_cov':
      return { klCovRatio: r.pick([undefined, 0.1, 0.3]), klCovCoef: r.pick([undefined, 0.2]) };
    default:
      return {};
  }
}

function kl(r: Random): OracleConfig {
  const klGradient = r.pick([undefined, 'estimator', 'straight_through', 'score_function'] as const);
  return {
    beta: r.pick([undefined, 0, 0.04, 1]),
    klEstimator: r.pick([undefined, 'k3', 'k1', 'k2'] as const),
    klGradient,
    useBiasCorrectionKl: klGradient === 'score_function' ? r.pick([undefined, false]) : r.pick([undefined, true, false]),
  };
}

function masks(r: Random, lossType: LossType): OracleConfig {
  const modes = [
    'token_truncate',
    'token_mask',
    ...(lossType === 'vespo' ? [] : (['sequence_truncate', 'sequence_mask'] as const)),
  ] as const;
  const sampler = r.chance(0.35) ? r.pick(modes) : undefined;
  const entropy = r.pick(['no', 'no', 'no', 'no', 'quantile', 'threshold'] as const);
  return {
    samplerImportanceSampling: sampler,
    samplerImportanceSamplingClipMin: sampler && r.pick([undefined, 0.5, 0.9]),
    samplerImportanceSamplingClipMax: sampler && r.pick([undefined, 1.1, 2]),
    offPolicyMaskThreshold: r.chance(0.2) ? r.pick([-0.1, 0.02, 0.2, 1]) : undefined,
    topEntropyQuantile: entropy === 'quantile' ? r.pick([0, 0.2, 0.5, 0.8]) : undefined,
    entropyThreshold: entropy === 'threshold' ? r.pick([0.4, 1, 2]) : undefined,
  };
}

export function randomConfig(r: Random, only: readonly LossType[] = LOSS_TYPES): OracleConfig {
  const lossType = r.pick(only);
  return {
    lossType,
    importanceSamplingLevel: level(r, lossType),
    ...clipping(r, lossType),
    ...own(r, lossType),
    ...kl(r),
    ...masks(r, lossType),
    temperature: r.pick([undefined, 1, 0.7, 1.6]),
    maxCompletionLength: r.pick([7, 16]),
    normalizer: r.chance(0.3) ? r.pick([3, 17.5, 100]) : undefined,
    emptySequences: r.pick([undefined, 'count', 'exclude'] as const),
    entropyCoef: r.chance(0.25) ? r.pick([0.01, -0.5]) : undefined,
    entropyNormalizer: r.chance(0.5) ? 9 : undefined,
  };
}
