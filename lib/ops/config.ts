// LossConfig -> flat native arguments. Every known option is checked, every unknown one and every senseless combination refused.
import { incompatible, invalidType, invalidValue } from '../errors.js';
import { boolean, choice, number, temperature, type Bounds } from './check.js';
import { readOptions } from './inputs.js';
import type { AdvantageConfig, LossConfig, LossType } from './types.js';

// The order is that of the native enums (math/loss_params.h, math/advantage.h).
export const LOSS_TYPES = [
  'grpo',
  'bnpo',
  'dr_grpo',
  'dapo',
  'cispo',
  'sapo',
  'vespo',
  'luspo',
  'gmpo',
  'reinforce',
  'dppo',
  'clip_cov',
  'kl_cov',
] as const satisfies readonly LossType[];
export const LEVELS = ['token', 'sequence', 'sequence_token'] as const;
export const KL_ESTIMATORS = ['k1', 'k2', 'k3'] as const;
const KL_GRADIENTS = ['estimator', 'straight_through', 'score_function'] as const;
export const SAMPLER_MODES = ['token_truncate', 'token_mask', 'sequence_truncate', 'sequence_mask'] as const;
const DIVERGENCES = ['tv', 'kl'] as const;
const SCALES = ['group', 'batch', 'none'] as const;
export const BASELINES = ['group_mean', 'leave_one_out', 'batch_mean', 'none'] as const;
const TRANSFORMS = ['none', 'rank'] as const;

/** lossTypes whose surrogate is PPO's clip. */
const CLIPPED: readonly LossType[] = ['grpo', 'bnpo', 'dr_grpo', 'dapo', 'luspo', 'clip_cov'];
/** lossTypes that say themselves what a token's ratio is, or have none. */
const TOKEN_LEVEL: readonly LossType[] = ['vespo', 'gmpo', 'reinforce', 'dppo', 'clip_cov', 'kl_cov'];

const above0 = { above: 0 } as const;
const from0 = { min: 0 } as const;
const share = { above: 0, max: 1 } as const;

/** Numbers that are passed on as they are: [default, bounds]. */
const NUMBERS = {
  sapoTemperaturePos: [1, above0],
  sapoTemperatureNeg: [1.05, above0],
  vespoKPos: [2, from0],
  vespoLambdaPos: [3, from0],
  vespoKNeg: [3, from0],
  vespoLambdaNeg: [2, from0],
  dppoRatioMax: [20, above0],
  clipCovRatio: [2e-4, share],
  clipCovLow: [1, {}],
  clipCovHigh: [5, {}],
  clipCovSeed: [0, { min: 0, max: 0xffffffff, integer: true }],
  klCovRatio: [2e-4, share],
  klCovCoef: [1, from0],
  topEntropyQuantile: [1, { min: 0, max: 1 }],
  maxCompletionLength: [1, { min: 1, integer: true }],
  entropyCoef: [0, {}],
  beta: [0, from0],
} as const satisfies Partial<Record<keyof LossConfig, readonly [number, Bounds]>>;

/** Numbers whose absence is a value of its own: [stands for absent, bounds]. */
const OPTIONAL_NUMBERS = {
  delta: [Infinity, above0],
  dualClip: [Infinity, { above: 1 }],
  offPolicyMaskThreshold: [Infinity, {}],
  entropyThreshold: [-Infinity, {}],
  samplerImportanceSamplingClipMin: [-Infinity, from0],
  normalizer: [0, above0],
  entropyNormalizer: [0, above0],
} as const satisfies Partial<Record<keyof LossConfig, readonly [number, Bounds]>>;

export const LOSS_OPTIONS = [
  'lossType',
  'importanceSamplingLevel',
  'epsilon',
  'epsilonHigh',
  'klEstimator',
  'klGradient',
  'useBiasCorrectionKl',
  'temperature',
  'emptySequences',
  'maskTruncatedCompletions',
  'samplerImportanceSampling',
  'samplerImportanceSamplingClipMax',
  'dppoDivergence',
  ...(Object.keys(NUMBERS) as (keyof typeof NUMBERS)[]),
  ...(Object.keys(OPTIONAL_NUMBERS) as (keyof typeof OPTIONAL_NUMBERS)[]),
] as const satisfies readonly (keyof LossConfig)[];

const BY_SEQUENCE: readonly LossType[] = ['grpo', 'sapo', 'luspo', 'gmpo'];
/** The default of `normalizer` for a step of so many selected tokens and sequences: native counted_by(), on the whole step. */
export function normalizerOf(type: LossType, tokens: number, sequences: number, maxCompletionLength: number): number {
  if (type === 'dr_grpo') return Math.max(1, sequences) * maxCompletionLength;
  return Math.max(1, BY_SEQUENCE.includes(type) ? sequences : tokens);
}

export const ADVANTAGE_OPTIONS = [
  'scaleRewards',
  'baseline',
  'transform',
  'ddof',
  'eps',
  'nonFinite',
] as const satisfies readonly (keyof AdvantageConfig)[];

/** Options that cannot go together, and why. */
function refuseCombinations(c: LossConfig, type: LossType): void {
  const level = c.importanceSamplingLevel ?? 'token';
  if (type === 'luspo' && level !== 'sequence')
    throw incompatible("lossType 'luspo' needs importanceSamplingLevel 'sequence': it weighs a sequence's one ratio by its length");
  if (level !== 'token' && TOKEN_LEVEL.includes(type))
    throw incompatible(`lossType '${type}' has no importanceSamplingLevel '${level}': it defines its own weight of a token`);
  for (const name of ['delta', 'dualClip'] as const)
    if (c[name] !== undefined && !CLIPPED.includes(type)) throw incompatible(`${name} bounds a clipped ratio; lossType '${type}' has none`);
  if (type === 'vespo' && c.samplerImportanceSampling?.startsWith('sequence'))
    throw incompatible(
      "lossType 'vespo' takes samplerImportanceSampling 'token_truncate' or 'token_mask': it multiplies token weights itself",
    );
  if (c.topEntropyQuantile !== undefined && c.topEntropyQuantile < 1 && c.entropyThreshold !== undefined)
    throw incompatible('Give either topEntropyQuantile or entropyThreshold, not both');
  if (c.klGradient === 'score_function' && c.useBiasCorrectionKl)
    throw incompatible("klGradient 'score_function' together with useBiasCorrectionKl would count the score-function term twice");
  if (c.lossType === 'dr_grpo' && c.normalizer === undefined && c.maxCompletionLength === undefined)
    throw invalidValue('maxCompletionLength', "an integer >= 1 (lossType 'dr_grpo' without a normalizer needs it)", undefined);
}

/** The defaults that depend on other options. */
export function dependentDefaults(c: LossConfig): { epsilon: number; epsilonHigh: number; useBiasCorrectionKl: boolean } {
  const epsilon = c.epsilon ?? (c.lossType === 'gmpo' ? 0.4 : 0.2);
  const useBiasCorrectionKl = c.useBiasCorrectionKl ?? (c.klGradient ?? 'estimator') === 'estimator';
  return { epsilon, epsilonHigh: c.epsilonHigh ?? epsilon, useBiasCorrectionKl };
}

function dependentArguments(c: LossConfig): Record<string, unknown> {
  if (c.lossType === 'cispo' && c.epsilonHigh === undefined)
    throw invalidType('epsilonHigh', "a number (lossType 'cispo' needs it: the upper bound of the ratio itself, 5 for example)", undefined);
  const { epsilon, epsilonHigh, useBiasCorrectionKl } = dependentDefaults(c);
  return {
    epsilon: number('epsilon', epsilon, from0),
    epsilonHigh: number('epsilonHigh', epsilonHigh, from0),
    useBiasCorrectionKl: boolean('useBiasCorrectionKl', useBiasCorrectionKl),
  };
}

function samplerArguments(c: LossConfig): Record<string, unknown> {
  const mode = c.samplerImportanceSampling;
  const most = number('samplerImportanceSamplingClipMax', c.samplerImportanceSamplingClipMax ?? 3, above0);
  if ((c.samplerImportanceSamplingClipMin ?? 0) > most)
    throw invalidValue(
      'samplerImportanceSamplingClipMin',
      `at most ${most}, samplerImportanceSamplingClipMax,`,
      c.samplerImportanceSamplingClipMin,
    );
  return {
    samplerImportanceSampling: mode === undefined ? 0 : choice('samplerImportanceSampling', mode, SAMPLER_MODES) + 1,
    samplerImportanceSamplingClipMax: most,
  };
}

function numberArguments(c: LossConfig): Record<string, number> {
  const given = Object.entries(NUMBERS).map(([name, [fallback, bounds]]) => [
    name,
    number(name, c[name as keyof typeof NUMBERS] ?? fallback, bounds),
  ]);
  const optional = Object.entries(OPTIONAL_NUMBERS).map(([name, [absent, bounds]]) => {
    const value = c[name as keyof typeof OPTIONAL_NUMBERS];
    return [name, value === undefined ? absent : number(name, value, bounds)];
  });
  return Object.fromEntries([...given, ...optional]) as Record<string, number>;
}

export interface LossArguments {
  beta: number;
  entropyCoef: number;
  maskTruncated: boolean;
  /** Which arrays of a batch are read. */
  readsSampler: boolean;
  readsEntropies: boolean;
  /** Fields of the native argument object. */
  native: Record<string, unknown>;
}

/** `extra`: names that the op accepts beside LossConfig's. */
export function lossArguments(where: string, config: unknown, extra: readonly string[] = []): LossArguments {
  const c: LossConfig = readOptions(where, config, [...LOSS_OPTIONS, ...extra]);
  const typeIndex = choice('lossType', c.lossType ?? 'dapo', LOSS_TYPES);
  const level = choice('importanceSamplingLevel', c.importanceSamplingLevel ?? 'token', LEVELS);
  const numbers = numberArguments(c);
  const native = {
    ...numbers,
    ...dependentArguments(c),
    ...samplerArguments(c),
    lossType: typeIndex,
    klEstimator: choice('klEstimator', c.klEstimator ?? 'k3', KL_ESTIMATORS),
    klGradient: choice('klGradient', c.klGradient ?? 'estimator', KL_GRADIENTS),
    importanceSamplingLevel: level,
    temperature: temperature(c.temperature),
    excludeEmpty: choice('emptySequences', c.emptySequences ?? 'count', ['count', 'exclude']) === 1,
    dppoDivergence: choice('dppoDivergence', c.dppoDivergence ?? 'tv', DIVERGENCES),
  };
  refuseCombinations(c, LOSS_TYPES[typeIndex]!);
  return {
    beta: numbers.beta!,
    entropyCoef: numbers.entropyCoef!,
    maskTruncated: boolean('maskTruncatedCompletions', c.maskTruncatedCompletions ?? false),
    readsSampler: c.samplerImportanceSampling !== undefined,
    readsEntropies: numbers.entropyCoef !== 0 || numbers.topEntropyQuantile! < 1 || numbers.entropyThreshold! > -Infinity,
    native,
  };
}

/** Options of groupAdvantages -> native fields. Unknown names have been refused. */
export function advantageArguments(c: AdvantageConfig): Record<string, unknown> {
  return {
    scaleRewards: choice('scaleRewards', c.scaleRewards ?? 'group', SCALES),
    baseline: choice('baseline', c.baseline ?? 'group_mean', BASELINES),
    transform: choice('transform', c.transform ?? 'none', TRANSFORMS),
    ddof: number('ddof', c.ddof ?? 1, { min: 0, max: 1, integer: true }),
    eps: number('eps', c.eps ?? 1e-4, { min: 0 }),
    excludeNonFinite: choice('nonFinite', c.nonFinite ?? 'error', ['error', 'exclude']) === 1,
  };
}
