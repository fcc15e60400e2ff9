// What the servers have in common: how they are asked, and what is made of their answers.
import { FusedGrpoError } from '../errors.js';
import type { RolloutSampling } from '../trainer/rollout-function.js';
import type { HttpClient } from './http.js';
import { RequestFailed } from './http.js';

export const SERVERS = ['vllm', 'sglang', 'llama.cpp'] as const;
export type ServerKind = (typeof SERVERS)[number];

/**
 * Which distribution a server's log-probs are of. 'raw': the model's, at temperature 1. 'tempered': at `temperature`, over all tokens.
 * 'processed': at `temperature`, after penalties, among the tokens that topK, topP and minP leave.
 */
export const LOGPROBS_MODES = ['raw', 'tempered', 'processed'] as const;
export type LogprobsMode = (typeof LOGPROBS_MODES)[number];

/** Completions of one prompt that one request asks for. */
export interface Job {
  /** Its place among the prompts of the call, and of its first completion in the group. */
  prompt: number;
  first: number;
  count: number;
  tokens: number[];
  /** Of the first of them. */
  seed: number;
  sampling: RolloutSampling;
  ignoreEos: boolean;
  /** Whether log-probs are needed: an answer without them is none then. */
  logprobs: boolean;
}

/** One completion of an answer, as the server gave it. */
export interface Answered {
  tokens: number[];
  /** One per token, under `mode`'s distribution; absent where the server gave too few. */
  logps?: number[];
  finishReason: 'stop' | 'length';
  /** The server's names for the weights that sampled it, where it gives them. */
  versions?: string[];
}

export interface Weights {
  folder: string;
  policyVersion: number;
  /** How a server that names its weights is to call them. */
  label: string;
}

export interface Protocol {
  kind: ServerKind;
  /** What its log-probs are of, when it runs as it comes; undefined: to be found out. */
  logprobsMode?(sampling: RolloutSampling): LogprobsMode;
  /** Completions that one request may ask for. */
  most: number;
  health: string;
  /** Connections are closed after each request. */
  closes?: boolean;
  path: string;
  body(job: Job, model: string | undefined, mode: LogprobsMode | undefined): Record<string, unknown>;
  /** Throws RequestFailed. */
  read(answer: unknown, job: Job, where: string): Answered[];
  /** Finds out the log-probs' mode by asking. */
  probeMode?(client: HttpClient, model: string | undefined, tokens: number[], timeout: number, signal: AbortSignal): Promise<LogprobsMode>;
  /** Loads weights by the server's own calls. */
  reload?(client: HttpClient, weights: Weights, timeout: number, signal: AbortSignal): Promise<void>;
}

/** Of an answer that another attempt may mend: it was cut, mixed up, or half of it is missing. */
export const garbled = (where: string, what: string): RequestFailed => new RequestFailed(`${where} answered ${what}`, { retryable: true });

/** Of a server that cannot do what is needed, however often it is asked. */
export const unable = (message: string): FusedGrpoError => new FusedGrpoError('ERR_ROLLOUT', message);

export const isObject = (value: unknown): value is Record<string, unknown> =>
  value !== null && typeof value === 'object' && !Array.isArray(value);

export const isNumbers = (value: unknown): value is number[] => Array.isArray(value) && value.every((v) => typeof v === 'number');

/**
 * Whether log-probs of `mode` are those under the full distribution at `temperature`, which the sampler correction needs. A completion that
 * was sampled among fewer tokens still has such log-probs: of 'raw' and 'tempered' ones.
 */
export function areFull(mode: LogprobsMode, { temperature, topP, topK, minP, repetitionPenalty }: RolloutSampling): boolean {
  if (mode === 'tempered') return repetitionPenalty === 1;
  if (mode === 'raw') return temperature === 1;
  return topP === 1 && topK === 0 && (minP ?? 0) === 0 && repetitionPenalty === 1;
}

/** Cuts behind the first stop token, where a server went on: what comes before is what a server that stops would have sampled. */
export function cutAtStop(answered: Answered, { stopTokenIds }: RolloutSampling, ignoreEos: boolean): Answered {
  const at = ignoreEos ? -1 : answered.tokens.findIndex((id) => stopTokenIds.includes(id));
  if (at < 0 || at === answered.tokens.length - 1) return answered;
  const { tokens, logps } = answered;
  return { ...answered, tokens: tokens.slice(0, at + 1), logps: logps?.slice(0, at + 1), finishReason: 'stop' };
}
