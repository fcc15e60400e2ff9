// Chat messages -> text, by the checkpoint's own Jinja template.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { FusedGrpoError } from '../errors.js';
import type { TokenizerConfig } from './tokenizer.js';

/** The part of @huggingface/jinja that is used (its types are an ES module's, which CommonJS cannot import). */
interface Template {
  render(values: Record<string, unknown>): string;
}
interface Jinja {
  Template: new (text: string) => Template;
}

/** One turn of a conversation. Further fields are passed to the template as they are. */
export interface ChatMessage {
  /** Whose turn it is. */
  role: 'system' | 'user' | 'assistant' | (string & {});
  /** What is said. */
  content: string;
  [field: string]: unknown;
}

function templateText(dir: string, config: TokenizerConfig): string | undefined {
  try {
    return readFileSync(join(dir, 'chat_template.jinja'), 'utf8');
  } catch {
    // not there: older folders keep it in tokenizer_config.json
  }
  const inline = config['chat_template'];
  if (typeof inline === 'string') return inline;
  if (!Array.isArray(inline)) return undefined;
  const named = (inline as { name?: unknown; template?: unknown }[]).find((t) => t.name === 'default');
  return typeof named?.template === 'string' ? named.template : undefined;
}

/** bos_token and the like: a string, or an object that holds it. */
function specialTokens(config: TokenizerConfig): Record<string, string> {
  const out: Record<string, string> = {};
  for (const key of ['bos_token', 'eos_token', 'pad_token', 'unk_token']) {
    const value = config[key];
    const content = typeof value === 'string' ? value : (value as { content?: unknown } | null | undefined)?.content;
    if (typeof content === 'string') out[key] = content;
  }
  return out;
}

export class ChatTemplate {
  private constructor(
    private readonly template: Template,
    private readonly special: Record<string, string>,
  ) {}

  /** The folder's template, or undefined. @throws FusedGrpoError ERR_TOKENIZER when it does not parse. */
  static load(dir: string, config: TokenizerConfig): ChatTemplate | undefined {
    const text = templateText(dir, config);
    if (text === undefined) return undefined;
    // eslint-disable-next-line @typescript-eslint/no-require-imports
    const { Template } = require('@huggingface/jinja') as Jinja;
    try {
      return new ChatTemplate(new Template(text), specialTokens(config));
    } catch (cause) {
      throw new FusedGrpoError('ERR_TOKENIZER', `The chat template of ${dir} does not parse: ${(cause as Error).message}`, { cause });
    }
  }

  /**
   * The conversation as text, ending where the assistant's next turn begins (addGenerationPrompt) or after the last message. Special tokens
   * are part of it: encode it without adding any.
   */
  render(messages: readonly ChatMessage[], addGenerationPrompt = true): string {
    try {
      return this.template.render({ ...this.special, messages, add_generation_prompt: addGenerationPrompt });
    } catch (cause) {
      throw new FusedGrpoError('ERR_TOKENIZER', `The chat template failed: ${(cause as Error).message}`, { cause });
    }
  }
}
