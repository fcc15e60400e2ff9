import { invalidType } from '../errors.js';
import { core } from '../native.js';
import type { NativeMetrics } from './addon.js';
import { layout, optionalTyped, rowsOf, typed, type Layout } from './check.js';
import { lossArguments, type LossArguments } from './config.js';
import { classOf, lengthOf, readOnce, type Typed } from './inputs.js';
import type { LossConfig, LossConfigOf, LossMetrics, LossType, NeedsReference, PolicyBatch } from './types.js';

export const BATCH_NAMES = [
  'oldLogps',
  'refLogps',
  'samplerLogps',
  'advantages',
  'mask',
  'truncated',
  'offsets',
  'completionLength',
] as const satisfies readonly (keyof PolicyLossBatch)[];

/** The token-sized native arguments, without the advantages. @internal */
export function batchArguments(batch: PolicyBatch, l: Layout, config: LossArguments): Record<string, unknown> {
  const floats = (name: string, value: unknown) => optionalTyped<Float32Array>(name, value, 'Float32Array', l.rows);
  const refLogps = config.beta > 0 ? floats('refLogps', batch.refLogps) : undefined;
  if (config.beta > 0 && !refLogps) throw invalidType('refLogps', 'a Float32Array (beta is not 0)', batch.refLogps);
  const truncated = optionalTyped<Uint8Array>('truncated', batch.truncated, 'Uint8Array', l.sequences);
  if (config.maskTruncated && !truncated) throw invalidType('truncated', 'a Uint8Array (maskTruncatedCompletions is on)', batch.truncated);
  return {
    ...config.native,
    ...l,
    mask: optionalTyped<Uint8Array>('mask', batch.mask, 'Uint8Array', l.rows),
    truncated: config.maskTruncated ? truncated : undefined,
    oldLogps: floats('oldLogps', batch.oldLogps),
    refLogps,
    samplerLogps: samplerArguments(batch, l, config),
  };
}

function samplerArguments(batch: PolicyBatch, l: Layout, config: LossArguments): Float32Array | undefined {
  const given = optionalTyped<Float32Array>('samplerLogps', batch.samplerLogps, 'Float32Array', l.rows);
  if (config.readsSampler && !given)
    throw invalidType('samplerLogps', 'a Float32Array (samplerImportanceSampling is on)', batch.samplerLogps);
  return given;
}

/** Advantages of (B) or (N). @internal */
export function advantagesArguments(value: unknown, l: Layout): Record<string, unknown> {
  const length = classOf(value) === 'Float32Array' ? lengthOf(value as Typed) : undefined;
  const perToken = length === l.rows && l.rows !== l.sequences;
  if (!perToken && length !== l.sequences)
    throw invalidType('advantages', `a Float32Array of length ${l.sequences} (per sequence) or ${l.rows} (per token)`, value);
  return { advantages: value, advantagesPerToken: perToken };
}

/** Sums -> means. @internal */
export function lossMetrics(m: NativeMetrics, withKl: boolean, withEntropy: boolean): LossMetrics {
  const mean = (sum: number) => (m.tokens > 0 ? sum / m.tokens : 0);
  const ratio = m.tokens > 0 ? { min: m.ratioMin, mean: mean(m.ratio), max: m.ratioMax } : { min: 0, mean: 0, max: 0 };
  return {
    ...(withKl ? { kl: mean(m.kl) } : {}),
    ...(withEntropy ? { entropy: mean(m.entropy) } : {}),
    clipRatio: { low: mean(m.clippedLow), high: mean(m.clippedHigh), region: mean(m.clippedLow + m.clippedHigh) },
    ratio,
    tokens: m.tokens,
    sequences: m.sequences,
  };
}

/** What policyLoss takes. N token positions in B sequences. */
export type PolicyLossBatch = PolicyBatch & {
  /** (N) log-probs of the current policy. */
  logps: Float32Array;
  /** (N) entropies: needed for entropyCoef, topEntropyQuantile and entropyThreshold, otherwise only for the metric. */
  entropies?: Float32Array;
  /** Float32Array(B), or (N) for one per token. */
  advantages: Float32Array;
};

/** What policyLoss gives. */
export interface PolicyLossResult {
  /** Divided by the normalizer; the entropy bonus included. */
  loss: number;
  /** (N) d(loss) / d(logps); 0 behind the mask. */
  gradLogps: Float32Array;
  /** (N) d(loss) / d(entropies), when entropyCoef is not 0. */
  gradEntropies?: Float32Array;
  /** Means over the selected tokens. */
  metrics: LossMetrics;
}

interface PolicyLossArguments {
  native: Record<string, unknown>;
  withKl: boolean;
  withEntropy: boolean;
}

/** What policyLoss passes on. `exact`: Float64Array logps and entropies, for the native policyLossExact. @internal */
export function policyLossArguments(batch: PolicyLossBatch, config: LossConfig, options?: { exact?: boolean }): PolicyLossArguments {
  const array = options?.exact ? 'Float64Array' : 'Float32Array';
  batch = readOnce('policyLoss batch', batch, [...BATCH_NAMES, 'logps', 'entropies']);
  const loss = lossArguments('policyLoss config', config);
  const rows = rowsOf('logps', batch.logps, array);
  const l = layout(batch, rows, 'logps');
  const logps = typed<Float32Array>('logps', batch.logps, array, rows);
  const entropies = optionalTyped<Float32Array>('entropies', batch.entropies, array, rows);
  if (loss.readsEntropies && !entropies)
    throw invalidType('entropies', `a ${array} (there is an entropyCoef, or a mask by entropy)`, batch.entropies);
  const native = { ...batchArguments(batch, l, loss), ...advantagesArguments(batch.advantages, l), logps, entropies };
  return { native, withKl: loss.beta > 0, withEntropy: entropies !== undefined };
}

/**
 * The policy-gradient loss from per-token log-probs, and its gradient by them: the middle of selectiveLogp -> policyLoss ->
 * selectiveLogpBackward, which grpoLoss does in one go.
 *
 * @returns loss, gradLogps (N; 0 behind the mask), gradEntropies (N) when entropyCoef is not 0, and metrics
 * @throws RangeError ERR_NON_FINITE naming the selected position whose log-prob is NaN or infinite
 * @see docs/losses.md for the formulas and their sources
 */
export function policyLoss<T extends LossType = LossType, B extends number = number>(
  batch: PolicyLossBatch & NeedsReference<B>,
  config?: LossConfigOf<T> & { beta?: B },
): PolicyLossResult {
  const args = policyLossArguments(batch, config ?? {});
  const { gradLogps, gradEntropies, metrics } = core().policyLoss(args.native);
  return {
    loss: metrics.loss,
    gradLogps,
    ...(gradEntropies ? { gradEntropies } : {}),
    metrics: lossMetrics(metrics, args.withKl, args.withEntropy),
  };
}
