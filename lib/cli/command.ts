import type { CliContext } from './context.js';
import { flagHelp, parseFlags, wrap, type FlagTable, type FlagValues } from './options.js';

/** One command of the tool. */
export interface Command {
  name: string;
  /** One line for the list of commands. */
  summary: string;
  /** What follows `fused-grpo <name>` in the usage line. */
  usage: string;
  /** Lines that a reader can paste. */
  examples: readonly string[];
  /** A paragraph or two more, for --help. */
  notes?: readonly string[];
  flags(ctx: CliContext): FlagTable;
  /** A second table shown under its own heading (a trainer's options). */
  moreFlags?(ctx: CliContext): { heading: string; table: FlagTable };
  positionals?: boolean;
  run(values: FlagValues, ctx: CliContext): Promise<number>;
}

/** A command line behind the command's name. */
export function parseFor(command: Command, argv: readonly string[], ctx: CliContext): FlagValues {
  const table = { ...command.moreFlags?.(ctx).table, ...command.flags(ctx) };
  return parseFlags(command.name, table, argv, { positionals: command.positionals });
}

/** The text of `fused-grpo <command> --help`. */
export function commandHelp(command: Command, ctx: CliContext): string {
  const columns = ctx.stdout.columns ?? 100;
  const more = command.moreFlags?.(ctx);
  const parts = [
    `fused-grpo ${command.name} — ${command.summary}`,
    `Usage:\n  fused-grpo ${command.name} ${command.usage}`,
    `${command.examples.length > 1 ? 'Examples' : 'Example'}:\n${command.examples.map((line) => `  ${line}`).join('\n')}`,
    ...(command.notes ?? []).map((note) => wrap(note, Math.min(columns, 110), '')),
    `Options:\n${flagHelp(command.flags(ctx), columns)}`,
    ...(more ? [`${more.heading}:\n${flagHelp(more.table, columns)}`] : []),
  ];
  return parts.join('\n\n') + '\n';
}
