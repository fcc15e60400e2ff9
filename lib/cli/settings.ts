// Where a training command's settings come from: the command line, over --config's file, over a preset.
import { existsSync, readFileSync, statSync } from 'node:fs';
import { resolve } from 'node:path';
import { FusedGrpoError, nearest } from '../errors.js';
import type { CliContext } from './context.js';
import { convert, flagName, type FlagSpec, type FlagTable, type FlagValues } from './options.js';

// A trainer writes its run's config.json with these names; as --config the file starts the same run again.
const ALIASES: Record<string, string> = { trainDataset: 'data', outputDir: 'output', rewardFuncs: 'reward' };
// Derived by the trainer, not options.
const DERIVED = new Set(['stepCompletions', 'rolloutCompletions']);

export interface Settings {
  /** The command's own settings: model, data, output, … */
  own: FlagValues;
  /** The trainer's config. */
  config: FlagValues;
}

function readJson(path: string, shown: string): Record<string, unknown> {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    throw new FusedGrpoError(
      'ERR_DATA',
      `--config: ${shown} cannot be read (${(cause as NodeJS.ErrnoException).code ?? 'unknown reason'})`,
      { cause },
    );
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new FusedGrpoError('ERR_DATA', `--config: ${shown} is not JSON: ${(cause as Error).message}${lineOf(cause as Error, text)}`, {
      cause,
    });
  }
  if (value === null || typeof value !== 'object' || Array.isArray(value))
    throw new FusedGrpoError('ERR_DATA', `--config: ${shown} must hold one JSON object`);
  return value as Record<string, unknown>;
}

/** V8 names a position in the text; people think in lines. */
function lineOf(error: Error, text: string): string {
  const position = /position (\d+)/.exec(error.message)?.[1];
  return position === undefined || /line \d+/.test(error.message) ? '' : ` (line ${text.slice(0, Number(position)).split('\n').length})`;
}

/** The trainer checks its own options; the command's are checked here, as if they stood on the command line. */
function checkOwn(name: string, value: unknown, spec: FlagSpec, shown: string): unknown {
  if (spec.multiple && Array.isArray(value)) return value.map((v) => checkOwn(name, v, { ...spec, multiple: false }, shown));
  const wanted = spec.type === 'boolean' ? 'boolean' : 'string';
  if (typeof value !== wanted) throw new FusedGrpoError('ERR_INVALID_ARG', `${shown}: "${name}" must be a ${wanted}`);
  return convert(name, spec, String(value));
}

function fromFile(path: string, ownTable: FlagTable, configTable: FlagTable, ctx: CliContext): FlagValues {
  const raw = readJson(resolve(ctx.cwd, path), path);
  const fromTrainer = typeof raw.trainer === 'string';
  const known = { ...configTable, ...ownTable };
  const values: FlagValues = {};
  for (const [key, value] of Object.entries(raw)) {
    if (fromTrainer && (key === 'trainer' || DERIVED.has(key))) continue;
    const name = ALIASES[key] ?? key;
    if (!known[name] || name === 'config') {
      const near = nearest(key, Object.keys(known));
      throw new FusedGrpoError('ERR_UNKNOWN_OPTION', `${path}: unknown option "${key}"${near ? `; did you mean "${near}"?` : ''}`);
    }
    if (value !== null) values[name] = ownTable[name] ? checkOwn(name, value, ownTable[name], path) : value;
  }
  return values;
}

/** Merges the sources. `presets`: configurations by name. */
export function gatherSettings(
  values: FlagValues,
  ownTable: FlagTable,
  configTable: FlagTable,
  presets: Record<string, object>,
  ctx: CliContext,
): Settings {
  const file = typeof values.config === 'string' ? fromFile(values.config, ownTable, configTable, ctx) : {};
  const merged = { ...file, ...values };
  const preset = typeof merged.preset === 'string' ? (presets[merged.preset] ?? {}) : {};
  const own: FlagValues = {};
  const config: FlagValues = { ...preset };
  for (const [name, value] of Object.entries(merged)) {
    if (name in ownTable) own[name] = value;
    else if (name in configTable) config[name] = value;
  }
  return { own, config };
}

/** A path that must exist, as the user wrote it; refused in the user's words. */
export function checkInput(name: string, kind: 'file' | 'folder', value: unknown, ctx: CliContext): string {
  const path = String(value);
  const full = resolve(ctx.cwd, path);
  const fail = (why: string) => new FusedGrpoError('ERR_INVALID_ARG', `${flagName(name)}: ${why}`);
  if (!existsSync(full)) throw fail(`there is no ${kind} ${path}`);
  if (statSync(full).isDirectory() !== (kind === 'folder'))
    throw fail(`${path} is ${kind === 'folder' ? 'a file; a folder' : 'a folder; a file'} is needed`);
  return full;
}
