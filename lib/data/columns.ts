// columnMapping: the names a data set has, as the names that trainers and reward functions expect.
import { FusedGrpoError, invalidType } from '../errors.js';
import type { Row } from './types.js';

/** Our column <- the data set's: `{ prompt: 'question', answer: 'solution' }`. A dot reaches into an object: 'reward_model.ground_truth'. */
export type ColumnMapping = Readonly<Record<string, string>>;

/** Checks what a caller gave. @throws TypeError naming the entry */
export function checkMapping(mapping: unknown): ColumnMapping | undefined {
  if (mapping === undefined) return undefined;
  if (mapping === null || typeof mapping !== 'object' || Array.isArray(mapping))
    throw invalidType('columnMapping', "an object of column names, like { prompt: 'question' },", mapping);
  for (const [ours, theirs] of Object.entries(mapping))
    if (typeof theirs !== 'string' || theirs === '') throw invalidType(`columnMapping.${ours}`, 'the name of a column', theirs);
  return mapping as ColumnMapping;
}

/** The renaming in the words of messages: 'prompt <- question'. */
export const describeMapping = (mapping: ColumnMapping): string =>
  Object.entries(mapping)
    .map(([ours, theirs]) => `${ours} <- ${theirs}`)
    .join(', ');

function valueAt(row: Row, name: string): unknown {
  if (Object.hasOwn(row, name)) return row[name];
  let value: unknown = row;
  for (const part of name.split('.')) {
    if (value === null || typeof value !== 'object' || !Object.hasOwn(value, part)) return undefined;
    value = (value as Row)[part];
  }
  return value;
}

/**
 * A row under our names. All columns are renamed at once (two may change places); a column that had the new name already is replaced; the
 * others stay.
 * @throws FusedGrpoError ERR_DATA naming row and column.
 */
export function renameColumns(row: Row, mapping: ColumnMapping | undefined, where: string): Row {
  if (!mapping || row === null || typeof row !== 'object') return row;
  const taken = new Set(Object.values(mapping));
  const renamed: Row = Object.fromEntries(Object.entries(row).filter(([name]) => !taken.has(name)));
  for (const [ours, theirs] of Object.entries(mapping)) {
    const value = valueAt(row, theirs);
    if (value === undefined)
      throw new FusedGrpoError(
        'ERR_DATA',
        `${where}: there is no column "${theirs}" (columnMapping: ${ours} <- ${theirs}); the row has ${Object.keys(row).join(', ') || 'no columns'}`,
      );
    renamed[ours] = value;
  }
  return renamed;
}
