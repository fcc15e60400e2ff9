// From an error to an exit code and one clear paragraph.
import type { CliContext } from './context.js';

/** `otherRank`: under launch alone, which says whose failure it was. */
export const EXIT = { ok: 0, failed: 1, usage: 2, otherRank: 76, interrupted: 130 } as const;

const USAGE_CODES = new Set([
  'ERR_INVALID_ARG',
  'ERR_UNKNOWN_OPTION',
  'ERR_INCOMPATIBLE_OPTIONS',
  'ERR_DATA',
  'ERR_MODEL',
  'ERR_TOKENIZER',
  'ERR_NO_CUDA',
  'ERR_CONTEXT_LENGTH',
  'ERR_RANKS_DIFFER',
]);

const codeOf = (error: unknown): string | undefined =>
  typeof error === 'object' && error !== null && typeof (error as { code?: unknown }).code === 'string'
    ? (error as { code: string }).code
    : undefined;

/** The exit code that an error stands for. */
export function exitCodeOf(error: unknown, env: CliContext['env'] = {}): number {
  const code = codeOf(error);
  if (code === 'ERR_RANK_LOST' && env.FUSED_GRPO_LAUNCHED) return EXIT.otherRank;
  if (code === 'ERR_ABORTED' || (error instanceof Error && error.name === 'AbortError')) return EXIT.interrupted;
  return code !== undefined && USAGE_CODES.has(code) ? EXIT.usage : EXIT.failed;
}

/** What to print for an error: its message; the stack with FUSED_GRPO_DEBUG=1, or a hint at it where the error is not one of ours. */
export function explain(error: unknown, env: CliContext['env']): string {
  if (!(error instanceof Error)) return String(error);
  if (env.FUSED_GRPO_DEBUG) return error.stack ?? error.message;
  const ours = /^ERR_[A-Z_]+$/.test(codeOf(error) ?? '');
  return ours ? error.message : `${error.message || error.name} (FUSED_GRPO_DEBUG=1 shows where)`;
}
