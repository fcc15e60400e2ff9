// Where rows come from: a .jsonl file, an array, or any (async) iterable. A cursor says how far, so that a run can resume.
import { readFileSync } from 'node:fs';
import { FusedGrpoError, invalidType } from '../errors.js';
import { permutation } from '../random.js';

export type Row = Record<string, unknown>;
export type Dataset = string | Iterable<Row> | AsyncIterable<Row>;

/** How many rows have been handed out: `epoch` whole passes and `index` rows of the current one. */
export interface Cursor {
  epoch: number;
  index: number;
}

/** One row of a data set, checked by the trainer that uses it. `where` names it in messages ("prompts.jsonl:7", "row 6"). */
export type RowCheck = (row: Row, where: string) => void;

export interface RowSource {
  /** Rows of one epoch, when known beforehand. */
  readonly length?: number;
  readonly cursor: Cursor;
  /** The next `n` rows, going on with the next epoch where one ends. */
  take(n: number): Promise<Row[]>;
  /** Continues where an earlier run's cursor stood. */
  seek(cursor: Cursor): Promise<void>;
}

function parseLine(line: string, where: string): Row {
  let row: unknown;
  try {
    row = JSON.parse(line);
  } catch (cause) {
    throw new FusedGrpoError('ERR_DATA', `${where}: not valid JSON (${(cause as Error).message})`, { cause });
  }
  if (row === null || typeof row !== 'object' || Array.isArray(row))
    throw new FusedGrpoError('ERR_DATA', `${where}: expected a JSON object`);
  return row as Row;
}

/** Reads a .jsonl file whole; blank lines are skipped, every other line must be a JSON object that passes `check`. */
export function readJsonl(path: string, check: RowCheck): Row[] {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    throw new FusedGrpoError('ERR_DATA', `Cannot read the data set ${path}: ${(cause as Error).message}`, { cause });
  }
  const rows: Row[] = [];
  text
    .replace(/^\uFEFF/, '')
    .split(/\r?\n/)
    .forEach((line, i) => {
      if (line.trim() === '') return;
      const row = parseLine(line, `${path}:${i + 1}`);
      check(row, `${path}:${i + 1}`);
      rows.push(row);
    });
  if (rows.length === 0) throw new FusedGrpoError('ERR_DATA', `The data set ${path} is empty`);
  return rows;
}

class ArraySource implements RowSource {
  readonly cursor: Cursor = { epoch: 0, index: 0 };
  private order?: { epoch: number; of: Int32Array };
  constructor(
    private readonly rows: Row[],
    private readonly seed: number | null,
  ) {}

  get length(): number {
    return this.rows.length;
  }

  private at(epoch: number, index: number): Row {
    if (this.seed === null) return this.rows[index]!;
    if (this.order?.epoch !== epoch) this.order = { epoch, of: permutation(this.rows.length, this.seed, epoch) };
    return this.rows[this.order.of[index]!]!;
  }

  async take(n: number): Promise<Row[]> {
    const taken: Row[] = [];
    while (taken.length < n) {
      taken.push(this.at(this.cursor.epoch, this.cursor.index++));
      if (this.cursor.index === this.rows.length) Object.assign(this.cursor, { epoch: this.cursor.epoch + 1, index: 0 });
    }
    return taken;
  }

  async seek(cursor: Cursor): Promise<void> {
    if (cursor.index >= this.rows.length)
      throw new FusedGrpoError(
        'ERR_DATA',
        `Cannot resume: the data set has ${this.rows.length} rows, fewer than when the checkpoint was written`,
      );
    Object.assign(this.cursor, cursor);
  }
}

/** Rows as they come, in their order; a second epoch iterates the object again. */
class StreamSource implements RowSource {
  readonly cursor: Cursor = { epoch: 0, index: 0 };
  private iterator?: AsyncIterator<Row> | Iterator<Row>;
  constructor(
    private readonly stream: Iterable<Row> | AsyncIterable<Row>,
    private readonly check: RowCheck,
  ) {}

  private open(): AsyncIterator<Row> | Iterator<Row> {
    const stream = this.stream as Partial<AsyncIterable<Row>> & Partial<Iterable<Row>>;
    return stream[Symbol.asyncIterator] ? stream[Symbol.asyncIterator]!() : stream[Symbol.iterator]!();
  }

  async take(n: number): Promise<Row[]> {
    const taken: Row[] = [];
    while (taken.length < n) {
      this.iterator ??= this.open();
      const next = await this.iterator.next();
      if (next.done) {
        if (this.cursor.index === 0)
          throw new FusedGrpoError(
            'ERR_DATA',
            this.cursor.epoch === 0
              ? 'The data set is empty'
              : 'The data set ended and cannot be iterated a second time; give maxSteps that fits it, or an array',
          );
        Object.assign(this.cursor, { epoch: this.cursor.epoch + 1, index: 0 });
        this.iterator = undefined;
        continue;
      }
      this.check(next.value, `row ${this.cursor.index}`);
      taken.push(next.value);
      ++this.cursor.index;
    }
    return taken;
  }

  async seek(cursor: Cursor): Promise<void> {
    while (this.cursor.epoch < cursor.epoch || this.cursor.index < cursor.index) await this.take(1);
  }
}

/**
 * Opens a data set. Files and arrays are shuffled anew each epoch when `seed` is given. Other iterables are read lazily and in their
 * order when the run's length is known (`lazy`), else collected first (they must end).
 */
export async function openDataset(
  dataset: Dataset,
  options: { seed: number | null; lazy: boolean; check: RowCheck; name?: string },
): Promise<RowSource> {
  if (typeof dataset === 'string') return new ArraySource(readJsonl(dataset, options.check), options.seed);
  const iterable = dataset as Partial<AsyncIterable<Row>> & Partial<Iterable<Row>>;
  if (!dataset || (!iterable[Symbol.iterator] && !iterable[Symbol.asyncIterator]))
    throw invalidType(options.name ?? 'trainDataset', 'the path of a .jsonl file, an array or an (async) iterable of rows', dataset);
  if (!Array.isArray(dataset) && options.lazy) return new StreamSource(dataset as Iterable<Row>, options.check);
  const rows: Row[] = [];
  for await (const row of dataset as AsyncIterable<Row>) {
    options.check(row, `row ${rows.length}`);
    rows.push(row);
  }
  if (rows.length === 0) throw new FusedGrpoError('ERR_DATA', 'The data set is empty');
  return new ArraySource(rows, options.seed);
}
