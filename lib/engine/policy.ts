// A language model that can be sampled from, scored, trained and saved.
import { randomInt } from 'node:crypto';
import { join } from 'node:path';
import { FusedGrpoError, incompatible, invalidType, invalidValue, rejectUnknown } from '../errors.js';
import { resolveModel } from '../hub/resolve.js';
import { engine } from '../native.js';
import type { NativeCompletion, NativeModel } from './addon.js';
import { checkSignal, settle } from './call.js';
import { ChatTemplate, type ChatMessage } from './chat.js';
import { refuseClassifier } from './classification.js';
import type { ModelConfig } from './config.js';
import { readFolder, removeShards, runModel, weightFiles, weightsFileName, writeCompanions, type CheckpointFolder } from './folder.js';
import {
  readGenerateOptions,
  readLoadOptions,
  readScoreOptions,
  type GenerateOptions,
  type LoadOptions,
  type ScoreOptions,
} from './options.js';
import { encodePrompt, join32, needTokenizer, renderChat, type Prompt } from './texts.js';
import { Tokenizer } from './tokenizer.js';

export type { Prompt } from './texts.js';

export interface Completion {
  /** Which of the prompts it continues. */
  promptIndex: number;
  /** The completion as text: special tokens skipped, a stop string and what follows it cut off. Empty without a tokenizer. */
  text: string;
  /** Sampled ids, the end token (or the one that completed a stop string) included. */
  tokens: Int32Array;
  /** Log-prob of each token, nats, under the full distribution at `temperature`, before penalties and truncation. */
  logps: Float32Array;
  /** 'stop': an end token or a stop string; 'length': maxNewTokens were drawn. */
  finishReason: 'stop' | 'length';
}

export interface GenerateResult {
  /** numGenerations completions of prompt 0, then of prompt 1, ... */
  completions: Completion[];
}

export interface ScoreResult {
  /** Per completion: log-prob of each of its tokens, nats. */
  logps: Float32Array[];
  /** Per completion: entropy of the distribution that each token was drawn from, nats. Only when asked for. */
  entropies?: Float32Array[];
}

/** What `score` takes as a completion. A result of `generate` names its prompt itself. */
export type ScoredCompletion = string | Int32Array | { tokens: Int32Array; promptIndex?: number };

function split32(flat: Float32Array, offsets: Int32Array): Float32Array[] {
  return Array.from({ length: offsets.length - 1 }, (_, i) => flat.slice(offsets[i], offsets[i + 1]));
}

export class Policy {
  private bytesSet = false;
  private isDisposed = false;

  private constructor(
    /** @internal */ readonly native: NativeModel,
    /** @internal */ readonly config: ModelConfig,
    /** @internal */ readonly folder: CheckpointFolder,
    /** The folder it was loaded from. */
    readonly path: string,
    /** What weights and activations are held in. */
    readonly dtype: 'float32' | 'bfloat16',
    /** Number of weights; a tied head counts once. */
    readonly parameterCount: number,
    /** Undefined when the folder has no tokenizer.json: the policy then works on token ids alone. */
    readonly tokenizer: Tokenizer | undefined,
    /** @internal */ readonly chat: ChatTemplate | undefined,
  ) {}

  /**
   * Loads a checkpoint folder in Hugging Face layout: config.json, model.safetensors (or shards), and, when there, tokenizer.json and a chat
   * template. A run's output folder stands for the model it holds. Where there is no such folder, `org/name` or `name`, with `@revision`, is a
   * model of the Hugging Face hub: taken from its cache, else fetched into it (docs/data-and-models.md). dtype 'auto' takes float32 or bfloat16 as config.json says, and float32 for anything else. Dropout is never applied.
   * @throws FusedGrpoError ERR_MODEL (names the key or tensor), ERR_TOKENIZER, ERR_IO, ERR_NO_CUDA, ERR_NOT_BUILT; the signal's reason.
   */
  static async load(dir: string, options: LoadOptions = {}): Promise<Policy> {
    if (typeof dir !== 'string' || dir === '')
      throw invalidType('dir', 'the path of a checkpoint folder, or the id of a model of the hub', dir);
    const { dtype: wanted, ...hub } = readLoadOptions(options);
    const { signal } = hub;
    checkSignal(signal);
    const folder = readFolder(runModel(await resolveModel(dir, hub)));
    const { config, path } = folder;
    refuseClassifier(config, path);
    const dtype = wanted !== 'auto' ? wanted : config.dtype === 'bfloat16' ? 'bfloat16' : 'float32';
    const tokenizer = Tokenizer.load(path);
    const chat = tokenizer && ChatTemplate.load(path, tokenizer.config);
    const native = new (engine().Model)({ threads: 0 });
    try {
      const { parameters } = await settle(() => native.load(config.native, weightFiles(path), dtype), signal);
      return new Policy(native, config, folder, path, dtype, parameters, tokenizer, chat);
    } catch (error) {
      native.dispose();
      throw error;
    }
  }

  /** A second policy with a copy of the weights as they are now: a frozen reference, say. It is disposed by itself. */
  async clone(): Promise<Policy> {
    this.alive();
    const native = new (engine().Model)({ threads: 0 });
    await settle(() => this.native.cloneInto(native));
    return new Policy(native, this.config, this.folder, this.path, this.dtype, this.parameterCount, this.tokenizer, this.chat);
  }

  get vocabSize(): number {
    return this.config.native.vocabSize;
  }
  /** Tokens of a prompt and its completion together, at most. */
  get contextLength(): number {
    return this.config.native.maxPositions;
  }
  /** A completion ends with any of these. From config.json and generation_config.json. */
  get eosTokenIds(): readonly number[] {
    return this.config.eosTokenIds;
  }
  get disposed(): boolean {
    return this.isDisposed;
  }

  /** Token ids of a prompt. Text gets what the tokenizer's post-processor adds (BOS where the model has one); a conversation does not. */
  encode(prompt: Prompt, name = 'prompt'): Int32Array {
    return encodePrompt(this, prompt, name);
  }

  /** A conversation as text, ending where the assistant's turn begins (or, without a generation prompt, after the last message). */
  render(messages: readonly ChatMessage[], name = 'messages', addGenerationPrompt = true): string {
    return renderChat(this, messages, name, addGenerationPrompt);
  }

  /** Text of token ids, special tokens skipped. */
  decode(tokens: Int32Array): string {
    return this.needTokenizer('tokens').decode(tokens);
  }

  private needTokenizer(name: string): Tokenizer {
    return needTokenizer(this, name);
  }

  private alive(): void {
    if (this.isDisposed) throw new FusedGrpoError('ERR_DISPOSED', 'This policy was disposed');
  }

  private encodePrompts(prompts: readonly Prompt[]): Int32Array[] {
    if (!Array.isArray(prompts)) throw invalidType('prompts', 'an array of prompts', prompts);
    return prompts.map((p: Prompt, i) => {
      const ids = this.encode(p, `prompts[${i}]`);
      if (ids.length === 0) throw invalidValue(`prompts[${i}]`, 'at least one token', p);
      return ids;
    });
  }

  /** maxNewTokens given: it must fit every prompt. Omitted: 256, or what the longest prompt leaves of the context. */
  private maxNewTokens(asked: number | undefined, prompts: readonly Int32Array[]): number {
    const longest = prompts.reduce((most, p) => Math.max(most, p.length), 0);
    if (asked === undefined && longest < this.contextLength) return Math.min(256, this.contextLength - longest);
    if (longest + (asked ?? 1) <= this.contextLength) return asked ?? 1;
    const index = prompts.findIndex((p) => p.length === longest);
    const plus = asked === undefined ? 'and leaves no room for a completion in' : `and with maxNewTokens ${asked} does not fit`;
    throw new FusedGrpoError(
      'ERR_CONTEXT_LENGTH',
      `prompts[${index}] has ${longest} tokens ${plus} the model's context of ${this.contextLength}`,
    );
  }

  /**
   * Samples completions. Reproducible: a token depends on (seed, step, prompt number, completion number, position) and the logits, never on
   * what else is in the batch. Order of operations: repetition penalty, temperature, topK, topP, minP (as in transformers).
   * @throws FusedGrpoError ERR_CONTEXT_LENGTH, ERR_NON_FINITE, ERR_DISPOSED, ERR_TOKENIZER; TypeError, RangeError; the signal's reason.
   */
  async generate(prompts: readonly Prompt[], options: GenerateOptions = {}): Promise<GenerateResult> {
    const o = readGenerateOptions(options);
    checkSignal(o.signal);
    this.alive();
    const ids = this.encodePrompts(prompts);
    if (ids.length === 0) return { completions: [] };
    if (o.stop.length > 0) this.giveTokenBytes();
    const native = {
      ...{ temperature: o.temperature, topK: o.topK, topP: o.topP, minP: o.minP, repetitionPenalty: o.repetitionPenalty },
      ...{
        seed: o.seed ?? randomInt(2 ** 48 - 1),
        step: o.step,
        numGenerations: o.numGenerations,
        promptOffset: o.promptOffset,
        stop: o.stop,
      },
      maxNewTokens: this.maxNewTokens(o.maxNewTokens, ids),
      eosTokenIds: Int32Array.from(o.ignoreEos ? [] : this.eosTokenIds),
    };
    const completions = await settle(() => this.native.generate(join32(ids), native), o.signal);
    return { completions: completions.map((c, i) => this.completion(c, Math.floor(i / o.numGenerations), o.stop)) };
  }

  private completion(c: NativeCompletion, promptIndex: number, stop: readonly string[]): Completion {
    const text = this.tokenizer ? this.completionText(c, stop) : '';
    return { promptIndex, text, tokens: c.tokens, logps: c.logps, finishReason: c.stopped ? 'stop' : 'length' };
  }

  private completionText(c: NativeCompletion, stop: readonly string[]): string {
    const text = this.decode(c.tokens);
    if (c.stopAt < 0) return text;
    const cuts = stop.map((s) => text.indexOf(s)).filter((at) => at >= 0);
    if (cuts.length > 0) return text.slice(0, Math.min(...cuts));
    return this.decode(c.tokens.subarray(0, -1)); // a stop string of special tokens: it is not part of the text
  }

  private giveTokenBytes(): void {
    if (this.bytesSet) return;
    this.native.setTokenBytes(this.needTokenizer('prompts (with stop strings)').tokenBytes());
    this.bytesSet = true;
  }

  /**
   * Log-probs of given completions, by one full forward pass. completions[i] continues prompts[i], or prompts[promptIndex] when it has one
   * (so the completions that generate returned can be passed as they are). A string is encoded without special tokens.
   * @throws FusedGrpoError ERR_CONTEXT_LENGTH, ERR_NON_FINITE, ERR_DISPOSED, ERR_TOKENIZER; TypeError, RangeError; the signal's reason.
   */
  async score(prompts: readonly Prompt[], completions: readonly ScoredCompletion[], options: ScoreOptions = {}): Promise<ScoreResult> {
    const { temperature, entropy, signal } = readScoreOptions(options);
    checkSignal(signal);
    this.alive();
    const ids = this.encodePrompts(prompts);
    if (!Array.isArray(completions)) throw invalidType('completions', 'an array', completions);
    const indexed = completions.some((c: ScoredCompletion) => typeof c === 'object' && 'promptIndex' in c);
    if (!indexed && completions.length !== ids.length)
      throw incompatible(`Expected as many completions as prompts but received ${completions.length} and ${ids.length}`);
    const rows = completions.map((c: ScoredCompletion, i) => this.scored(c, i, ids));
    const targets = join32(rows.map((r) => r.tokens));
    const native = { temperature, entropy, tokenBudget: 4096 };
    const result = await settle(() => this.native.score(join32(rows.map((r) => r.prompt)), targets, native), signal);
    const logps = split32(result.logps, targets.offsets);
    return entropy ? { logps, entropies: split32(result.entropies ?? new Float32Array(), targets.offsets) } : { logps };
  }

  private scored(c: ScoredCompletion, i: number, prompts: readonly Int32Array[]): { prompt: Int32Array; tokens: Int32Array } {
    const name = `completions[${i}]`;
    const object = typeof c === 'object' && c !== null && !(c instanceof Int32Array) ? c : undefined;
    const tokens = typeof c === 'string' ? this.needTokenizer(name).encode(c, false) : object ? object.tokens : c;
    if (!(tokens instanceof Int32Array)) throw invalidType(name, 'a string, an Int32Array or a completion', c);
    const index = object?.promptIndex ?? i;
    const prompt = prompts[index];
    if (!prompt) throw invalidValue(`${name}.promptIndex`, `a number from 0 to ${prompts.length - 1}`, index);
    return { prompt, tokens };
  }

  /**
   * Writes the policy in Hugging Face layout: weights (in `dtype`, one model.safetensors), config.json, and copies of the tokenizer,
   * generation_config.json and the chat template. It opens in transformers unchanged. Every file is replaced atomically, so the folder it was
   * loaded from may be named. The weights are those between two training steps.
   * @throws FusedGrpoError ERR_IO, ERR_DISPOSED.
   */
  async save(dir: string, options: { signal?: AbortSignal } = {}): Promise<void> {
    if (typeof dir !== 'string' || dir === '') throw invalidType('dir', 'the path of a folder', dir);
    rejectUnknown('Policy.save options', options, ['signal']);
    checkSignal(options.signal);
    this.alive();
    writeCompanions(this.folder, dir, this.dtype);
    await settle(() => this.native.save(join(dir, weightsFileName)), options.signal);
    removeShards(dir);
  }

  /** Frees the model. Calls under way reject with ERR_DISPOSED, and so do later ones. May be called again. */
  dispose(): void {
    this.isDisposed = true;
    this.native.dispose();
  }
  [Symbol.dispose](): void {
    this.dispose();
  }
}
