// The folder of a LoRA adapter, as the peft library reads and writes it.
import { existsSync, mkdirSync, statSync, writeFileSync } from 'node:fs';
import { isAbsolute, join, resolve } from 'node:path';
import { FusedGrpoError } from '../errors.js';
import { lastName, type Adapter } from './adapter.js';
import { resolveModel, type ResolveOptions } from '../hub/resolve.js';
import { replaceFile, runModel } from './folder.js';
import { weightNames } from './weight_files.js';
import { readJson } from './tokenizer.js';

const { adapterConfig: CONFIG, adapter: WEIGHTS } = weightNames;

/** The shortest target_modules that mean exactly these modules. */
function targetsOf(modules: readonly string[], all: readonly string[]): string[] {
  const names = [...new Set(modules.map(lastName))];
  const meant = all.filter((m) => names.includes(lastName(m)));
  return meant.length === modules.length ? names : [...modules];
}

/** An adapter folder: its weights' file, its numbers, and the base model's folder. */
export interface AdapterFolder {
  path: string;
  weights: string;
  rank: number;
  alpha: number;
  useRslora: boolean;
  base: string;
}

function fail(dir: string, message: string): never {
  throw new FusedGrpoError('ERR_MODEL', `${join(dir, CONFIG)}: ${message}`);
}

// Keys of peft's config that change what an adapter computes, and the only values understood here.
const ONLY: Record<string, readonly unknown[]> = {
  peft_type: ['LORA'],
  bias: ['none'],
  use_dora: [false],
  use_qalora: [false],
  lora_bias: [false],
  modules_to_save: [null],
  trainable_token_indices: [null],
  layer_replication: [null],
  target_parameters: [null],
  alora_invocation_tokens: [null],
  arrow_config: [null],
  use_bdlora: [null],
  velora_config: [null],
  monteclora_config: [null],
  kasa_config: [null],
};

function checkSupported(dir: string, json: Record<string, unknown>): void {
  for (const [key, allowed] of Object.entries(ONLY)) {
    const value = json[key];
    if (value === undefined || (value === null && key !== 'peft_type') || allowed.includes(value)) continue;
    fail(dir, `${key} = ${JSON.stringify(value)} is not implemented (only ${JSON.stringify(allowed[0])})`);
  }
  for (const key of ['rank_pattern', 'alpha_pattern'])
    if (Object.keys(json[key] ?? {}).length > 0) fail(dir, `${key} is not implemented: one rank and one alpha for all modules`);
}

async function findBase(dir: string, name: unknown, given: string | undefined, hub: ResolveOptions): Promise<string> {
  const isFolder = (path: string) => existsSync(path) && statSync(path).isDirectory();
  if (given !== undefined) {
    const found = await resolveModel(given, hub);
    if (!isFolder(found)) throw new FusedGrpoError('ERR_MODEL', `base: there is no folder ${given}`);
    return runModel(found);
  }
  if (typeof name !== 'string' || name === '') fail(dir, 'it names no base model (base_model_name_or_path): give its folder as `base`');
  const local = (isAbsolute(name) ? [name] : [join(dir, name), resolve(name)]).find(isFolder);
  const found = local ?? (await resolveModel(name, hub));
  return isFolder(found)
    ? runModel(found)
    : fail(dir, `its base model ${JSON.stringify(name)} is no folder here: give its folder as \`base\``);
}

/** Whether `dir` is the folder of an adapter, not of a model. */
export const isAdapterFolder = (dir: string): boolean =>
  existsSync(join(dir, CONFIG)) && ![weightNames.single, weightNames.index].some((name) => existsSync(join(dir, name)));

/**
 * Reads adapter_config.json. `base`: the base model's folder, instead of what the file names (a folder: absolute, or relative to the
 * adapter's folder or the working directory; else an id of the hub).
 * @throws FusedGrpoError ERR_MODEL: something in it that is not implemented, or a base that is not there.
 */
export async function readAdapterFolder(dir: string, base?: string, hub: ResolveOptions = {}): Promise<AdapterFolder> {
  const json = readJson(dir, CONFIG, 'ERR_MODEL') as Record<string, unknown> | null;
  if (typeof json !== 'object' || json === null) fail(dir, 'expected an object');
  checkSupported(dir, json);
  const { r, lora_alpha: alpha = 8, use_rslora: useRslora = false } = json;
  if (!Number.isSafeInteger(r) || (r as number) < 1) fail(dir, `r = ${JSON.stringify(r)} is no rank`);
  if (typeof alpha !== 'number' || !Number.isFinite(alpha)) fail(dir, `lora_alpha = ${JSON.stringify(alpha)} is no number`);
  const found = await findBase(dir, json['base_model_name_or_path'], base, hub);
  if (isAdapterFolder(found)) fail(dir, `its base model ${found} is an adapter itself: merge that one first`);
  return { path: dir, weights: join(dir, WEIGHTS), rank: r as number, alpha, useRslora: useRslora === true, base: found };
}

/**
 * Policy.load's option `base` for an adapter that a run of `model` (a whole model or an adapter) wrote: the base is where the run finds it
 * now, not where it was when the adapter was written. Nothing when `folder` holds a whole model or is `model` itself.
 */
export async function baseOption(folder: string, model: string): Promise<{ base?: string }> {
  if (folder === model || !isAdapterFolder(folder)) return {};
  const whole = runModel(await resolveModel(model));
  return { base: isAdapterFolder(whole) ? (await readAdapterFolder(whole)).base : whole };
}

/** Where an adapter's tensors name its modules. */
export function modulesIn(tensors: readonly { name: string }[]): string[] {
  return tensors.flatMap(({ name }) => /^base_model\.model\.(.+)\.lora_A\.weight$/.exec(name)?.[1] ?? []);
}

export const adapterWeightsFile = (dir: string): string => join(dir, WEIGHTS);

/** Writes adapter_config.json, which `peft.PeftModel.from_pretrained` reads. @throws FusedGrpoError ERR_IO */
export function writeAdapterConfig(dir: string, adapter: Adapter, all: readonly string[], base: string, transposed: boolean): void {
  const config = {
    ...{ peft_type: 'LORA', task_type: 'CAUSAL_LM', base_model_name_or_path: resolve(base) },
    ...{ r: adapter.rank, lora_alpha: adapter.alpha, lora_dropout: 0, use_rslora: adapter.useRslora, use_dora: false, bias: 'none' },
    ...{ target_modules: targetsOf(adapter.modules, all), modules_to_save: null, rank_pattern: {}, alpha_pattern: {} },
    ...{ fan_in_fan_out: transposed, init_lora_weights: true, inference_mode: true },
  };
  try {
    mkdirSync(dir, { recursive: true });
    replaceFile(join(dir, CONFIG), (temporary) => writeFileSync(temporary, JSON.stringify(config, null, 2) + '\n'));
  } catch (cause) {
    throw new FusedGrpoError('ERR_IO', `Could not write to ${dir}: ${(cause as Error).message}`, { cause });
  }
}
