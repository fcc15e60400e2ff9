// The user's reward module: whose mistakes are told with the file's name.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { basename, extname, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { FusedGrpoError } from '../errors.js';
import type { CliContext, RewardModelLike } from './context.js';

type AnyFunction = (...args: unknown[]) => unknown;
const isFunction = (value: unknown): value is AnyFunction => typeof value === 'function';

/** The same function under the name that metrics shall show. */
function named(fn: AnyFunction, name: string): AnyFunction {
  return Object.defineProperty((...args: unknown[]) => fn(...args), 'name', { value: name });
}

function fromDefault(value: unknown, file: string): AnyFunction[] {
  const base = basename(file, extname(file));
  const plain = (fn: AnyFunction, i?: number) =>
    named(fn, fn.name && fn.name !== 'default' ? fn.name : i === undefined ? base : `${base}${i}`);
  if (isFunction(value)) return [plain(value)];
  if (Array.isArray(value)) {
    const odd = value.findIndex((v) => !isFunction(v));
    if (odd >= 0) throw new FusedGrpoError('ERR_INVALID_ARG', `${file}: element ${odd} of the default export is not a function`);
    return (value as AnyFunction[]).map(plain);
  }
  return value !== null && typeof value === 'object' ? fromNames(value as Record<string, unknown>) : [];
}

const fromNames = (exports: Record<string, unknown>): AnyFunction[] =>
  Object.entries(exports).flatMap(([name, value]) =>
    name !== 'default' && name !== 'module.exports' && isFunction(value) ? [named(value, name)] : [],
  );

/** Where in the user's file an error lies: its own frame of the stack; syntax errors have none, so Node is asked to check the file. */
function place(error: unknown, file: string): string {
  const stack = (error as { stack?: string } | null)?.stack ?? '';
  const frame = (text: string) => text.split('\n').find((line) => line.includes(file) || line.includes(pathToFileURL(file).href));
  const isSyntax = (error as { name?: string } | null)?.name === 'SyntaxError';
  const found = frame(stack) ?? (isSyntax ? frame(syntaxReport(file)) : undefined);
  const line = /:(\d+)/.exec(found?.replace(file, '').replace(pathToFileURL(file).href, '') ?? '')?.[1];
  return line === undefined ? '' : ` (line ${line})`;
}

const syntaxReport = (file: string): string => spawnSync(process.execPath, ['--check', file], { encoding: 'utf8' }).stderr;

/** A user's module, by the name of the flag that names it. */
export async function importUserModule(
  flag: string,
  path: string,
  ctx: Pick<CliContext, 'importModule' | 'cwd'>,
): Promise<Record<string, unknown>> {
  const file = resolve(ctx.cwd, path);
  if (!existsSync(file) || statSync(file).isDirectory()) throw new FusedGrpoError('ERR_INVALID_ARG', `${flag}: there is no file ${path}`);
  try {
    return await ctx.importModule(file);
  } catch (cause) {
    const message = (cause as { message?: string } | null)?.message ?? String(cause);
    throw new FusedGrpoError('ERR_INVALID_ARG', `${flag}: ${path} could not be loaded: ${message}${place(cause, file)}`, { cause });
  }
}

/** What --reward names: a reward model's folder, or a module. Reward models are to be disposed by the caller. */
export async function openRewards(
  path: string,
  transform: unknown,
  ctx: Pick<CliContext, 'importModule' | 'cwd' | 'api'>,
): Promise<{ rewardFuncs: unknown; dispose: () => void }> {
  const file = resolve(ctx.cwd, path);
  if (existsSync(file) && statSync(file).isDirectory()) {
    const model: RewardModelLike = await ctx.api.reward().RewardModel.load(file, transform === undefined ? {} : { transform });
    return { rewardFuncs: model, dispose: () => model.dispose() };
  }
  if (transform !== undefined)
    throw new FusedGrpoError('ERR_INVALID_ARG', `--reward-transform goes with a reward model's folder; ${path} is a module`);
  return { rewardFuncs: await loadRewards(path, ctx), dispose: () => undefined };
}

/**
 * Reward functions of a module: its default export (a function, an array of functions, or an object of them), else every named export
 * that is a function, under the export's name.
 */
export async function loadRewards(path: string, ctx: Pick<CliContext, 'importModule' | 'cwd'>): Promise<AnyFunction[]> {
  const exports = await importUserModule('--reward', path, ctx);
  const functions = fromDefault(exports.default, path);
  const found = functions.length ? functions : fromNames(exports);
  if (found.length === 0)
    throw new FusedGrpoError(
      'ERR_INVALID_ARG',
      `--reward: ${path} exports no reward function; export default ({ prompts, completions }) => completions.map(() => 0)`,
    );
  // Ranks compare functions by their text: here that of the whole module, with its helpers.
  const text = readFileSync(resolve(ctx.cwd, path), 'utf8');
  return found.map((fn) => Object.defineProperty(fn, 'toString', { value: () => text }));
}
