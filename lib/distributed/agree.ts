// Ranks that train on different things would spoil the run without a word: they are compared before the first step.
import { FusedGrpoError } from '../errors.js';
import type { Ranks } from './ranks.js';

/** `Expected` to be the same on all ranks: names and values, as JSON can hold them. */
export type Claims = Record<string, unknown>;

const shown = (value: unknown): string => {
  const text = JSON.stringify(value) ?? 'nothing';
  return text.length > 80 ? text.slice(0, 77) + '...' : text;
};

/** Throws ERR_RANKS_DIFFER on every rank, naming what differs and where. */
export async function agree(ranks: Ranks, claims: Claims): Promise<void> {
  if (ranks.worldSize === 1) return;
  const all = await ranks.gather(JSON.stringify(claims));
  const parsed = all.map((text) => JSON.parse(text) as Claims);
  const differences = parsed.flatMap((theirs, rank) =>
    [...new Set([...Object.keys(parsed[0]!), ...Object.keys(theirs)])]
      .filter((name) => JSON.stringify(theirs[name]) !== JSON.stringify(parsed[0]![name]))
      .map((name) => `${name} is ${shown(parsed[0]![name])} on rank 0, but ${shown(theirs[name])} on rank ${rank}`),
  );
  if (differences.length > 0)
    throw new FusedGrpoError('ERR_RANKS_DIFFER', `The ranks of this run do not agree: ${differences.slice(0, 5).join('; ')}`);
}
