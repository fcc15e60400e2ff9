import { invalidType, rejectUnknown } from '../errors.js';
import { groups, number, record } from './check.js';
import type { Groups } from './types.js';

function zeroStdOf(result: unknown): Uint8Array {
  const isBytes = (v: unknown) => Object.prototype.toString.call(v) === '[object Uint8Array]';
  if (isBytes(result)) return result as Uint8Array;
  const zeroStd = (result as { zeroStd?: unknown } | null | undefined)?.zeroStd;
  if (!isBytes(zeroStd)) throw invalidType('zeroStd', 'a Uint8Array, or a result that has it (of groupAdvantages and its like)', result);
  return zeroStd as Uint8Array;
}

/**
 * The groups that teach something, and their completions: the choice of dynamic sampling, which samples on until enough groups have rewards
 * that differ.
 *
 * @param result of groupAdvantages, multiRewardAdvantages or processAdvantages, `groups` of grpoLoss, or its zeroStd alone: 1 for a group
 *   to leave out. An empty group is one.
 * @param where the groups, as they were given to that op
 * @returns groups: their indices; completions: the indices of their rows, both ascending
 * @see DAPO, arXiv:2503.14476 section 3.2
 */
export function informativeGroups(
  result: Uint8Array | { zeroStd: Uint8Array },
  where: Groups,
): { groups: Int32Array; completions: Int32Array } {
  record('options', where);
  rejectUnknown('informativeGroups', where, ['numGenerations', 'groupOffsets']);
  const zeroStd = zeroStdOf(result);
  const count = zeroStd.length;
  if (where.groupOffsets !== undefined && where.groupOffsets?.length !== count + 1)
    throw invalidType('groupOffsets', `an Int32Array of groups + 1 offsets (${count + 1})`, where.groupOffsets);
  const total = where.groupOffsets
    ? (where.groupOffsets[count] ?? 0)
    : count * number('numGenerations', where.numGenerations, { min: 1, integer: true });
  const offsets = groups(where, total);
  const kept = Array.from(zeroStd.keys()).filter((g) => zeroStd[g] === 0);
  const completions = kept.flatMap((g) => Array.from({ length: offsets[g + 1]! - offsets[g]! }, (_, i) => offsets[g]! + i));
  return { groups: Int32Array.from(kept), completions: Int32Array.from(completions) };
}
