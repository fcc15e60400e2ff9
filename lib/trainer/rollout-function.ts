// Completions from elsewhere: what a user's rollout function is given, and what it returns.
import type { ChatMessage } from '../engine/chat.js';
import type { AnyRow, TrainerState } from './reward-types.js';
import type { RolloutReport } from '../rollouts/stats.js';

/** What every prompt has. */
export interface AnyPrompt {
  /** What training conditions on: send these to an engine, not the text. */
  tokens: Int32Array;
  /** As text: as it stands in the data set, or rendered by the chat template. */
  text: string;
  /** The data set's row, with all of its columns. */
  row: AnyRow;
  /** For engines that take one seed per prompt: below 2^31; depends on the run's seed, the rollout and the prompt's place in it. */
  seed: number;
}

/** One prompt of a rollout, told apart by `kind`: text, or a conversation. */
export type RolloutPrompt = TextPrompt | ChatPrompt;

/** A prompt that is text in the data set. */
export interface TextPrompt extends AnyPrompt {
  /** Tells it from a ChatPrompt. */
  kind: 'text';
}

/** A prompt that is a conversation in the data set. */
export interface ChatPrompt extends AnyPrompt {
  /** Tells it from a TextPrompt. */
  kind: 'chat';
  /** The conversation so far; `text` and `tokens` are it, rendered. */
  messages: ChatMessage[];
}

/** How to sample: the config's options. */
export interface RolloutSampling {
  /** 0: greedy (evaluations ask for it). */
  temperature: number;
  /** Of the likeliest tokens with this share together; 1: all. */
  topP: number;
  /** 0: all tokens. */
  topK: number;
  /** Not of tokens less likely than this share of the likeliest; absent: all. */
  minP?: number;
  /** Divides the logits of tokens that were there already (multiplies negative ones); 1: none. */
  repetitionPenalty: number;
  /** Tokens of a completion, at most; whatever has mask 0 counts. */
  maxCompletionLength: number;
  /** A completion ends with any of these, and the one that ended it is its last token. */
  stopTokenIds: readonly number[];
  /** With `step` and `promptOffset`, the coordinates of the random numbers that Policy.generate takes under the same names. */
  seed: number;
  /** Number of the rollout; 0 in evaluations. */
  step: number;
  /** Prompts of the same rollout (or evaluation) in earlier calls. */
  promptOffset: number;
}

/** What a rollout function is asked for: completions of some prompts. */
export interface RolloutRequest {
  /** For a training step, or for an evaluation. */
  purpose: 'train' | 'eval';
  /** Those of this call, in the order of the data set; with several ranks, this rank's. */
  prompts: RolloutPrompt[];
  /** Completions wanted of each prompt. */
  numGenerations: number;
  /** The config's sampling options, and where the random numbers are. */
  sampling: RolloutSampling;
  /** Of the step that the completions are for. */
  trainerState: TrainerState;
  /** How many optimizer steps the policy's weights have seen. */
  policyVersion: number;
  /** The version that syncWeights handed over last; absent without syncWeights. */
  syncedVersion?: number;
  /** Where those weights lie, until the next time they are handed over. */
  syncedFolder?: string;
  /** For what there is to say of the servers that were asked; it becomes the step's metrics `servers` and `rollout`. May be called often. */
  report?: (report: RolloutReport) => void;
  /** Aborted when the run is, or when the call has timed out (rolloutTimeout): pass it to what asks the server. */
  signal: AbortSignal;
}

/** One completion. Its text is decoded from `tokens` for the reward functions and never encoded again. */
export interface RolloutCompletion {
  /** (T) ids, the end token included; at least one, at most sampling.maxCompletionLength. */
  tokens: ArrayLike<number>;
  /** 'stop': it ended by itself; 'length': it was cut. */
  finishReason: 'stop' | 'length';
  /**
   * (T) log-prob of each token when it was sampled, nats, under the full distribution at `temperature` (before topK, topP and minP). All
   * completions of a call have them or none. They turn on samplerImportanceSampling. Where mask is 0 they are not read (null will do).
   */
  samplerLogps?: ArrayLike<number | null>;
  /** (T) 0: the token is not the policy's own (a tool's answer): it is read but not trained. Default 1 everywhere. */
  mask?: ArrayLike<number | boolean>;
  /** Further columns for the reward functions: what an environment said, say. Completions without a column have null there. */
  columns?: Record<string, unknown>;
  /**
   * Optimizer steps that the weights which sampled it had seen, where the function knows (of several: the least). Default syncedVersion, else
   * policyVersion. What maxStaleness forbids is asked for again.
   */
  policyVersion?: number;
}

/** For each prompt of the request, in its order, numGenerations completions. */
export type RolloutResult = readonly (readonly RolloutCompletion[])[];

/**
 * Samples completions in place of the trainer's own engine. It must be deterministic for a run to resume bit for bit. A call that throws ends
 * the run as a reward function that throws does: what was trained is saved, and a resumed run asks for the same rollout again.
 */
export interface RolloutFn {
  (request: RolloutRequest): RolloutResult | Promise<RolloutResult>;
  /** The trainer's `syncWeights`, for a function that brings its own (openAICompatible's does). */
  syncWeights?: SyncWeights;
}

/** What a hook of syncWeights is given. */
export interface SyncedWeights {
  /** Absolute: the weights in Hugging Face layout (of a LoRA run: merged). Whole when the hook is called; the next time it is replaced. */
  folder: string;
  /** How many optimizer steps they have seen. */
  policyVersion: number;
  /** Steps of the run so far; more than policyVersion where steps were left out. */
  step: number;
  /** Aborted when the run is, or when the hook has timed out (rolloutTimeout). */
  signal: AbortSignal;
}

/** Hands the policy's weights to what samples: a folder is written and a hook is called, before the first rollout and then every so often. */
export interface SyncWeights {
  /** Before a rollout, when this many optimizer steps (or more) were made since the last time. An evaluation always has the newest. Default 1. */
  every?: number;
  /** Default: `weights` in outputDir; without outputDir a temporary folder, removed by dispose(). */
  folder?: string;
  /** Returns when whatever samples has the weights. Must settle within rolloutTimeout. */
  hook: (weights: SyncedWeights) => void | Promise<void>;
}
