// Options of Policy's methods: defaults and validation.
import { FusedGrpoError, invalidType, invalidValue } from '../errors.js';
import type { DownloadProgress, ResolveOptions } from '../hub/resolve.js';
import { eachOf, listOf, readOnce } from '../ops/inputs.js';

/** Of Policy.load. */
export interface LoadOptions {
  /** 'auto' takes the best device there is. Default 'auto'. */
  device?: 'auto' | 'cpu' | 'cuda';
  /** What weights and activations are held in. Default 'auto': as config.json says. */
  dtype?: 'auto' | 'float32' | 'bfloat16';
  /** The server of models given by id. Default: HF_ENDPOINT, else https://huggingface.co. */
  hubUrl?: string;
  /** Told what is fetched from the hub and how far it is; default: lines on stderr. */
  onDownload?: (progress: DownloadProgress) => void;
  /** The base model (a folder, or an id of the hub), when a LoRA adapter is loaded. Default: what its adapter_config.json names. */
  base?: string;
  /** Aborting stops the call between tokens or micro-batches; it rejects with signal.reason. */
  signal?: AbortSignal;
}

/** Of Policy.generate. */
export interface GenerateOptions {
  /** Completions per prompt. Default 1. */
  numGenerations?: number;
  /**
   * Tokens per completion, at most. When given, prompt + maxNewTokens must fit the context (else ERR_CONTEXT_LENGTH). Default 256, or what
   * the longest prompt leaves of the context.
   */
  maxNewTokens?: number;
  /** Logits are divided by it. 0: always the most likely token; `logps` are then at temperature 1. Default 1. */
  temperature?: number;
  /** Only the k most likely tokens (and ties with the k-th). 0: all. Default 0. */
  topK?: number;
  /** Only the most likely tokens that reach this mass together, in (0, 1]. Default 1: all. */
  topP?: number;
  /** Only tokens at least this many times as likely as the most likely one, in [0, 1]. Default 0: all. */
  minP?: number;
  /** Makes tokens of the prompt and the completion less likely when above 1. Default 1: off. */
  repetitionPenalty?: number;
  /** A non-negative safe integer. Default: random. */
  seed?: number;
  /** A second coordinate of the random numbers, for callers that sample the same prompts again and again. Default 0. */
  step?: number;
  /** Text at which a completion ends; it is not part of the completion's text. Needs a tokenizer. */
  stop?: string | readonly string[];
  /** Go on after an end token. Default false. */
  ignoreEos?: boolean;
  /** Number of prompts[0] for the random numbers: prompts drawn in parts get the samples of one call. Default 0. */
  promptOffset?: number;
  /** false: sample from the base model, without its adapter. Default true. */
  adapter?: boolean;
  /** Aborting stops the call between tokens or micro-batches; it rejects with signal.reason. */
  signal?: AbortSignal;
}

/** Of Policy.score. */
export interface ScoreOptions {
  /** Logits are divided by it; above 0. Default 1. */
  temperature?: number;
  /** Also return entropies. Default false. */
  entropy?: boolean;
  /** false: score by the base model, without its adapter (the reference of a LoRA run). Default true. */
  adapter?: boolean;
  /** Aborting stops the call between tokens or micro-batches; it rejects with signal.reason. */
  signal?: AbortSignal;
}

function number(name: string, value: unknown, fallback: number, what: string, ok: (v: number) => boolean): number {
  if (value === undefined) return fallback;
  if (typeof value !== 'number') throw invalidType(name, what, value);
  if (!ok(value)) throw invalidValue(name, what, value);
  return value;
}

function integer(name: string, value: unknown, fallback: number, least: number, most = 2 ** 31 - 1): number {
  const what = least === 0 ? 'a non-negative integer' : 'a positive integer';
  return number(name, value, fallback, what, (v) => Number.isInteger(v) && v >= least && v <= most);
}

function boolean(name: string, value: unknown, fallback = false): boolean {
  if (value === undefined) return fallback;
  if (typeof value !== 'boolean') throw invalidType(name, 'true or false', value);
  return value;
}

function stopStrings(value: unknown): string[] {
  if (value === undefined) return [];
  return eachOf('stop', 'a string or an array of strings', listOf(value) ?? [value], (s) => {
    if (typeof s !== 'string') throw invalidType('stop', 'a string or an array of strings', value);
    if (s === '') throw invalidValue('stop', 'strings that are not empty', value);
    return s;
  });
}

export function readLoadOptions(options: LoadOptions): Required<Pick<LoadOptions, 'dtype'>> & Pick<LoadOptions, 'base'> & ResolveOptions {
  options = readOnce('Policy.load options', options, ['device', 'dtype', 'base', 'hubUrl', 'onDownload', 'signal'], 'options');
  const { device = 'auto', dtype = 'auto', base, hubUrl, onDownload, signal } = options;
  if (base !== undefined && (typeof base !== 'string' || base === '')) throw invalidType('base', 'the path of a folder', base);
  if (!['auto', 'cpu', 'cuda'].includes(device)) throw invalidValue('device', "'auto', 'cpu' or 'cuda'", device);
  if (device === 'cuda')
    throw new FusedGrpoError(
      'ERR_NO_CUDA',
      "Models run on the CPU; use device 'cpu' or 'auto' (tensors and the ops on them can be on a GPU)",
    );
  if (!['auto', 'float32', 'bfloat16'].includes(dtype)) throw invalidValue('dtype', "'auto', 'float32' or 'bfloat16'", dtype);
  if (hubUrl !== undefined && (typeof hubUrl !== 'string' || !/^https?:\/\//.test(hubUrl)))
    throw invalidType('hubUrl', 'an http(s) address', hubUrl);
  if (onDownload !== undefined && typeof onDownload !== 'function') throw invalidType('onDownload', 'a function', onDownload);
  return {
    dtype,
    ...(base ? { base } : {}),
    ...(hubUrl ? { hubUrl } : {}),
    ...(onDownload ? { onDownload } : {}),
    ...(signal ? { signal } : {}),
  };
}

const GENERATE_KEYS = [
  ...['numGenerations', 'maxNewTokens', 'temperature', 'topK', 'topP', 'minP', 'repetitionPenalty', 'seed', 'step', 'stop'],
  ...['promptOffset', 'ignoreEos', 'adapter', 'signal'],
];

export function readGenerateOptions(options: GenerateOptions) {
  const o = readOnce('Policy.generate options', options, GENERATE_KEYS, 'options');
  return {
    numGenerations: integer('numGenerations', o.numGenerations, 1, 1),
    maxNewTokens: o.maxNewTokens === undefined ? undefined : integer('maxNewTokens', o.maxNewTokens, 256, 1),
    temperature: number('temperature', o.temperature, 1, '0, or a number from 0.0001 to 10000', (v) => v === 0 || (v >= 1e-4 && v <= 1e4)),
    topK: integer('topK', o.topK, 0, 0),
    topP: number('topP', o.topP, 1, 'a number in (0, 1]', (v) => v > 0 && v <= 1),
    minP: number('minP', o.minP, 0, 'a number in [0, 1]', (v) => v >= 0 && v <= 1),
    repetitionPenalty: number('repetitionPenalty', o.repetitionPenalty, 1, 'a number greater than 0', (v) => v > 0 && v < Infinity),
    seed: o.seed === undefined ? undefined : integer('seed', o.seed, 0, 0, Number.MAX_SAFE_INTEGER),
    step: integer('step', o.step, 0, 0, 2 ** 32 - 1),
    promptOffset: integer('promptOffset', o.promptOffset, 0, 0),
    stop: stopStrings(o.stop),
    ignoreEos: boolean('ignoreEos', o.ignoreEos),
    adapter: boolean('adapter', o.adapter, true),
    signal: o.signal,
  };
}

export function readScoreOptions(options: ScoreOptions) {
  options = readOnce('Policy.score options', options, ['temperature', 'entropy', 'adapter', 'signal'], 'options');
  return {
    temperature: number('temperature', options.temperature, 1, 'a number from 0.0001 to 10000', (v) => v >= 1e-4 && v <= 1e4),
    entropy: boolean('entropy', options.entropy),
    adapter: boolean('adapter', options.adapter, true),
    signal: options.signal,
  };
}
