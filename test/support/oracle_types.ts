// What the oracle works on. Options are named as in docs/losses.md, and their defaults are taken from there.
import type { Var } from './tape.js';

export const LOSS_TYPES = [
  'grpo',
  'bnpo',
  'dr_grpo',
  'dapo',
  'luspo',
  'cispo',
  'sapo',
  'vespo',
  'gmpo',
  'reinforce',
  'dppo',
  'clip_cov',
  'kl_cov',
] as const;
export type LossType = (typeof LOSS_TYPES)[number];

export interface Settings {
  lossType: LossType;
  importanceSamplingLevel: 'token' | 'sequence' | 'sequence_token';
  epsilon: number;
  epsilonHigh: number;
  delta: number;
  dualClip?: number;
  beta: number;
  klEstimator: 'k1' | 'k2' | 'k3';
  klGradient: 'estimator' | 'straight_through' | 'score_function';
  useBiasCorrectionKl: boolean;
  temperature: number;
  maxCompletionLength: number;
  normalizer?: number;
  emptySequences: 'count' | 'exclude';
  entropyCoef: number;
  entropyNormalizer?: number;
  samplerImportanceSampling?: 'token_truncate' | 'token_mask' | 'sequence_truncate' | 'sequence_mask';
  samplerImportanceSamplingClipMin: number;
  samplerImportanceSamplingClipMax: number;
  offPolicyMaskThreshold?: number;
  topEntropyQuantile: number;
  entropyThreshold?: number;
  sapoTemperaturePos: number;
  sapoTemperatureNeg: number;
  vespoKPos: number;
  vespoKNeg: number;
  vespoLambdaPos: number;
  vespoLambdaNeg: number;
  dppoDivergence: 'tv' | 'kl';
  dppoRatioMax: number;
  clipCovRatio: number;
  clipCovLow: number;
  clipCovHigh: number;
  clipCovSeed: number;
  klCovRatio: number;
  klCovCoef: number;
}
export type OracleConfig = Partial<Settings>;

const DEFAULTS: Omit<Settings, 'epsilon' | 'epsilonHigh' | 'useBiasCorrectionKl'> = {
  lossType: 'dapo',
  importanceSamplingLevel: 'token',
  delta: Infinity,
  beta: 0,
  klEstimator: 'k3',
  klGradient: 'estimator',
  temperature: 1,
  maxCompletionLength: 1,
  emptySequences: 'count',
  entropyCoef: 0,
  samplerImportanceSamplingClipMin: -Infinity,
  samplerImportanceSamplingClipMax: 3,
  topEntropyQuantile: 1,
  sapoTemperaturePos: 1,
  sapoTemperatureNeg: 1.05,
  vespoKPos: 2,
  vespoKNeg: 3,
  vespoLambdaPos: 3,
  vespoLambdaNeg: 2,
  dppoDivergence: 'tv',
  dppoRatioMax: 20,
  clipCovRatio: 2e-4,
  clipCovLow: 1,
  clipCovHigh: 5,
  clipCovSeed: 0,
  klCovRatio: 2e-4,
  klCovCoef: 1,
};

export function settings(c: OracleConfig): Settings {
  const given = Object.fromEntries(Object.entries(c).filter(([, v]) => v !== undefined)) as OracleConfig;
  const epsilon = given.epsilon ?? (given.lossType === 'gmpo' ? 0.4 : 0.2);
  const useBiasCorrectionKl = (given.klGradient ?? 'estimator') === 'estimator';
  return { ...DEFAULTS, epsilon, epsilonHigh: epsilon, useBiasCorrectionKl, ...given };
}

/** Arrays over the N positions of a batch; advantages are per token. */
export interface PolicyInput {
  logps: ArrayLike<number>;
  entropies: ArrayLike<number>;
  offsets: ArrayLike<number>;
  /** Mask and truncation together. */
  selected: readonly boolean[];
  advantages: readonly number[];
  oldLogps?: ArrayLike<number>;
  refLogps?: ArrayLike<number>;
  samplerLogps?: ArrayLike<number>;
}

export interface Token {
  position: number;
  advantage: number;
  /** The log-prob that is differentiated, and its value for everything that is not: sg(x). */
  x: Var;
  at: number;
  old: number;
  ref: number;
  /** NaN: unknown. */
  sampler: number;
  /** The entropy that is differentiated, and its value for the mask. */
  entropy: Var;
  entropyAt: number;
  /** x - old. */
  w: Var;
}

/** Selected tokens of one sequence. */
export type Sequence = Token[];

/**
 * Remembers how near the closest discontinuous decision was, relative to the size of the numbers it is made of: fp32 may decide
 * otherwise when that is a rounding.
 */
export class Decisions {
  margin = Infinity;
  near(value: number, bound: number, size: number): void {
    this.margin = Math.min(this.margin, Math.abs(value - bound) / Math.max(1, size));
  }
}
