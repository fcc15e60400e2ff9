// --column prompt=question: a trainer's columnMapping on the command line.
import { FusedGrpoError } from '../errors.js';
import type { FlagSpec } from './options.js';

export const columnFlag: FlagSpec = {
  type: 'string',
  valueName: 'OURS=THEIRS',
  multiple: true,
  description: "A column under another name: --column prompt=question; a.b reaches into an object's b",
};

/** The texts of --column as a columnMapping; undefined without any. */
export function parseColumns(given: unknown): Record<string, string> | undefined {
  if (given === undefined) return undefined;
  const mapping: Record<string, string> = {};
  for (const text of given as string[]) {
    const at = text.indexOf('=');
    const [ours, theirs] = [text.slice(0, at).trim(), text.slice(at + 1).trim()];
    if (at < 0 || !ours || !theirs)
      throw new FusedGrpoError(
        'ERR_INVALID_ARG',
        `--column ${text}: expected our name, =, the data's name, as in --column prompt=question`,
      );
    if (mapping[ours] !== undefined) throw new FusedGrpoError('ERR_INVALID_ARG', `--column: ${ours} is given twice`);
    mapping[ours] = theirs;
  }
  return mapping;
}
