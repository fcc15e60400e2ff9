// Prompts as token ids: what every model with a tokenizer and a chat template does with them.
import { FusedGrpoError, invalidType, invalidValue, isRevoked } from '../errors.js';
import { classOf, copied, eachOf, listOf } from '../ops/inputs.js';
import type { TokenLists } from './addon.js';
import type { ChatMessage, ChatTemplate } from './chat.js';
import type { Tokenizer } from './tokenizer.js';

/** A prompt: text, token ids, or a conversation that goes through the checkpoint's chat template. */
export type Prompt = string | Int32Array | readonly ChatMessage[];

/** A model's own words. */
export interface TextSource {
  /** The folder it was loaded from. */
  readonly path: string;
  readonly tokenizer: Tokenizer | undefined;
  readonly chat: ChatTemplate | undefined;
}

export function needTokenizer(source: TextSource, name: string): Tokenizer {
  if (source.tokenizer) return source.tokenizer;
  throw new FusedGrpoError('ERR_TOKENIZER', `${source.path} has no tokenizer.json, so ${name} must be token ids (Int32Array)`);
}

/** A conversation as text by the model's chat template; `name` says in errors what it is. */
export function renderChat(source: TextSource, messages: readonly ChatMessage[], name: string, addGenerationPrompt: boolean): string {
  eachOf<ChatMessage | undefined, void>(name, 'an array of chat messages', messages, (m, i) => {
    if (isRevoked(m) || typeof m?.role !== 'string' || typeof m.content !== 'string')
      throw invalidType(`${name}[${i}]`, 'a chat message { role: string, content: string }', m);
  });
  if (messages.length === 0) throw invalidValue(name, 'at least one chat message', messages);
  if (!source.chat) throw new FusedGrpoError('ERR_TOKENIZER', `${source.path} has no chat template, so ${name} must be text or token ids`);
  return source.chat.render(messages, addGenerationPrompt);
}

/** Token ids of a prompt. Text gets what the tokenizer's post-processor adds; a conversation brings its special tokens itself. */
export function encodePrompt(source: TextSource, prompt: Prompt, name: string): Int32Array {
  if (classOf(prompt) === 'Int32Array') return copied(Int32Array, prompt as Int32Array); // the caller's may change while others are read
  if (typeof prompt === 'string') return needTokenizer(source, name).encode(prompt);
  if (!listOf(prompt)) throw invalidType(name, 'a string, an Int32Array or an array of chat messages', prompt);
  return needTokenizer(source, name).encode(renderChat(source, prompt as readonly ChatMessage[], name, true), false);
}

/** Sequences end to end. */
export function join32(lists: readonly Int32Array[]): TokenLists {
  const offsets = new Int32Array(lists.length + 1);
  lists.forEach((list, i) => (offsets[i + 1] = offsets[i]! + list.length));
  const tokens = new Int32Array(offsets[lists.length]!);
  lists.forEach((list, i) => tokens.set(list, offsets[i]));
  return { tokens, offsets };
}

/** Numbers of sequences end to end, apart again. */
export function split32(flat: Float32Array, offsets: Int32Array): Float32Array[] {
  return Array.from({ length: offsets.length - 1 }, (_, i) => flat.slice(offsets[i], offsets[i + 1]));
}
