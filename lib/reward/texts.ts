// What a reward model reads: a whole text or conversation as token ids, ended as in training.
import type { ChatMessage } from '../engine/chat.js';
import { needTokenizer, renderChat, type TextSource } from '../engine/texts.js';
import { FusedGrpoError, incompatible, invalidType } from '../errors.js';

/** Text (which gets the end token when it does not end with it), a whole conversation, or token ids as they are. */
export type RewardText = string | readonly ChatMessage[] | Int32Array;

/** One thing to score: a whole text or conversation, or a prompt and what follows it. */
export type RewardItem =
  | RewardText
  | {
      /** What the completion follows. */
      prompt?: RewardText;
      /** What is scored. */
      completion: RewardText;
    };

/** A model's own words, and the tokens that matter for where a score is read. */
export interface RewardSource extends TextSource {
  readonly eosTokenIds: readonly number[];
  readonly padTokenId: number | undefined;
  readonly contextLength: number;
}

/** Text with the end token's text, as TRL's RewardTrainer adds it; where the tokenizer has no such text, its id follows the others. */
function encodeText(source: RewardSource, text: string, name: string): Int32Array {
  const tokenizer = needTokenizer(source, name);
  const eos = tokenizer.specialToken('eos_token')?.text;
  if (eos !== undefined) return tokenizer.encode(text.endsWith(eos) ? text : text + eos);
  const ids = tokenizer.encode(text);
  const end = source.eosTokenIds[0];
  return end === undefined || source.eosTokenIds.includes(ids.at(-1)!) ? ids : Int32Array.from([...ids, end]);
}

const asMessages = (value: string | readonly ChatMessage[]): readonly ChatMessage[] =>
  typeof value === 'string' ? [{ role: 'assistant', content: value }] : value;

function encodeConversation(source: RewardSource, messages: readonly ChatMessage[], name: string): Int32Array {
  return needTokenizer(source, name).encode(renderChat(source, messages, name, false), false);
}

function whole(source: RewardSource, item: { prompt?: RewardText; completion: RewardText }, name: string): Int32Array {
  const { prompt, completion } = item;
  const kind = (value: RewardText | undefined) =>
    value === undefined
      ? undefined
      : typeof value === 'string'
        ? 'text'
        : value instanceof Int32Array
          ? 'ids'
          : Array.isArray(value)
            ? 'chat'
            : 'odd';
  const [first, second] = [kind(prompt), kind(completion)];
  if (first === 'odd') throw invalidType(`${name}.prompt`, 'text, chat messages or token ids', prompt);
  if (second === 'odd' || second === undefined) throw invalidType(name, 'text, chat messages or token ids', completion);
  if (second === 'chat' || (first === 'chat' && second === 'text')) {
    if (first !== undefined && first !== 'chat')
      throw incompatible(`${name}: a completion of chat messages needs a prompt of chat messages`);
    const before = (prompt ?? []) as readonly ChatMessage[];
    return encodeConversation(source, [...before, ...asMessages(completion as string | readonly ChatMessage[])], name);
  }
  if (second === 'text' && first !== 'ids')
    return encodeText(source, ((prompt as string | undefined) ?? '') + (completion as string), name);
  if (second !== first && first !== undefined)
    throw incompatible(`${name}: prompt and completion must both be text, chat messages or token ids`);
  return Int32Array.from([...((prompt as Int32Array | undefined) ?? []), ...(completion as Int32Array)]);
}

/**
 * Token ids of one item, ended as in training. `name` says in errors which item it is.
 * @throws TypeError; FusedGrpoError ERR_TOKENIZER.
 */
export function encodeItem(source: RewardSource, item: RewardItem, name: string): Int32Array {
  const isPair = typeof item === 'object' && item !== null && !Array.isArray(item) && !(item instanceof Int32Array);
  const ids = whole(source, isPair ? (item as { prompt?: RewardText; completion: RewardText }) : { completion: item as RewardText }, name);
  if (ids.length === 0) throw new FusedGrpoError('ERR_INVALID_ARG', `${name} is empty`);
  return ids;
}

/**
 * Up to where the score is read: transformers takes the last token that is not pad_token_id. (Where the end token is the pad token, as TRL
 * has it for tokenizers without one, that is the token before it.) What follows has no influence on the score.
 */
export function scoredPart(source: RewardSource, ids: Int32Array): Int32Array {
  let end = ids.length;
  while (end > 1 && ids[end - 1] === source.padTokenId) --end;
  return ids.subarray(0, end);
}

/** @throws FusedGrpoError ERR_CONTEXT_LENGTH */
export function checkLength(source: RewardSource, ids: Int32Array, name: string): void {
  if (ids.length <= source.contextLength) return;
  throw new FusedGrpoError(
    'ERR_CONTEXT_LENGTH',
    `${name} has ${ids.length} tokens, but the reward model's context has ${source.contextLength} (${source.path})`,
  );
}
