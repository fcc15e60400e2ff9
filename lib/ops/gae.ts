import { core } from '../native.js';
import { boolean, layout, number, optionalTyped, rowsOf, typed } from './check.js';
import { readOnce } from './inputs.js';
import type { SequenceLayout } from './types.js';

/** What gae takes. */
export type GaeBatch = SequenceLayout & {
  /** Float32Array(N): the reward of each token; an outcome's reward stands at the last selected token. */
  rewards: Float32Array;
  /** Float32Array(N): the critic's value of the state that each token was chosen in. */
  values: Float32Array;
  /** Float32Array(B): the value of the state behind the last selected token, for completions that were cut off. Default: 0 each. */
  lastValues?: Float32Array;
  /** Uint8Array(N): 0 leaves a position out, as if it were not there. What stands there is never read. */
  mask?: Uint8Array;
};

/** Of gae. */
export interface GaeConfig {
  /** Discount, from 0 to 1. Default 1. */
  gamma?: number;
  /** Weight of later temporal differences, from 0 (one step) to 1 (Monte Carlo). Default 0.95. */
  lambda?: number;
  /** Bring the advantages of all selected tokens to mean 0 and variance 1; `returns` stay as they are. Default false. */
  whiten?: boolean;
}

/**
 * Generalised advantage estimation: delta_t = r_t + gamma V_{t+1} - V_t, A_t = delta_t + gamma lambda A_{t+1}, from the last selected
 * token of a sequence back; masked tokens in between are stepped over. Float64 inside.
 *
 * @returns advantages (N), and returns (N) = A + V before whitening; both 0 behind the mask. Whitened: (A - mean) / sqrt(var + 1e-8) with
 *   the unbiased variance; fewer than two selected tokens, or equal advantages, give 0.
 * @throws RangeError ERR_NON_FINITE naming the selected reward or value that is not finite, or the last value of a sequence with a selected
 *   token
 * @see arXiv:1506.02438; masks and whitening as verl's compute_gae_advantage_return
 */
export function gae(batch: GaeBatch, config: GaeConfig = {}): { advantages: Float32Array; returns: Float32Array } {
  const names = ['rewards', 'values', 'lastValues', 'mask', 'offsets', 'completionLength'];
  batch = readOnce('gae batch', batch, names);
  config = readOnce('gae config', config, ['gamma', 'lambda', 'whiten']);
  const rows = rowsOf('values', batch.values);
  const l = layout(batch, rows, 'values');
  return core().gae({
    ...l,
    values: typed<Float32Array>('values', batch.values, 'Float32Array', rows),
    rewards: typed<Float32Array>('rewards', batch.rewards, 'Float32Array', rows),
    lastValues: optionalTyped<Float32Array>('lastValues', batch.lastValues, 'Float32Array', l.sequences),
    mask: optionalTyped<Uint8Array>('mask', batch.mask, 'Uint8Array', rows),
    gamma: number('gamma', config.gamma ?? 1, { min: 0, max: 1 }),
    lambda: number('lambda', config.lambda ?? 0.95, { min: 0, max: 1 }),
    whiten: boolean('whiten', config.whiten ?? false),
  });
}
