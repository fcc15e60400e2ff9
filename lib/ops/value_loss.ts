import { invalidType } from '../errors.js';
import { core } from '../native.js';
import { layout, number, optionalTyped, rowsOf, typed } from './check.js';
import { readOnce } from './inputs.js';
import type { SequenceLayout } from './types.js';

/** What valueLoss takes. */
export type ValueBatch = SequenceLayout & {
  /** Float32Array(N): values by the critic that is trained. */
  values: Float32Array;
  /** Float32Array(N): values when the batch was sampled; needed iff cliprangeValue is given, and never read otherwise. */
  oldValues?: Float32Array;
  /** Float32Array(N): what the values should be (gae's returns). */
  returns: Float32Array;
  /** Uint8Array(N): 0 leaves a position out. What stands there is never read. */
  mask?: Uint8Array;
};

/** Of valueLoss. */
export interface ValueLossConfig {
  /** How far a value may be from its old value and still count (TRL: cliprange_value, 0.2 there). Default: no bound. */
  cliprangeValue?: number;
  /** What the sum is divided by, over the whole optimizer step. Default: the selected tokens of this batch, at least 1. */
  normalizer?: number;
}

/** What valueLoss gives. */
export interface ValueLoss {
  /** The sum divided by the normalizer. */
  loss: number;
  /** (N) d(loss) / d(values); 0 behind the mask and where the clipped error is the larger one. */
  gradValues: Float32Array;
  /** clipRatio: the share of selected tokens whose clipped error is the larger one; 0 when none is selected. */
  metrics: { clipRatio: number; tokens: number };
}

function clipArguments(batch: ValueBatch, config: ValueLossConfig, rows: number): Record<string, unknown> {
  if (config.cliprangeValue === undefined) return { cliprangeValue: Infinity };
  const oldValues = optionalTyped<Float32Array>('oldValues', batch.oldValues, 'Float32Array', rows);
  if (!oldValues) throw invalidType('oldValues', 'a Float32Array (cliprangeValue is given)', batch.oldValues);
  return { cliprangeValue: number('cliprangeValue', config.cliprangeValue, { min: 0 }), oldValues };
}

/**
 * The critic's loss and its derivative: 0.5 * sum over selected tokens of max((v - R)^2, (v' - R)^2) / normalizer, v' = v held within
 * cliprangeValue of its old value. Float64 inside.
 *
 * @throws RangeError ERR_NON_FINITE naming the selected value, old value or return that is not finite
 * @see arXiv:2005.12729 (PPO's value clipping); TRL's PPOTrainer, verl's compute_value_loss
 */
export function valueLoss(batch: ValueBatch, config: ValueLossConfig = {}): ValueLoss {
  const names = ['values', 'oldValues', 'returns', 'mask', 'offsets', 'completionLength'];
  batch = readOnce('valueLoss batch', batch, names);
  config = readOnce('valueLoss config', config, ['cliprangeValue', 'normalizer']);
  const rows = rowsOf('values', batch.values);
  const { gradValues, totals } = core().valueLoss({
    ...layout(batch, rows, 'values'),
    values: typed<Float32Array>('values', batch.values, 'Float32Array', rows),
    returns: typed<Float32Array>('returns', batch.returns, 'Float32Array', rows),
    mask: optionalTyped<Uint8Array>('mask', batch.mask, 'Uint8Array', rows),
    ...clipArguments(batch, config, rows),
    normalizer: config.normalizer === undefined ? 0 : number('normalizer', config.normalizer, { above: 0 }),
  });
  const clipRatio = totals.count > 0 ? totals.clipped / totals.count : 0;
  return { loss: totals.loss, gradValues, metrics: { clipRatio, tokens: totals.count } };
}
