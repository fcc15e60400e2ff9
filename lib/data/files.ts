// Data files as rows: .jsonl, .json (an array of objects) and .parquet. Each row comes with the words that name it in messages.
import { readFileSync } from 'node:fs';
import { extname } from 'node:path';
import { FusedGrpoError } from '../errors.js';
import { linesOf } from '../lines.js';
import { parquetRows } from './parquet.js';
import type { PlacedRow, Row } from './types.js';

const dataError = (message: string, cause?: unknown): FusedGrpoError => new FusedGrpoError('ERR_DATA', message, { cause });

function asRow(value: unknown, where: string): Row {
  if (value === null || typeof value !== 'object' || Array.isArray(value)) throw dataError(`${where}: expected a JSON object`);
  return value as Row;
}

/** Blank lines are skipped. A byte order mark is not part of the text. */
function* jsonlRows(path: string): Generator<PlacedRow> {
  let number = 0;
  for (const text of linesOf(path)) {
    const line = ++number === 1 ? text.replace(/^\uFEFF/, '') : text;
    if (line.trim() === '') continue;
    const where = `${path}:${number}`;
    let value: unknown;
    try {
      value = JSON.parse(line);
    } catch (cause) {
      throw dataError(`${where}: not valid JSON (${(cause as Error).message})`, cause);
    }
    yield { row: asRow(value, where), where };
  }
}

function* jsonRows(path: string): Generator<PlacedRow> {
  const text = readFileSync(path, 'utf8').replace(/^\uFEFF/, '');
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    const hint = /^\s*\{[^\n]*\}\s*\n\s*\{/.test(text) ? '; it looks like one object a line: name it .jsonl' : '';
    throw dataError(`${path}: not valid JSON (${(cause as Error).message})${hint}`, cause);
  }
  if (!Array.isArray(value)) throw dataError(`${path}: a .json data set is an array of objects (one object a line: name it .jsonl)`);
  for (const [i, row] of value.entries()) {
    const where = `${path}: row ${i}`;
    yield { row: asRow(row, where), where };
  }
}

/**
 * The rows of a data file, read as they are asked for (.json: whole). Rows are named as `file:line` in .jsonl, `file: row N` (from 0) elsewhere.
 * Any name but *.json and *.parquet is read as .jsonl.
 * @throws FusedGrpoError ERR_DATA naming file and row.
 */
export async function* fileRows(path: string): AsyncGenerator<PlacedRow> {
  const kind = extname(path).toLowerCase();
  try {
    if (kind === '.parquet') yield* parquetRows(path);
    else for (const row of kind === '.json' ? jsonRows(path) : jsonlRows(path)) yield row;
  } catch (cause) {
    if (cause instanceof FusedGrpoError) throw cause;
    throw dataError(`Cannot read the data set ${path}: ${(cause as Error).message}`, cause);
  }
}
