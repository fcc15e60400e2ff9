// Parquet files by hyparquet, an ES module: CommonJS loads it by a dynamic import, when the first .parquet file is opened.
import { FusedGrpoError } from '../errors.js';
import type { PlacedRow, Row } from './types.js';

/** Rows that are decoded at a time. A row group may hold millions, and its pages are gone through anew for each block: not too small. */
const BLOCK_ROWS = 1 << 17;

const day = (date: Date): string => date.toISOString().slice(0, 10);

/**
 * A value of a parquet file as JSON would have it, so that a reward function sees the same whatever the file's format: whole numbers are numbers
 * (beyond 2^53 strings), dates 'YYYY-MM-DD', times ISO 8601 in UTC, raw bytes base64, NaN and infinities stay numbers, a missing value is null.
 */
export function plainValue(value: unknown): unknown {
  if (value === undefined || value === null) return null;
  if (typeof value === 'bigint') return BigInt.asIntN(54, value) === value ? Number(value) : value.toString();
  if (typeof value !== 'object') return value;
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? null : value.toISOString();
  if (value instanceof Uint8Array) return Buffer.from(value).toString('base64');
  if (ArrayBuffer.isView(value)) return Array.from(value as unknown as ArrayLike<unknown>, plainValue);
  if (Array.isArray(value)) return value.map(plainValue);
  return Object.fromEntries(Object.entries(value).map(([key, v]) => [key, plainValue(v)]));
}

/** The rows of a .parquet file, block by block. @throws FusedGrpoError ERR_DATA naming the file and, where known, the rows. */
export async function* parquetRows(path: string): AsyncGenerator<PlacedRow> {
  const { asyncBufferFromFile, parquetMetadataAsync, parquetReadObjects } = await import('hyparquet');
  const { compressors } = await import('hyparquet-compressors');
  const file = await asyncBufferFromFile(path);
  const metadata = await parquetMetadataAsync(file).catch((cause: Error) => {
    throw new FusedGrpoError('ERR_DATA', `${path} is not a parquet file, or it is damaged: ${cause.message}`, { cause });
  });
  const parsers = { dateFromDays: (days: number) => day(new Date(days * 86_400_000)) };
  let begin = 0;
  for (const group of metadata.row_groups) {
    const groupEnd = begin + Number(group.num_rows);
    while (begin < groupEnd) {
      const end = Math.min(groupEnd, begin + BLOCK_ROWS);
      const options = { file, metadata, compressors, parsers: parsers as never, rowStart: begin, rowEnd: end };
      const rows = await parquetReadObjects(options).catch((cause: Error) => {
        throw new FusedGrpoError('ERR_DATA', `${path}: rows ${begin} to ${end - 1} cannot be read: ${cause.message}`, { cause });
      });
      for (const [i, row] of rows.entries()) yield { row: plainValue(row) as Row, where: `${path}: row ${begin + i}` };
      begin = end;
    }
  }
}
