// What reward functions read: the text of a completion, whether plain or a chat message, and the columns of the data set.
import type { ChatMessage } from '../engine/chat.js';
import { FusedGrpoError } from '../errors.js';
import type { AnyRewardInput } from '../trainer/reward-types.js';

/** The text of a completion or a prompt: of a chat, that of its last message. */
export function textOf(value: string | ChatMessage[]): string {
  return typeof value === 'string' ? value : (value.at(-1)?.content ?? '');
}

/** The texts of all completions (B). */
export const texts = (input: AnyRewardInput): string[] => input.completions.map(textOf);

/** A column that must be there; `names` in order of preference. Throws ERR_DATA naming the columns that are. */
export function column(input: AnyRewardInput, names: readonly string[], who: string): ArrayLike<unknown> {
  for (const name of names) if (Array.isArray(input[name])) return input[name] as unknown[];
  const own = ['prompts', 'completions', 'completionTokens', 'trainerState', 'signal'];
  const there = Object.keys(input).filter((key) => !own.includes(key));
  throw new FusedGrpoError(
    'ERR_DATA',
    `${who} needs a column ${names.map((n) => `'${n}'`).join(' or ')} in the data set; it has ${there.length ? there.map((n) => `'${n}'`).join(', ') : 'none beside the prompt'}`,
  );
}
