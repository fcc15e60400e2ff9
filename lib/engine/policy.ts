// A language model that can be sampled from, scored, trained and saved.
import { randomInt } from 'node:crypto';
import { join } from 'node:path';
import { FusedGrpoError, incompatible, invalidType, invalidValue, rejectUnknown, isRevoked } from '../errors.js';
import { resolveModel } from '../hub/resolve.js';
import { engine } from '../native.js';
import { ofThisCopy } from '../place.js';
import {
  adapterWeightsFile,
  isAdapterFolder,
  modulesIn,
  readAdapterFolder,
  writeAdapterConfig,
  type AdapterFolder,
} from './adapter-folder.js';
import { resolveLora, scaleOf, type Adapter, type LoraOptions } from './adapter.js';
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
import type { Completion, GenerateResult, ScoreResult, ScoredCompletion } from './policy-types.js';
import { classOf, copied, eachOf } from '../ops/inputs.js';
import { encodePrompt, join32, needTokenizer, renderChat, split32, type Prompt } from './texts.js';
import { Tokenizer } from './tokenizer.js';

export type { Prompt } from './texts.js';

export type { Completion, GenerateResult, ScoreResult, ScoredCompletion } from './policy-types.js';

/** A language model that can be sampled from, scored, trained and saved. Its memory is native: dispose() or `using` frees it at once. Calls run one after the other on a thread of its own. */
export class Policy {
  private bytesSet = false;
  private isDisposed = false;
  private weightsChanged = false; // they are no longer those of the folder
  private lora?: Adapter;

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
   * model of the Hugging Face hub: taken from its cache, else fetched into it (docs/data-and-models.md). The folder of a LoRA adapter, as peft writes it, loads
   * its base model and the adapter (docs/lora.md). dtype 'auto' takes float32 or bfloat16 as config.json says, and float32 for anything else. Dropout is never applied.
   * @throws FusedGrpoError ERR_MODEL (names the key or tensor), ERR_TOKENIZER, ERR_IO, ERR_NO_CUDA, ERR_NOT_BUILT; the signal's reason.
   */
  static async load(dir: string, options: LoadOptions = {}): Promise<Policy> {
    if (typeof dir !== 'string' || dir === '')
      throw invalidType('dir', 'the path of a checkpoint folder, or the id of a model of the hub', dir);
    const { dtype: wanted, base, ...hub } = readLoadOptions(options);
    const { signal } = hub;
    checkSignal(signal);
    const asked = runModel(await resolveModel(dir, hub));
    const adapter = isAdapterFolder(asked) ? await readAdapterFolder(asked, base, hub) : undefined;
    if (base !== undefined && !adapter) throw incompatible(`base: ${asked} is no adapter (it has no adapter_config.json)`);
    const folder = readFolder(adapter?.base ?? asked);
    const { config, path } = folder;
    refuseClassifier(config, path);
    const dtype = wanted !== 'auto' ? wanted : config.dtype === 'bfloat16' ? 'bfloat16' : 'float32';
    const tokenizer = Tokenizer.load(path);
    const chat = tokenizer && ChatTemplate.load(path, tokenizer.config);
    const native = new (engine().Model)({ threads: 0 });
    try {
      const { parameters } = await settle(() => native.load(config.native, weightFiles(path), dtype), signal);
      const policy = new Policy(native, config, folder, asked, dtype, parameters, tokenizer, chat);
      if (adapter) await policy.loadAdapter(adapter);
      return policy;
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
    const copy = new Policy(native, this.config, this.folder, this.path, this.dtype, this.parameterCount, this.tokenizer, this.chat);
    [copy.lora, copy.weightsChanged] = [this.lora, this.weightsChanged];
    return copy;
  }

  /** The LoRA adapter of this policy, when it has one: training then changes it alone, and `save` writes it alone. */
  get adapter(): Adapter | undefined {
    return this.lora;
  }

  /**
   * Adds a LoRA adapter (arXiv 2106.09685), which changes nothing until it is trained: A is random (as peft begins), B zero. A and B are
   * float32 whatever the dtype of the weights.
   * @throws TypeError, RangeError (a target that names nothing); FusedGrpoError ERR_MODEL: it has one already, or its weights are no longer
   * those of its folder, which a saved adapter would name as its base.
   */
  async addAdapter(options: LoraOptions): Promise<Adapter> {
    this.alive();
    if (this.lora) throw new FusedGrpoError('ERR_MODEL', 'This policy has an adapter already: merge it first (mergeAdapter)');
    if (this.weightsChanged)
      throw new FusedGrpoError(
        'ERR_MODEL',
        `The weights are no longer those of ${this.path}: save the policy and load it from there first`,
      );
    const { modules: all } = await settle(() => this.native.describe());
    const { seed, ...adapter } = resolveLora(options, all);
    const { rank, modules } = adapter;
    await settle(() => this.native.addAdapter({ modules: [...modules], rank, scale: scaleOf(adapter), seed }));
    return (this.lora = adapter);
  }

  private async loadAdapter(folder: AdapterFolder): Promise<void> {
    const { rank, alpha, useRslora } = folder;
    await settle(() => this.native.loadAdapter(folder.weights, { rank, scale: scaleOf(folder) }));
    this.lora = { rank, alpha, useRslora, modules: modulesIn(await settle(() => this.native.adapter())) };
  }

  /** Adds the adapter to the weights (rounded once to their dtype): the policy is then an ordinary one. Without an adapter: nothing to do. */
  async mergeAdapter(): Promise<void> {
    this.alive();
    if (!this.lora) return;
    await settle(() => this.native.mergeAdapter());
    this.lora = undefined;
    this.weightsChanged = true;
  }

  /** @internal An optimizer step is made. */
  markTrained(): void {
    this.weightsChanged ||= !this.lora;
  }

  /** Columns of the model's logits. */
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
  /** Whether dispose() was called. */
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
    const tokenizer = this.needTokenizer('tokens');
    if (classOf(tokens) !== 'Int32Array') throw invalidType('tokens', 'an Int32Array of token ids', tokens);
    const ids = copied(Int32Array, tokens);
    const negative = ids.find((id) => id < 0);
    if (negative !== undefined) throw invalidValue('tokens', 'token ids >= 0', negative);
    return tokenizer.decode(ids);
  }

  private needTokenizer(name: string): Tokenizer {
    return needTokenizer(this, name);
  }

  private alive(): void {
    if (this.isDisposed) throw new FusedGrpoError('ERR_DISPOSED', 'This policy was disposed');
  }

  private encodePrompts(prompts: readonly Prompt[]): Int32Array[] {
    return eachOf('prompts', 'an array of prompts', prompts, (p, i) => {
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
      adapter: o.adapter,
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
  async score<E extends boolean = false>(
    prompts: readonly Prompt[],
    completions: readonly ScoredCompletion[],
    options: Omit<ScoreOptions, 'entropy'> & { entropy?: E } = {},
  ): Promise<ScoreResult<E>> {
    const { temperature, entropy, adapter, signal } = readScoreOptions(options);
    checkSignal(signal);
    this.alive();
    const ids = this.encodePrompts(prompts);
    const given = eachOf('completions', 'an array', completions, (c, i) => this.scored(c, `completions[${i}]`));
    if (!given.some((c) => c.promptIndex !== undefined) && given.length !== ids.length)
      throw incompatible(`Expected as many completions as prompts but received ${given.length} and ${ids.length}`);
    const rows = given.map(({ tokens, promptIndex }, i) => {
      const index = promptIndex ?? i;
      const prompt = typeof index === 'number' ? ids[index] : undefined;
      if (!prompt) throw invalidValue(`completions[${i}].promptIndex`, `a number from 0 to ${ids.length - 1}`, index);
      return { prompt, tokens };
    });
    const targets = join32(rows.map((r) => r.tokens));
    const native = { temperature, entropy, tokenBudget: 4096, adapter };
    const result = await settle(() => this.native.score(join32(rows.map((r) => r.prompt)), targets, native), signal);
    const logps = split32(result.logps, targets.offsets);
    const all = entropy ? { logps, entropies: split32(result.entropies ?? new Float32Array(), targets.offsets) } : { logps };
    return all as ScoreResult<E>;
  }

  private scored(c: ScoredCompletion, name: string): { tokens: Int32Array; promptIndex: unknown } {
    if (typeof c === 'string') return { tokens: this.needTokenizer(name).encode(c, false), promptIndex: undefined };
    const bare = classOf(c) === 'Int32Array' || c === null || typeof c !== 'object' || isRevoked(c);
    const { tokens, promptIndex } = (bare ? { tokens: c } : c) as { tokens: unknown; promptIndex?: unknown };
    if (classOf(tokens) !== 'Int32Array') throw invalidType(name, 'a string, an Int32Array or a completion', c);
    return { tokens: copied(Int32Array, tokens as Int32Array), promptIndex };
  }

  /**
   * Writes the policy in Hugging Face layout: weights (in `dtype`, one model.safetensors), config.json, and copies of the tokenizer,
   * generation_config.json and the chat template. It opens in transformers unchanged. Every file is replaced atomically, so the folder it was
   * loaded from may be named. The weights are those between two training steps. A policy with an adapter writes that alone, as peft does
   * (adapter_config.json names the base model's folder): mergeAdapter() first for a whole model.
   * @throws FusedGrpoError ERR_IO, ERR_DISPOSED.
   */
  async save(dir: string, options: { signal?: AbortSignal } = {}): Promise<void> {
    if (typeof dir !== 'string' || dir === '') throw invalidType('dir', 'the path of a folder', dir);
    rejectUnknown('Policy.save options', options, ['signal']);
    checkSignal(options.signal);
    this.alive();
    if (this.lora) return this.saveAdapter(dir, this.lora, options.signal);
    writeCompanions(this.folder, dir, this.dtype);
    await settle(() => this.native.save(join(dir, weightsFileName)), options.signal);
    removeShards(dir);
  }

  private async saveAdapter(dir: string, adapter: Adapter, signal?: AbortSignal): Promise<void> {
    const { modules } = await settle(() => this.native.describe(), signal);
    writeCompanions(this.folder, dir);
    writeAdapterConfig(dir, adapter, modules, this.folder.path, this.config.native.naming === 'gpt2');
    await settle(() => this.native.saveAdapter(adapterWeightsFile(dir)), signal);
  }

  /** Frees the model. Calls under way reject with ERR_DISPOSED, and so do later ones. May be called again. */
  dispose(): void {
    this.isDisposed = true;
    this.native.dispose();
  }
  /** dispose(), for `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}
ofThisCopy(Policy);
