// LossConfig -> flat native arguments. Every known option is checked, every unknown or not yet implemented one refused by name.
import { rejectUnknown, invalidValue } from '../errors.js';
import { boolean, choice, notImplemented, number, record, temperature } from './check.js';
import type { AdvantageConfig, LossConfig } from './types.js';

// The order is that of the native enums (math/policy_loss.h, math/advantage.h).
const LOSS_TYPES = ['grpo', 'bnpo', 'dr_grpo', 'dapo'] as const;
const KL_ESTIMATORS = ['k1', 'k2', 'k3'] as const;
const SCALES = ['group', 'batch', 'none'] as const;
const BASELINES = ['group_mean', 'leave_one_out', 'batch_mean', 'none'] as const;
const TRANSFORMS = ['none', 'rank'] as const;

const LOSS_OPTIONS = [
  'lossType',
  'importanceSamplingLevel',
  'epsilon',
  'epsilonHigh',
  'delta',
  'beta',
  'klEstimator',
  'useBiasCorrectionKl',
  'temperature',
  'maxCompletionLength',
  'normalizer',
  'emptySequences',
  'maskTruncatedCompletions',
  'entropyCoef',
  'entropyNormalizer',
] as const satisfies readonly (keyof LossConfig)[];

export const ADVANTAGE_OPTIONS = [
  'scaleRewards',
  'baseline',
  'transform',
  'ddof',
  'eps',
  'nonFinite',
] as const satisfies readonly (keyof AdvantageConfig)[];

/** Named by the contract, not there yet; the value that means "off" is accepted. */
const LATER: Record<string, unknown> = {
  topEntropyQuantile: 1,
  entropyThreshold: undefined,
  samplerImportanceSampling: undefined,
  samplerImportanceSamplingClipMin: undefined,
  samplerImportanceSamplingClipMax: undefined,
  offPolicyMaskThreshold: undefined,
  dualClip: undefined,
  sapoTemperaturePos: undefined,
  sapoTemperatureNeg: undefined,
};
const LATER_LOSSES = ['cispo', 'sapo', 'vespo', 'luspo', 'gmpo'];

function lossType(value: unknown): number {
  const known = LOSS_TYPES.map((n) => `'${n}'`).join(', ');
  if (LATER_LOSSES.includes(value as string)) throw invalidValue('lossType', `one of ${known} (this one is not implemented yet)`, value);
  return choice('lossType', value, LOSS_TYPES);
}

function level(value: unknown): void {
  if (value === 'token') return;
  const later = value === 'sequence' || value === 'sequence_token';
  throw invalidValue('importanceSamplingLevel', later ? "'token' (this one is not implemented yet)" : "'token'", value);
}

/** Drops options set to undefined, and refuses what is unknown or not there yet. */
function known(where: string, config: unknown, names: readonly string[]): Record<string, unknown> {
  const given = Object.entries(record(where, config)).filter(([, v]) => v !== undefined);
  for (const [name, value] of given) if (name in LATER && value !== LATER[name]) throw notImplemented(where, name);
  const options = Object.fromEntries(given.filter(([name]) => !(name in LATER)));
  rejectUnknown(where, options, [...names, ...Object.keys(LATER)]);
  return options;
}

export interface LossArguments {
  beta: number;
  entropyCoef: number;
  maskTruncated: boolean;
  /** Fields of the native argument object. */
  native: Record<string, unknown>;
}

/** `extra`: names that the op accepts beside LossConfig's. */
export function lossArguments(where: string, config: unknown, extra: readonly string[] = []): LossArguments {
  const c = known(where, config, [...LOSS_OPTIONS, ...extra]) as LossConfig;
  level(c.importanceSamplingLevel ?? 'token');
  const type = lossType(c.lossType ?? 'dapo');
  const epsilon = number('epsilon', c.epsilon ?? 0.2, { min: 0 });
  const normalizer = c.normalizer === undefined ? 0 : number('normalizer', c.normalizer, { above: 0 });
  if (LOSS_TYPES[type] === 'dr_grpo' && normalizer === 0 && c.maxCompletionLength === undefined)
    throw invalidValue('maxCompletionLength', "an integer >= 1 (lossType 'dr_grpo' without a normalizer needs it)", undefined);
  const beta = number('beta', c.beta ?? 0, { min: 0 });
  const entropyCoef = number('entropyCoef', c.entropyCoef ?? 0);
  const native = {
    lossType: type,
    epsilon,
    epsilonHigh: number('epsilonHigh', c.epsilonHigh ?? epsilon, { min: 0 }),
    delta: c.delta === undefined ? Infinity : number('delta', c.delta, { above: 0 }),
    beta,
    klEstimator: choice('klEstimator', c.klEstimator ?? 'k3', KL_ESTIMATORS),
    useBiasCorrectionKl: boolean('useBiasCorrectionKl', c.useBiasCorrectionKl ?? true),
    temperature: temperature(c.temperature),
    maxCompletionLength: number('maxCompletionLength', c.maxCompletionLength ?? 1, { min: 1, integer: true }),
    normalizer,
    excludeEmpty: choice('emptySequences', c.emptySequences ?? 'count', ['count', 'exclude']) === 1,
    entropyCoef,
    entropyNormalizer: c.entropyNormalizer === undefined ? 0 : number('entropyNormalizer', c.entropyNormalizer, { above: 0 }),
  };
  return { beta, entropyCoef, maskTruncated: boolean('maskTruncatedCompletions', c.maskTruncatedCompletions ?? false), native };
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
