// Rewards made of token counts alone: TRL's get_soft_overlong_punishment and get_repetition_penalty_reward.
import { invalidValue, rejectUnknown } from '../errors.js';
import { number } from '../ops/check.js';
import type { AnyRewardFn } from '../trainer/reward-types.js';
import { named } from './accuracy.js';

/** Of getSoftOverlongPunishment. */
export interface SoftOverlongOptions {
  /** Tokens that a completion may have: the trainer's maxCompletionLength. (TRL: max_completion_len.) */
  maxCompletionLength: number;
  /** Tokens before that limit in which the punishment grows from 0 to -1; 0: none but beyond the limit. */
  softPunishCache: number;
}

/**
 * 0 up to L - c tokens, falling linearly to -1 at L, -1 beyond (L maxCompletionLength, c softPunishCache): equation 13 of DAPO,
 * arXiv:2503.14476.
 */
export function getSoftOverlongPunishment(options: SoftOverlongOptions): AnyRewardFn {
  rejectUnknown('getSoftOverlongPunishment options', options, ['maxCompletionLength', 'softPunishCache']);
  const limit = number('maxCompletionLength', options.maxCompletionLength, { integer: true, min: 1 });
  const cache = number('softPunishCache', options.softPunishCache, { integer: true, min: 0 });
  if (cache > limit) throw invalidValue('softPunishCache', `at most maxCompletionLength (${limit})`, cache);
  return named('softOverlongPunishment', ({ completionTokens }) =>
    completionTokens.map(({ length }) => {
      if (length <= limit - cache) return 0;
      return length > limit ? -1 : (limit - cache - length) / cache;
    }),
  );
}

/** Of getRepetitionPenaltyReward. */
export interface RepetitionPenaltyOptions {
  /** Tokens of an n-gram. Default 3. */
  ngramSize?: number;
  /** The penalty of nothing but repetition, at most 0. Default -1. */
  maxPenalty?: number;
}

/** How many different n-grams of tokens there are. Equal ones get equal numbers, length by length: no n-gram is ever written out. */
function distinctNgrams(tokens: Int32Array, size: number): number {
  let ids: ArrayLike<number> = tokens;
  let distinct = new Set(tokens).size;
  for (let n = 2; n <= size; ++n) {
    const numbers = new Map<string, number>();
    const next = new Int32Array(tokens.length - n + 1);
    for (let i = 0; i < next.length; ++i) {
      const key = `${ids[i]} ${tokens[i + n - 1]}`;
      let id = numbers.get(key);
      if (id === undefined) numbers.set(key, (id = numbers.size));
      next[i] = id;
    }
    distinct = numbers.size;
    ids = next;
  }
  return distinct;
}

/**
 * (1 - different n-grams / n-grams) maxPenalty, over a completion's tokens: 0 without repetition, towards maxPenalty for nothing else.
 * Completions shorter than an n-gram get 0. arXiv:2502.03373, appendix C.2.
 */
export function getRepetitionPenaltyReward(options: RepetitionPenaltyOptions = {}): AnyRewardFn {
  rejectUnknown('getRepetitionPenaltyReward options', options, ['ngramSize', 'maxPenalty']);
  const size = number('ngramSize', options.ngramSize ?? 3, { integer: true, min: 1 });
  const maxPenalty = number('maxPenalty', options.maxPenalty ?? -1, { max: 0 });
  return named('repetitionPenaltyReward', ({ completionTokens }) =>
    completionTokens.map((tokens) => {
      const total = tokens.length - size + 1;
      const repeated = total < 1 ? 0 : 1 - distinctNgrams(tokens, size) / total;
      return repeated * maxPenalty || 0; // never -0
    }),
  );
}
