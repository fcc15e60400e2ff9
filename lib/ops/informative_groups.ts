import { invalidType, invalidValue, isRevoked } from '../errors.js';
import { groups, number } from './check.js';
import { allocate, classOf, lengthOf, readOnce, stable } from './inputs.js';
import type { Groups } from './types.js';

function zeroStdOf(result: unknown): Uint8Array {
  const isBytes = (v: unknown) => classOf(v) === 'Uint8Array';
  if (isBytes(result)) return stable(result as Uint8Array);
  const zeroStd = isRevoked(result) ? undefined : (result as { zeroStd?: unknown } | null | undefined)?.zeroStd;
  if (!isBytes(zeroStd)) throw invalidType('zeroStd', 'a Uint8Array, or a result that has it (of groupAdvantages and its like)', result);
  return stable(zeroStd as Uint8Array);
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
  where = readOnce('informativeGroups', where, ['numGenerations', 'groupOffsets'], 'options');
  const zeroStd = zeroStdOf(result);
  const count = lengthOf(zeroStd);
  const offsets = groups(where, completionsOf(where, count));
  const kept = Array.from({ length: count }, (_, g) => g).filter((g) => zeroStd[g] === 0);
  const total = kept.reduce((sum, g) => sum + offsets[g + 1]! - offsets[g]!, 0);
  const completions = allocate(() => new Int32Array(total));
  let at = 0;
  for (const g of kept) for (let i = offsets[g]!; i < offsets[g + 1]!; ++i) completions[at++] = i;
  return { groups: Int32Array.from(kept), completions };
}

/** Completions of all groups. */
function completionsOf({ numGenerations, groupOffsets }: Groups, count: number): number {
  if (groupOffsets === undefined) {
    const total = count * number('numGenerations', numGenerations, { min: 1, integer: true });
    if (total > 0x7fffffff) throw invalidValue('numGenerations', `fewer than 2^31 completions in ${count} groups`, numGenerations);
    return total;
  }
  if (classOf(groupOffsets) !== 'Int32Array' || lengthOf(groupOffsets) !== count + 1)
    throw invalidType('groupOffsets', `an Int32Array of groups + 1 offsets (${count + 1})`, groupOffsets);
  return groupOffsets[count] ?? 0;
}
