// The command line: finds the command, parses its flags, runs it, and turns errors into exit codes.
import { readFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { FusedGrpoError, nearest } from '../errors.js';
import { packageRoot } from '../native.js';
import { commandHelp, parseFor, type Command } from './command.js';
import { benchCommand } from './bench.js';
import { buildCommand } from './build.js';
import { processContext, type CliContext } from './context.js';
import { demoCommand } from './demo.js';
import { doctorCommand } from './doctor.js';
import { EXIT, exitCodeOf, explain } from './errors.js';
import { evalCommand } from './eval.js';
import { generateCommand } from './generate.js';
import { launchCommand } from './launch.js';
import { mergeCommand } from './merge.js';
import { speaking, tagWarnings } from './ranks.js';
import { rewardScoreCommand, rewardTrainCommand } from './reward.js';
import { sftCommand } from './sft.js';
import { trainCommand } from './train.js';

const commands: readonly Command[] = [
  ...[trainCommand, generateCommand, evalCommand, sftCommand, rewardTrainCommand, rewardScoreCommand],
  ...[launchCommand, mergeCommand, demoCommand, benchCommand, doctorCommand, buildCommand],
];

function packageVersion(): string {
  return (JSON.parse(readFileSync(join(packageRoot, 'package.json'), 'utf8')) as { version: string }).version;
}

function toolHelp(): string {
  const list = commands.map((c) => `  ${c.name.padEnd(12)} ${c.summary}`).join('\n');
  return `fused-grpo ${packageVersion()} — train language models by GRPO with handwritten fused kernels

Usage:
  npx fused-grpo <command> [options]      (npx fused-grpo <command> --help: its options and an example)

Commands:
${list}

Options:
  --help      Show this text
  --version   Show the version

Example:
  npx fused-grpo demo

Exit codes: 0 ok, 1 the run failed, 2 bad usage or bad input, 130 interrupted (state saved).
`;
}

/** `name` as it stands on the command line: one word, or the first two (`reward train`). */
function findCommand(name: string): Command {
  const found = commands.find((c) => c.name === name);
  if (found) return found;
  const word = name.split(' ')[0]!;
  const parts = commands.filter((c) => c.name.startsWith(`${word} `)).map((c) => `'${c.name}'`);
  if (parts.length > 0) throw new FusedGrpoError('ERR_INVALID_ARG', `'${word}' is ${parts.join(' or ')}, each with its own --help`);
  const near = nearest(
    name,
    commands.map((c) => c.name),
  );
  const hint = near ? `did you mean '${near}'?` : `the commands are ${commands.map((c) => c.name).join(', ')}`;
  throw new FusedGrpoError('ERR_INVALID_ARG', `Unknown command '${name}'; ${hint}`);
}

/** Commands of two words as one argument. */
function joinWords([first, second, ...rest]: readonly string[]): readonly string[] {
  const two = second !== undefined && commands.some((c) => c.name === `${first} ${second}`);
  return two ? [`${first} ${second}`, ...rest] : [first, second, ...rest].filter((arg) => arg !== undefined);
}

async function dispatch(argv: readonly string[], ctx: CliContext): Promise<number> {
  const [name, ...rest] = joinWords(argv);
  if (name === '--version' || name === '-v' || name === 'version') {
    ctx.stdout.write(packageVersion() + '\n');
    return EXIT.ok;
  }
  if (name === undefined || name === '--help' || name === '-h' || name === 'help') {
    if (name === 'help' && rest[0] !== undefined) return dispatch([...rest, '--help'], ctx);
    (name === undefined ? ctx.stderr : ctx.stdout).write(toolHelp());
    return name === undefined ? EXIT.usage : EXIT.ok;
  }
  const command = findCommand(name);
  const own = rest.includes('--') ? rest.slice(0, rest.indexOf('--')) : rest; // behind it stands another command
  if (own.includes('--help') || own.includes('-h')) {
    ctx.stdout.write(commandHelp(command, ctx));
    return EXIT.ok;
  }
  return command.run(parseFor(command, rest, ctx), ctx);
}

/** Runs one command line and returns its exit code; errors are printed, never thrown. */
export async function runCli(argv: readonly string[], given: CliContext): Promise<number> {
  const { ctx, complaints } = speaking(given);
  try {
    return await dispatch(argv, ctx);
  } catch (error) {
    const code = exitCodeOf(error, ctx.env);
    if (code !== EXIT.interrupted || ctx.env.FUSED_GRPO_DEBUG) complaints.write(`fused-grpo: ${explain(error, ctx.env)}\n`);
    return code;
  }
}

/** A launcher that is killed takes the end of our standard input with it; one that says something there says which rank is missing. */
function endWithLauncher(ctx: CliContext): void {
  let said: string | undefined;
  ctx.missingRank = () => said;
  process.stdin.once('data', (text) => {
    said = String(text).trim();
    process.kill(process.pid, 'SIGTERM');
  });
  process.stdin.once('close', () => process.kill(process.pid, 'SIGTERM'));
  process.stdin.on('error', () => undefined).resume();
  (process.stdin as Partial<Socket>).unref?.();
}

/** The entry of scripts/cli.mjs. */
export async function main(argv: readonly string[]): Promise<void> {
  // `fused-grpo … | head`: a reader that has seen enough is not an error.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? EXIT.ok : EXIT.failed));
  const ctx = processContext();
  tagWarnings(ctx);
  if (ctx.env.FUSED_GRPO_LAUNCHED) endWithLauncher(ctx);
  process.exitCode = await runCli(argv, ctx);
  // A user's reward function may have left a timer or a socket behind: it shall not keep a finished run from ending.
  setTimeout(() => process.exit(), 2000).unref();
}
