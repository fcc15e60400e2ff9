// Every prompt of a data set, checked and measured in tokens before anything is trained.
import { ChatTemplate, type ChatMessage } from '../engine/chat.js';
import { Tokenizer } from '../engine/tokenizer.js';
import { FusedGrpoError } from '../errors.js';
import { readRows, type OpenOptions } from '../trainer/dataset.js';
import type { Row } from '../data/types.js';

export interface PromptStats {
  count: number;
  tokens: { min: number; mean: number; max: number };
  /** The first row, for a trial of the reward functions. */
  first: Row;
  columns: string[];
  /** Columns that not every row has. */
  partial: string[];
}

/** Token ids of a prompt as Policy.encode gives them. */
function encoder(folder: string): (prompt: string | ChatMessage[]) => Int32Array {
  const tokenizer = Tokenizer.load(folder);
  if (!tokenizer) throw new FusedGrpoError('ERR_TOKENIZER', `${folder} has no tokenizer.json, so prompts cannot be text`);
  const chat = ChatTemplate.load(folder, tokenizer.config);
  return (prompt) => {
    if (typeof prompt === 'string') return tokenizer.encode(prompt);
    if (!chat) throw new FusedGrpoError('ERR_TOKENIZER', `${folder} has no chat template, so prompts must be text`);
    return tokenizer.encode(chat.render(prompt, true), false);
  };
}

/**
 * Reads all rows.
 * @param limit tokens that a prompt may have, and the words that say where that comes from
 * @throws FusedGrpoError ERR_DATA, ERR_TOKENIZER, ERR_CONTEXT_LENGTH, naming file and row
 */
export async function measurePrompts(
  path: string,
  folder: string,
  limit: { tokens: number; why: string },
  options: Pick<OpenOptions, 'check' | 'columnMapping'>,
): Promise<PromptStats> {
  const encode = encoder(folder);
  const columns = new Map<string, number>();
  const lengths = { count: 0, sum: 0, min: Infinity, max: 0 };
  let first: Row | undefined;
  for await (const { row, where } of readRows(path, options)) {
    first ??= row;
    for (const name of Object.keys(row)) columns.set(name, (columns.get(name) ?? 0) + 1);
    let n: number;
    try {
      n = encode(row.prompt as string | ChatMessage[]).length;
    } catch (cause) {
      throw new FusedGrpoError('ERR_DATA', `${where}: column "prompt": ${(cause as Error).message}`, { cause });
    }
    if (n === 0) throw new FusedGrpoError('ERR_DATA', `${where}: column "prompt" has no tokens`);
    if (n > limit.tokens)
      throw new FusedGrpoError('ERR_CONTEXT_LENGTH', `${where}: column "prompt" has ${n} tokens and does not fit: ${limit.why}`);
    ++lengths.count;
    lengths.sum += n;
    lengths.min = Math.min(lengths.min, n);
    lengths.max = Math.max(lengths.max, n);
  }
  if (!first) throw new FusedGrpoError('ERR_DATA', `The data set ${path} is empty`);
  const { count, sum, min, max } = lengths;
  return {
    count,
    tokens: { min, mean: sum / count, max },
    first,
    columns: [...columns.keys()],
    partial: [...columns].filter(([, n]) => n < count).map(([name]) => name),
  };
}
