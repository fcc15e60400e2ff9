// The options of openAICompatible.
import { incompatible, invalidType, invalidValue, rejectUnknown } from '../errors.js';
import { checkOption, type OptionTable } from '../options.js';
import { LOGPROBS_MODES, SERVERS, type LogprobsMode, type ServerKind } from './protocol.js';

/** Gives one server the weights of a folder, by the user's means: restarts it, say. */
export type ReloadFn = (weights: { url: string; folder: string; policyVersion: number; signal: AbortSignal }) => void | Promise<void>;

/** Options of openAICompatible; docs/rollouts.md has them as a table, with what each server can do. */
export interface OpenAICompatibleOptions {
  /** http(s)://host:port of each server; what follows (but /v1) is put before every path. */
  urls: string | readonly string[];
  /** The name that vLLM serves the model by; default: its only one. The others serve one model and are not told. */
  model?: string;
  /** Which server it is; 'auto' asks it. */
  server?: 'auto' | ServerKind;
  /** Sent as `Authorization: Bearer`. */
  apiKey?: string;
  /** Further headers of every request. */
  headers?: Readonly<Record<string, string>>;
  /** Further fields of every request for completions; they go over ours. */
  extraBody?: Readonly<Record<string, unknown>>;
  /** Log-probs with the completions, which turn on the sampler correction. What the server's are of is checked; unusable ones are an error. Default true. */
  samplerLogps?: boolean;
  /**
   * vLLM's --logprobs-mode ('raw': raw_logprobs, 'processed': processed_logprobs), SGLang's 'tempered' (or 'raw' with
   * SGLANG_RETURN_ORIGINAL_LOGPROB=1). 'auto' finds out; llama.cpp is asked for what is needed.
   */
  logprobsMode?: 'auto' | LogprobsMode;
  /** Completions go on to maxCompletionLength, whatever ends them (benchmarks). */
  ignoreEos?: boolean;
  /** Requests under way at each server. Default 64. */
  maxConcurrency?: number;
  /** Completions of a prompt that one request asks for (vLLM's n). Default: all of them (vLLM), 1 (others). */
  completionsPerRequest?: number;
  /** Seconds for one request, its wait in the server's queue included. Default 600. */
  requestTimeout?: number;
  /** Further attempts of a request, at another server where there is one. Default 5. */
  retries?: number;
  /** Seconds before the first of them, doubled with each further one up to 30, and multiplied by a random number from 0.5 to 1.5. Default 0.5. */
  retryDelay?: number;
  /** Failures on end that take a server out. One that cannot be reached is out at once. Default 3. */
  failuresUntilOut?: number;
  /** Seconds between attempts to bring back a server that is out. Default 5. */
  healthInterval?: number;
  /** Seconds that a call waits while no server is in. Default 300. */
  patience?: number;
  /** How weights are loaded: by the server's own calls ('auto': vLLM, SGLang), by a function, or not at all (frozen weights). Default 'auto'. */
  reload?: 'auto' | 'none' | ReloadFn;
  /** Seconds for one server's reload. Default 600. */
  reloadTimeout?: number;
  /** syncWeights.every: optimizer steps between hand-overs. Default 1. */
  every?: number;
  /** syncWeights.folder: where the weights are written. */
  folder?: string;
  /** What the server calls that folder, if it sees it elsewhere (a mount). */
  pathOnServer?: string | ((folder: string) => string);
}

export interface ResolvedOptions {
  urls: string[];
  model?: string;
  server: 'auto' | ServerKind;
  apiKey?: string;
  headers: Readonly<Record<string, string>>;
  extraBody: Readonly<Record<string, unknown>>;
  samplerLogps: boolean;
  logprobsMode: 'auto' | LogprobsMode;
  ignoreEos: boolean;
  maxConcurrency: number;
  completionsPerRequest?: number;
  requestTimeout: number;
  retries: number;
  retryDelay: number;
  failuresUntilOut: number;
  healthInterval: number;
  patience: number;
  reload: 'auto' | 'none' | ReloadFn;
  reloadTimeout: number;
  every: number;
  folder?: string;
  pathOnServer: (folder: string) => string;
}

const seconds = (value: number) => ({ type: 'number', default: value, min: 0, exclusiveMin: true, description: 'seconds' }) as const;
const count = (value?: number) => ({ type: 'integer', default: value, min: 1, description: 'how many' }) as const;
const text = { type: 'string', description: '' } as const;
const flag = (value: boolean) => ({ type: 'boolean', default: value, description: '' }) as const;

/** What a table can check; the rest is checked below. */
const table = {
  model: text,
  server: { type: 'enum', values: ['auto', ...SERVERS], default: 'auto', description: '' },
  apiKey: text,
  samplerLogps: flag(true),
  logprobsMode: { type: 'enum', values: ['auto', ...LOGPROBS_MODES], default: 'auto', description: '' },
  ignoreEos: flag(false),
  maxConcurrency: count(64),
  completionsPerRequest: count(),
  requestTimeout: seconds(600),
  retries: { type: 'integer', default: 5, min: 0, description: '' },
  retryDelay: { type: 'number', default: 0.5, min: 0, description: '' },
  failuresUntilOut: count(3),
  healthInterval: seconds(5),
  patience: seconds(300),
  reloadTimeout: seconds(600),
  every: count(1),
  folder: text,
} as const satisfies OptionTable;

const OTHERS = ['urls', 'headers', 'extraBody', 'reload', 'pathOnServer'];

function checkUrl(given: unknown): string {
  if (typeof given !== 'string') throw invalidType('urls', "addresses like 'http://127.0.0.1:8000'", given);
  const url = URL.canParse(given) ? new URL(given) : undefined;
  if (!url || !/^https?:$/.test(url.protocol)) throw invalidValue('urls', "addresses like 'http://127.0.0.1:8000'", given);
  return `${url.origin}${url.pathname}`.replace(/\/+$/, '').replace(/\/v1$/, '');
}

function checkUrls(given: unknown): string[] {
  const list = Array.isArray(given) ? (given as unknown[]) : [given];
  if (list.length === 0) throw invalidValue('urls', 'at least one address', given);
  const urls = list.map(checkUrl);
  const twice = urls.find((url, i) => urls.indexOf(url) < i);
  if (twice !== undefined) throw invalidValue('urls', 'each server once', twice);
  return urls;
}

function checkRecord(name: string, given: unknown): void {
  if (given !== undefined && (given === null || typeof given !== 'object' || Array.isArray(given)))
    throw invalidType(name, 'an object', given);
}

function checkReload({ reload = 'auto', server, every, folder, pathOnServer }: OpenAICompatibleOptions): void {
  if (reload !== 'auto' && reload !== 'none' && typeof reload !== 'function')
    throw invalidType('reload', "'auto', 'none' or a function", reload);
  if (pathOnServer !== undefined && typeof pathOnServer !== 'string' && typeof pathOnServer !== 'function')
    throw invalidType('pathOnServer', 'a path or a function of one', pathOnServer);
  if (reload === 'auto' && server === 'llama.cpp')
    throw incompatible(
      "llama.cpp's server cannot load weights while it runs: give `reload` a function that converts the folder and starts it again (docs/rollouts.md), or 'none' to sample from the weights that it has",
    );
  const idle = Object.entries({ every, folder, pathOnServer }).find(([, value]) => value !== undefined);
  if (reload === 'none' && idle) throw incompatible(`${idle[0]} is of the weights' hand-over, and reload 'none' has none`);
}

/** Checks everything before anything is done. Throws TypeError/RangeError naming the option. */
export function resolveOptions(given: OpenAICompatibleOptions): ResolvedOptions {
  if (given === null || typeof given !== 'object') throw invalidType('the options of openAICompatible', 'an object', given);
  rejectUnknown('openAICompatible', given, [...Object.keys(table), ...OTHERS]);
  const plain = Object.fromEntries(
    Object.entries(table as OptionTable).map(([name, spec]) => {
      const value = (given as unknown as Record<string, unknown>)[name];
      return [name, value === undefined ? spec.default : checkOption(name, spec, value)];
    }),
  );
  const { urls, headers, extraBody, reload = 'auto', pathOnServer } = given;
  checkRecord('headers', headers);
  checkRecord('extraBody', extraBody);
  checkReload(given);
  return {
    ...(plain as unknown as ResolvedOptions),
    urls: checkUrls(urls),
    headers: headers ?? {},
    extraBody: extraBody ?? {},
    reload,
    pathOnServer: typeof pathOnServer === 'function' ? pathOnServer : (folder) => pathOnServer ?? folder,
  };
}
