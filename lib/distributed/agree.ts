// Ranks that train on different things would spoil the run without a word: they are compared before the first step.
import { FusedGrpoError } from '../errors.js';
import type { Ranks } from './ranks.js';

/** `Expected` to be the same on all ranks: names and values, as JSON can hold them. */
export type Claims = Record<string, unknown>;

const shown = (value: unknown): string => {
  const text = typeof value === 'string' ? value : (JSON.stringify(value) ?? 'nothing');
  return text.length > 100 ? text.slice(0, 97) + '...' : text;
};

/**
 * Throws ERR_RANKS_DIFFER on every rank, naming what differs and where. `called`: what this rank calls a thing (a path), for the message alone:
 * the same may have another name on another machine.
 */
export async function agree(ranks: Ranks, claims: Claims, called: Record<string, string> = {}): Promise<void> {
  if (ranks.worldSize === 1) return;
  const all = await ranks.gather(JSON.stringify({ claims, called }));
  const parsed = all.map((text) => JSON.parse(text) as { claims: Claims; called: Record<string, string> });
  const [first] = parsed;
  const say = ({ claims: theirs, called: names }: (typeof parsed)[0], name: string) =>
    names[name] === undefined ? shown(theirs[name]) : `${names[name]} (${shown(theirs[name])})`;
  const differences = parsed.flatMap((theirs, rank) =>
    [...new Set([...Object.keys(first!.claims), ...Object.keys(theirs.claims)])]
      .filter((name) => JSON.stringify(theirs.claims[name]) !== JSON.stringify(first!.claims[name]))
      .map((name) => `${name} is ${say(first!, name)} on rank 0, but ${say(theirs, name)} on rank ${rank}`),
  );
  if (differences.length > 0)
    throw new FusedGrpoError('ERR_RANKS_DIFFER', `The ranks of this run do not agree: ${differences.slice(0, 5).join('; ')}`);
}
