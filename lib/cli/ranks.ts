// The command line in one of several processes of a run: rank 0 speaks for all, the others only when something is wrong.
import { rankEnvironment, type RankEnvironment } from '../distributed/environment.js';
import type { CliContext, Output } from './context.js';

const silent: Output = { write: () => true };

/** Each line with the rank in front. */
const tagged = (out: Output, rank: number): Output => ({
  write: (text) => out.write(text.replace(/^(?=.)/gm, `[rank ${rank}] `)),
});

/** Variables that make no sense are told when training begins. */
function placeIn(env: CliContext['env']): RankEnvironment | undefined {
  try {
    return rankEnvironment(env);
  } catch {
    return undefined;
  }
}

/** The rank of this process if it is another than the first. */
export const otherRank = (env: CliContext['env']): number | undefined => placeIn(env)?.rank || undefined;

/** How many train together. */
export const processes = (env: CliContext['env']): number => placeIn(env)?.worldSize ?? 1;

/** What this rank shows (`ctx`), and where it complains. */
export function speaking(ctx: CliContext): { ctx: CliContext; complaints: Output } {
  const rank = otherRank(ctx.env);
  if (rank === undefined) return { ctx, complaints: ctx.stderr };
  return { ctx: { ...ctx, stdout: silent, stderr: silent, otherRank: rank }, complaints: tagged(ctx.stderr, rank) };
}

/** Warnings of this process in the same manner. */
export function tagWarnings(ctx: CliContext): void {
  const rank = otherRank(ctx.env);
  if (rank === undefined) return;
  process.removeAllListeners('warning');
  process.on('warning', ({ name, message }) => void tagged(ctx.stderr, rank).write(`${name}: ${message}\n`));
}
