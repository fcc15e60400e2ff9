// Rows of a preference data set as pairs of token sequences, and which of them can be trained on.
import type { ChatMessage } from '../engine/chat.js';
import { join32 } from '../engine/texts.js';
import type { PairBatch } from '../engine/training.js';
import type { ColumnMapping } from '../data/columns.js';
import { FusedGrpoError } from '../errors.js';
import { eachRow, openDataset, type Dataset, type Row, type RowCheck } from '../trainer/dataset.js';
import { checkPreferenceRow } from '../trainer/rows.js';
import { encodeItem, scoredPart, type RewardSource } from './texts.js';

export interface Pair {
  chosen: Int32Array;
  rejected: Int32Array;
  /** By how much the chosen side's score must be higher; most rows have none. */
  margin: number;
  /** Tokens of the longer side, padding at its end included. */
  length: number;
}

type Text = string | ChatMessage[];

interface FilterOptions {
  lazy?: boolean;
  what: string;
  columnMapping?: ColumnMapping;
}

export class PairReader {
  private readonly cache = new WeakMap<Row, Pair>();
  /** Rows seen so far whose sides are longer than the limit, or equal. */
  long = 0;
  equal = 0;

  /** `limit`: tokens of a side. */
  constructor(
    private readonly source: RewardSource,
    private readonly limit: number,
  ) {}

  read(row: Row): Pair {
    const known = this.cache.get(row);
    if (known) return known;
    const side = (name: 'chosen' | 'rejected') =>
      encodeItem(this.source, { prompt: row.prompt as Text | undefined, completion: row[name] as Text }, `"${name}"`);
    const [chosen, rejected] = [side('chosen'), side('rejected')];
    const pair = {
      chosen: scoredPart(this.source, chosen),
      rejected: scoredPart(this.source, rejected),
      margin: (row.margin as number | null | undefined) ?? 0,
      length: Math.max(chosen.length, rejected.length),
    };
    this.cache.set(row, pair);
    return pair;
  }

  /** Whether a row can be trained on; what cannot is counted. */
  private readonly fits = (row: Row): boolean => {
    const { chosen, rejected, length } = this.read(row);
    const fits = length <= this.limit;
    if (!fits) ++this.long;
    else if (
      Buffer.from(chosen.buffer, chosen.byteOffset, chosen.byteLength).equals(
        Buffer.from(rejected.buffer, rejected.byteOffset, rejected.byteLength),
      )
    )
      ++this.equal;
    return fits;
  };

  /**
   * The rows that fit. A stream (which is not read ahead when the number of steps is known) is filtered as it comes.
   * @throws FusedGrpoError ERR_DATA naming the row, or when no row fits.
   */
  async filter(dataset: Dataset, { lazy = false, what, columnMapping }: FilterOptions): Promise<Dataset> {
    if (lazy && typeof dataset !== 'string' && !Array.isArray(dataset))
      return { [Symbol.asyncIterator]: () => this.stream(dataset, columnMapping) };
    const source = await openDataset(dataset, { seed: null, lazy: false, check: this.check, columnMapping });
    const all = await source.take(source.length!);
    const rows = all.filter(this.fits);
    if (rows.length === 0)
      throw new FusedGrpoError(
        'ERR_DATA',
        `Every pair of the ${what} has a side of more than ${this.limit} tokens (maxLength, or the model's context)`,
      );
    return rows;
  }

  private async *stream(dataset: Exclude<Dataset, string>, columnMapping: ColumnMapping | undefined): AsyncGenerator<Row> {
    for await (const row of eachRow(dataset, { check: this.check, columnMapping })) if (this.fits(row)) yield row;
  }

  /** What is wrong with a row, in words that name it. */
  private readonly check: RowCheck = (row, where) => {
    checkPreferenceRow(row, where);
    try {
      this.read(row);
    } catch (cause) {
      throw new FusedGrpoError('ERR_DATA', `${where}: ${(cause as Error).message}`, { cause });
    }
  };

  /** In words: what was left out or teaches nothing; undefined when there is nothing to say. */
  warning(what: string): string | undefined {
    const parts = [
      ...(this.long ? [`${this.long} pair(s) with a side of more than ${this.limit} tokens were left out`] : []),
      ...(this.equal ? [`${this.equal} pair(s) have equal sides: they cannot be told apart and teach nothing`] : []),
    ];
    return parts.length > 0 ? `${what}: ${parts.join('; ')}` : undefined;
  }
}

/** Pairs as the engine takes them. */
export function pairBatch(pairs: readonly Pair[]): PairBatch {
  return {
    ...join32(pairs.flatMap(({ chosen, rejected }) => [chosen, rejected])),
    ...(pairs.some(({ margin }) => margin !== 0) ? { margins: Float32Array.from(pairs, ({ margin }) => margin) } : {}),
  };
}
