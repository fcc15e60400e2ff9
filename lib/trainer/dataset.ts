// Where rows come from: a file, an array, or any (async) iterable. A cursor says how far, so that a run can resume.
import { createHash } from 'node:crypto';
import { statSync } from 'node:fs';
import { describeMapping, renameColumns, type ColumnMapping } from '../data/columns.js';
import { fileRows } from '../data/files.js';
import type { PlacedRow, Row } from '../data/types.js';
import { FusedGrpoError, invalidType } from '../errors.js';
import { permutation } from '../random.js';

export type { Row };
/** The path of a .jsonl, .json (an array of objects) or .parquet file, or rows. */
export type Dataset<Of extends object = object> = string | Iterable<Of> | AsyncIterable<Of>;

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
  /** Of all rows, where they are known beforehand. */
  digest?(): string;
  /** The next `n` rows, going on with the next epoch where one ends. */
  take(n: number): Promise<Row[]>;
  /** Continues where an earlier run's cursor stood. */
  seek(cursor: Cursor): Promise<void>;
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

  digest(): string {
    const hash = createHash('sha256');
    for (const row of this.rows) hash.update(JSON.stringify(row) + '\n');
    return `${this.rows.length} rows, SHA-256 ${hash.digest('hex').slice(0, 16)}`;
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
  private iterator?: AsyncIterator<Row>;
  /** `open`: begins an epoch; its rows are checked already. */
  constructor(
    private readonly open: () => AsyncIterable<Row>,
    private readonly name: string,
  ) {}

  async take(n: number): Promise<Row[]> {
    const taken: Row[] = [];
    while (taken.length < n) {
      this.iterator ??= this.open()[Symbol.asyncIterator]();
      const next = await this.iterator.next();
      if (next.done) {
        if (this.cursor.index === 0)
          throw new FusedGrpoError(
            'ERR_DATA',
            this.cursor.epoch === 0
              ? `${this.name} is empty`
              : `${this.name} ended and cannot be iterated a second time; give maxSteps that fits it, or an array`,
          );
        Object.assign(this.cursor, { epoch: this.cursor.epoch + 1, index: 0 });
        this.iterator = undefined;
        continue;
      }
      taken.push(next.value);
      ++this.cursor.index;
    }
    return taken;
  }

  async seek(cursor: Cursor): Promise<void> {
    while (this.cursor.epoch < cursor.epoch || this.cursor.index < cursor.index) await this.take(1);
  }
}

export interface OpenOptions {
  /** Order of the rows; null: as they come. */
  seed: number | null;
  /** The run's length is known: not every row need be read. */
  lazy: boolean;
  check: RowCheck;
  columnMapping?: ColumnMapping;
  /** Of the option, for messages; default trainDataset. */
  name?: string;
  /** Files from this size are streamed when lazy and not shuffled. Default 256 MB. */
  streamBytes?: number;
}

async function* placed(rows: Iterable<object> | AsyncIterable<object>): AsyncGenerator<PlacedRow> {
  let index = 0;
  for await (const row of rows as AsyncIterable<Row>) yield { row, where: `row ${index++}` };
}

type RowOptions = Pick<OpenOptions, 'check' | 'columnMapping'>;

/** A row under our names, checked. */
function received({ row: given, where }: PlacedRow, { check, columnMapping }: RowOptions): Row {
  if (!columnMapping) {
    check(given, where);
    return given;
  }
  const row = renameColumns(given, columnMapping, where);
  check(row, `${where} (${describeMapping(columnMapping)})`);
  return row;
}

async function* checked(rows: AsyncIterable<PlacedRow>, options: RowOptions): AsyncGenerator<Row> {
  for await (const placedRow of rows) yield received(placedRow, options);
}

/** Rows of an iterable once, in their order, renamed and checked. */
export const eachRow = (rows: Iterable<object> | AsyncIterable<object>, options: RowOptions): AsyncGenerator<Row> =>
  checked(placed(rows), options);

/** All rows of a file once, in their order, each with what names it. */
export async function* readRows(path: string, options: RowOptions): AsyncGenerator<PlacedRow> {
  for await (const placedRow of fileRows(path)) yield { row: received(placedRow, options), where: placedRow.where };
}

async function collect(rows: AsyncIterable<Row>, name: string, seed: number | null): Promise<RowSource> {
  const all: Row[] = [];
  for await (const row of rows) all.push(row);
  if (all.length === 0) throw new FusedGrpoError('ERR_DATA', `${name} is empty`);
  return new ArraySource(all, seed);
}

/** A large file that is not shuffled is read as it is needed; any other is read and checked whole before the run begins. */
function isStreamed(path: string, { seed, lazy, streamBytes = 256e6 }: OpenOptions): boolean {
  return lazy && seed === null && (statSync(path, { throwIfNoEntry: false })?.size ?? 0) >= streamBytes;
}

/**
 * Opens a data set. Files and arrays are shuffled anew each epoch when `seed` is given. Other iterables are read lazily and in their
 * order when the run's length is known (`lazy`), else collected first (they must end).
 */
export async function openDataset(dataset: Dataset, options: OpenOptions): Promise<RowSource> {
  if (typeof dataset === 'string') {
    const name = `The data set ${dataset}`;
    const open = () => checked(fileRows(dataset), options);
    return isStreamed(dataset, options) ? new StreamSource(open, name) : collect(open(), name, options.seed);
  }
  const iterable = dataset as Partial<AsyncIterable<Row>> & Partial<Iterable<Row>>;
  if (!dataset || (!iterable[Symbol.iterator] && !iterable[Symbol.asyncIterator]))
    throw invalidType(
      options.name ?? 'trainDataset',
      'the path of a .jsonl, .json or .parquet file, an array or an (async) iterable of rows',
      dataset,
    );
  const open = () => checked(placed(dataset), options);
  if (!Array.isArray(dataset) && options.lazy) return new StreamSource(open, 'The data set');
  return collect(open(), 'The data set', options.seed);
}
