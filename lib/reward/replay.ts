// Iterative GRPO (DeepSeekMath, arXiv:2402.03300 section 4.1.4): the reward model goes on with fresh comparisons and a share of old ones.
import { invalidType, invalidValue, rejectUnknown } from '../errors.js';
import { permutation } from '../random.js';

/** Of withReplay. */
export interface ReplayOptions {
  /** Share of the result that is old, from 0 to below 1. Default 0.1. */
  fraction?: number;
  /** Which old rows are taken. Default 0. */
  seed?: number;
}

/**
 * Fresh rows with old ones among them, as a training set: all of `fresh`, and `fraction` of the result drawn from `history` without repetition
 * (all of `history` where that has fewer).
 * @returns rows in an order that the seed decides
 */
export function withReplay<T>(fresh: readonly T[], history: readonly T[], options: ReplayOptions = {}): T[] {
  if (!Array.isArray(fresh)) throw invalidType('fresh', 'an array of rows', fresh);
  if (!Array.isArray(history)) throw invalidType('history', 'an array of rows', history);
  rejectUnknown('withReplay options', options, ['fraction', 'seed']);
  const { fraction = 0.1, seed = 0 } = options;
  if (typeof fraction !== 'number' || !(fraction >= 0 && fraction < 1))
    throw invalidValue('fraction', 'a number from 0 to below 1', fraction);
  if (!Number.isSafeInteger(seed) || seed < 0) throw invalidValue('seed', 'a non-negative integer', seed);
  const wanted = Math.min(history.length, Math.round((fresh.length * fraction) / (1 - fraction)));
  const old = Array.from(permutation(history.length, seed, 0).subarray(0, wanted), (i) => history[i] as T);
  const rows = [...(fresh as T[]), ...old];
  return Array.from(permutation(rows.length, seed, 1), (i) => rows[i]!);
}
