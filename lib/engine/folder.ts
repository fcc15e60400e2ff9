// A checkpoint folder in Hugging Face layout: which files hold the weights, and writing such a folder again.
import { closeSync, existsSync, fsyncSync, mkdirSync, openSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { FusedGrpoError } from '../errors.js';
import { readModelConfig, type ModelConfig } from './config.js';
import { readJson } from './tokenizer.js';
import { shards, weightNames } from './weight_files.js';

const { single: SINGLE, index: INDEX } = weightNames;
/** What travels with the weights when a policy is saved. */
export const COMPANIONS = [
  ...['generation_config.json', 'tokenizer.json', 'tokenizer_config.json', 'special_tokens_map.json', 'added_tokens.json', 'vocab.json'],
  ...['merges.txt', 'tokenizer.model', 'chat_template.jinja', 'chat_template.json'],
];

function modelError(message: string): FusedGrpoError {
  return new FusedGrpoError('ERR_MODEL', message);
}

/** The files that hold the weights of a folder. */
export function weightFiles(dir: string): string[] {
  if (existsSync(join(dir, SINGLE))) return [join(dir, SINGLE)];
  const index = readJson(dir, INDEX, 'ERR_MODEL');
  if (index !== undefined) return shards(dir, index).map((name) => join(dir, name));
  const old = existsSync(join(dir, 'pytorch_model.bin')) ? ' (pytorch_model.bin is not read: convert it to safetensors)' : '';
  throw modelError(`${dir} has neither ${SINGLE} nor ${INDEX}${old}`);
}

/** Everything of a checkpoint folder but the weights. It is kept in memory: the folder may be gone when the policy is saved. */
export interface CheckpointFolder {
  path: string;
  config: ModelConfig;
  /** config.json */
  text: string;
  companions: ReadonlyMap<string, Uint8Array>;
}

/** The model of a run's output folder (trainers write it to model/), or the folder itself. */
export function runModel(dir: string): string {
  const holds = (name: string) => existsSync(join(dir, 'model', name));
  const isRun =
    existsSync(join(dir, 'metrics.jsonl')) && !existsSync(join(dir, SINGLE)) && (holds('config.json') || holds('adapter_config.json'));
  return isRun ? join(dir, 'model') : dir;
}

/** Reads config.json, generation_config.json and what travels with the weights. @throws FusedGrpoError ERR_MODEL */
export function readFolder(dir: string): CheckpointFolder {
  let info;
  try {
    info = statSync(dir);
  } catch (cause) {
    throw new FusedGrpoError('ERR_MODEL', `There is no folder ${dir}`, { cause });
  }
  if (!info.isDirectory()) throw modelError(`${dir} is not a folder`);
  const json = readJson(dir, 'config.json', 'ERR_MODEL');
  if (json === undefined) throw modelError(`${dir} has no config.json`);
  const config = readModelConfig(json, readJson(dir, 'generation_config.json', 'ERR_MODEL'));
  const companions = COMPANIONS.filter((name) => existsSync(join(dir, name))).map((name) => [name, readFileSync(join(dir, name))] as const);
  return { path: dir, config, text: readFileSync(join(dir, 'config.json'), 'utf8'), companions: new Map(companions) };
}

/** Replaces a small file so that a crash leaves the old one or the new one. */
export function replaceFile(file: string, write: (temporary: string) => void): void {
  const temporary = `${file}.tmp-${process.pid}`;
  try {
    write(temporary);
    const fd = openSync(temporary, 'r');
    fsyncSync(fd);
    closeSync(fd);
    renameSync(temporary, file);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
}

/** Where the value of a key of the outermost object stands in a (valid) JSON text. */
function valueOf(text: string, key: string): { begin: number; end: number } | undefined {
  let depth = 0;
  let begin = -1;
  for (const { 0: token, index } of text.matchAll(/"(?:[^"\\]|\\.)*"\s*:?|[{}[\],]/g)) {
    if (begin >= 0 && depth === 1 && (token === ',' || token === '}')) return { begin, end: index };
    if (token === '{' || token === '[') ++depth;
    else if (token === '}' || token === ']') --depth;
    else if (depth === 1 && token.endsWith(':') && JSON.parse(token.slice(0, -1)) === key) begin = index + token.length;
  }
  return undefined;
}

/**
 * config.json as it was, naming the dtype of the weights beside it. The text is edited, not written anew: 20.0 would become 20, and
 * transformers refuses an integer where it expects a float.
 */
function configText(text: string, dtype: string): string {
  return withKey(text, valueOf(text, 'dtype') || !valueOf(text, 'torch_dtype') ? 'dtype' : 'torch_dtype', dtype);
}

/** A (valid) JSON text whose outermost object has this value for the key. */
export function withKey(text: string, key: string, value: unknown): string {
  const place = valueOf(text, key);
  const json = JSON.stringify(value);
  if (!place) return text.replace('{', `{\n  "${key}": ${json},`);
  const tail = /\s*$/.exec(text.slice(place.begin, place.end))![0];
  return `${text.slice(0, place.begin)} ${json}${tail}${text.slice(place.end)}`;
}

/**
 * Writes everything but the weights of a policy into `dir`, which is created. Without a dtype no config.json: an adapter's folder has none.
 * @throws FusedGrpoError ERR_IO
 */
export function writeCompanions(from: CheckpointFolder, dir: string, dtype?: string): void {
  try {
    mkdirSync(dir, { recursive: true });
    if (dtype !== undefined) replaceFile(join(dir, 'config.json'), (temporary) => writeFileSync(temporary, configText(from.text, dtype)));
    for (const [name, content] of from.companions) replaceFile(join(dir, name), (temporary) => writeFileSync(temporary, content));
  } catch (cause) {
    throw new FusedGrpoError('ERR_IO', `Could not write to ${dir}: ${(cause as Error).message}`, { cause });
  }
}

export const weightsFileName = SINGLE;

/** Removes the shards that a newly written model.safetensors replaces: left behind, they would be a second, older model. */
export function removeShards(dir: string): void {
  const index = readJson(dir, INDEX, 'ERR_MODEL');
  if (index === undefined) return;
  rmSync(join(dir, INDEX), { force: true });
  for (const name of shards(dir, index)) if (name !== SINGLE) rmSync(join(dir, name), { force: true });
}
