// Where a training command's settings come from: the command line, over --config's file, over a preset.
import { existsSync, statSync } from 'node:fs';
import { resolve } from 'node:path';
import { FusedGrpoError, nearest } from '../errors.js';
import { readConfigFile } from './config-file.js';
import { isOff, refusedReason, translateTrl } from '../trainer/trl.js';
import { NO_GROUPS } from '../trainer/ppo-config.js';
import type { CliContext } from './context.js';
import { camel, convert, flagName, type FlagSpec, type FlagTable, type FlagValues } from './options.js';

// A trainer writes its run's config.json with these names; as --config the file starts the same run again.
const ALIASES: Record<string, string> = {
  trainDataset: 'data',
  evalDataset: 'evalData',
  outputDir: 'output',
  rewardFuncs: 'reward',
  columnMapping: 'column',
};
// Derived by the trainer, not options.
const DERIVED = new Set(['stepCompletions', 'rolloutCompletions']);

export interface Settings {
  /** The command's own settings: model, data, output, … */
  own: FlagValues;
  /** The trainer's config. */
  config: FlagValues;
}

/** What may be given several times: one value, an array, or (columns) an object as `name=value`. */
function listOf(value: unknown): unknown[] {
  if (Array.isArray(value)) return value as unknown[];
  const isObject = value !== null && typeof value === 'object';
  return isObject ? Object.entries(value).map(([key, v]): unknown => (typeof v === 'string' ? `${key}=${v}` : v)) : [value];
}

/** The trainer checks its own options; the command's are checked here, as if they stood on the command line. */
function checkOwn(name: string, given: unknown, spec: FlagSpec, shown: string): unknown {
  if (spec.multiple) return listOf(given).map((value) => checkOwn(name, value, { ...spec, multiple: false }, shown));
  const wanted = spec.type === 'boolean' ? 'boolean' : 'string';
  if (typeof given !== wanted) throw new FusedGrpoError('ERR_INVALID_ARG', `${shown}: "${name}" must be a ${wanted}`);
  return convert(name, spec, String(given));
}

interface Taken {
  path: string;
  known: FlagTable;
  values: FlagValues;
  /** What was made of which name, for the user to see. */
  notes: string[];
}

/** A name that is not ours: TRL's, or a slip. */
function takeTrl(key: string, value: unknown, { path, known, values, notes }: Taken): void {
  const names = Object.keys(known).filter((name) => name !== 'config');
  const translated = translateTrl(key, value, names);
  if (translated) {
    if (translated.name in values) throw new FusedGrpoError('ERR_INVALID_ARG', `${path}: ${translated.name} is given twice ("${key}")`);
    if (translated.value !== null) values[translated.name] = translated.value;
    return void notes.push(`${key} = ${translated.name}`);
  }
  const reason = refusedReason(key);
  if (reason === undefined) {
    const near = nearest(key, names);
    throw new FusedGrpoError('ERR_UNKNOWN_OPTION', `${path}: unknown option "${key}"${near ? `; did you mean "${near}"?` : ''}`);
  }
  if (!isOff(value)) throw new FusedGrpoError('ERR_UNKNOWN_OPTION', `${path}: "${key}" is an option of TRL's that is not there. ${reason}`);
  notes.push(`${key} left out`);
}

function fromFile(path: string, ownTable: FlagTable, configTable: FlagTable, ctx: CliContext): FlagValues {
  const raw = readConfigFile(resolve(ctx.cwd, path), path);
  const fromTrainer = typeof raw.trainer === 'string';
  const ofPPO = raw.trainer === 'ppo';
  const known = { ...configTable, ...ownTable };
  const values: FlagValues = ofPPO && ownTable.algorithm ? { algorithm: 'ppo' } : {};
  const notes: string[] = [];
  for (const [key, value] of Object.entries(raw)) {
    if (fromTrainer && (key === 'trainer' || DERIVED.has(key) || (ofPPO && key in NO_GROUPS))) continue;
    const name = ALIASES[camel(key)] ?? key;
    const spec = known[name];
    if (name === 'config' || !spec) takeTrl(key, value, { path, known, values, notes });
    else if (values[name] !== undefined) throw new FusedGrpoError('ERR_INVALID_ARG', `${path}: ${name} is given twice ("${key}")`);
    else if (value !== null) values[name] = ownTable[name] ? checkOwn(name, value, spec, path) : value;
  }
  if (notes.length > 0) ctx.stderr.write(`${path}: TRL's names are understood: ${notes.join(', ')}\n`);
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
