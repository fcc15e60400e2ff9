// A backbone with a scalar head: what reward models and PPO's critic are inside.
import { join } from 'node:path';
import { FusedGrpoError, incompatible, invalidType, invalidValue } from '../errors.js';
import { resolveModel } from '../hub/resolve.js';
import { engine } from '../native.js';
import type { NativeModel, NewHead } from './addon.js';
import { checkSignal, settle } from './call.js';
import { ChatTemplate } from './chat.js';
import { checkLabels, classificationConfig, isClassifier } from './classification.js';
import type { ModelConfig } from './config.js';
import { readFolder, removeShards, runModel, weightFiles, weightsFileName, writeCompanions, type CheckpointFolder } from './folder.js';
import { readLoadOptions, type LoadOptions } from './options.js';
import type { Policy } from './policy.js';
import { join32, type TextSource } from './texts.js';
import { Tokenizer } from './tokenizer.js';

export interface ScalarLoadOptions extends LoadOptions {
  /**
   * Set: a folder of a language model is taken too, and gets a new head, drawn by this seed from a normal distribution whose standard
   * deviation is config.json's initializer_range (0.02 without one), as transformers does; `std` replaces it, 0 begins with zeros.
   * Unset: the folder must have score.weight.
   */
  newHead?: { seed: number; std?: number };
}

const headOf = (config: ModelConfig, { seed, std }: { seed: number; std?: number }): NewHead => ({
  seed,
  std: std ?? config.initializerRange,
});

/** What a new reward model pads with, as TRL chooses it: the tokenizer's pad token, else its end token; without a tokenizer config.json's. */
function padOf(config: ModelConfig, tokenizer: Tokenizer | undefined): number | undefined {
  const own = tokenizer?.specialToken('pad_token')?.id ?? tokenizer?.specialToken('eos_token')?.id;
  return own ?? config.padTokenId ?? config.eosTokenIds[0];
}

/** A folder without its weights. */
export interface ScalarFolder extends TextSource {
  readonly folder: CheckpointFolder;
  /** It is a language model's: the head will be a new one. */
  readonly fresh: boolean;
  readonly eosTokenIds: readonly number[];
  readonly padTokenId: number | undefined;
  readonly contextLength: number;
}

/** Reads everything but the weights. `newHead`: a language model may be made a model with a scalar head. @throws FusedGrpoError ERR_MODEL */
export function readScalarFolder(dir: string, newHead: boolean): ScalarFolder {
  if (typeof dir !== 'string' || dir === '') throw invalidType('dir', 'the path of a checkpoint folder', dir);
  const folder = readFolder(runModel(dir));
  const { config, path } = folder;
  checkLabels(config, path);
  const fresh = !isClassifier(config);
  if (fresh && !newHead)
    throw new FusedGrpoError(
      'ERR_MODEL',
      `${path} is no reward model: config.json names ${config.architectures[0] ?? 'no architecture'}, not a ForSequenceClassification one. ` +
        'RewardTrainer (npx fused-grpo reward train) makes one of it',
    );
  const tokenizer = Tokenizer.load(path);
  const chat = tokenizer && ChatTemplate.load(path, tokenizer.config);
  const padTokenId = (fresh ? undefined : config.padTokenId) ?? (newHead ? padOf(config, tokenizer) : undefined);
  return { folder, path, fresh, tokenizer, chat, padTokenId, eosTokenIds: config.eosTokenIds, contextLength: config.native.maxPositions };
}

export class ScalarModel implements TextSource {
  private isDisposed = false;

  private constructor(
    /** @internal */ readonly native: NativeModel,
    readonly config: ModelConfig,
    private readonly folder: CheckpointFolder,
    readonly path: string,
    readonly dtype: 'float32' | 'bfloat16',
    readonly tokenizer: Tokenizer | undefined,
    readonly chat: ChatTemplate | undefined,
    /**
     * The id that transformers pads with. A sequence's score is read at its last token that is not this one. Undefined: at its last token
     * (transformers then takes batches of one only).
     */
    readonly padTokenId: number | undefined,
  ) {}

  /**
   * Loads a folder in Hugging Face layout whose architecture is <Family>ForSequenceClassification with one label, or with `newHead` also
   * one of a language model. @throws FusedGrpoError as Policy.load does.
   */
  static async load(dir: string, options: ScalarLoadOptions = {}): Promise<ScalarModel> {
    const { newHead, ...loadOptions } = options;
    const { dtype: wanted, ...hub } = readLoadOptions(loadOptions);
    const { signal } = hub;
    checkSignal(signal);
    const { folder, fresh, tokenizer, chat, padTokenId } = readScalarFolder(await resolveModel(dir, hub), newHead !== undefined);
    const { config, path } = folder;
    const dtype = wanted !== 'auto' ? wanted : config.dtype === 'bfloat16' ? 'bfloat16' : 'float32';
    const native = new (engine().Model)({ threads: 0 });
    try {
      await settle(() => native.load(config.native, weightFiles(path), dtype, fresh ? headOf(config, newHead!) : true), signal);
      return new ScalarModel(native, config, folder, path, dtype, tokenizer, chat, padTokenId);
    } catch (error) {
      native.dispose();
      throw error;
    }
  }

  /** A copy of a policy's backbone as it is now, with a new head. It is disposed by itself. */
  static async from(policy: Policy, newHead: { seed: number; std?: number }): Promise<ScalarModel> {
    const native = new (engine().Model)({ threads: 0 });
    await settle(() => policy.native.cloneInto(native, headOf(policy.config, newHead)));
    const { config, folder, path, dtype, tokenizer, chat } = policy;
    return new ScalarModel(native, config, folder, path, dtype, tokenizer, chat, padOf(config, tokenizer));
  }

  get vocabSize(): number {
    return this.config.native.vocabSize;
  }
  get contextLength(): number {
    return this.config.native.maxPositions;
  }
  get eosTokenIds(): readonly number[] {
    return this.config.eosTokenIds;
  }
  get disposed(): boolean {
    return this.isDisposed;
  }

  /**
   * Values without gradients: 'last' (B), after each sequence's last token, prompt and completion together; 'completion' (N), for each
   * completion token the value of the state in which it is chosen (the row before it), sequence after sequence. Prompts that are equal are
   * computed once. Every prompt has at least one token; completions may be empty.
   * @throws FusedGrpoError ERR_CONTEXT_LENGTH, ERR_NON_FINITE, ERR_DISPOSED; the signal's reason.
   */
  async values(
    prompts: readonly Int32Array[],
    completions: readonly Int32Array[],
    options: { positions: 'last' | 'completion'; tokenBudget?: number; signal?: AbortSignal },
  ): Promise<Float32Array> {
    if (this.isDisposed) throw new FusedGrpoError('ERR_DISPOSED', 'This model was disposed');
    if (prompts.length !== completions.length)
      throw incompatible(`Expected as many completions as prompts but received ${completions.length} and ${prompts.length}`);
    const empty = prompts.findIndex((p) => p.length === 0);
    if (empty >= 0) throw invalidValue(`prompts[${empty}]`, 'at least one token', prompts[empty]);
    if (prompts.length === 0) return new Float32Array();
    const { positions, tokenBudget = 4096, signal } = options;
    return settle(() => this.native.values(join32(prompts), join32(completions), { positions, tokenBudget }), signal);
  }

  /** Writes the model in the layout of transformers' sequence classification (AutoModelForSequenceClassification opens it), as Policy.save. */
  async save(dir: string, options: { signal?: AbortSignal } = {}): Promise<void> {
    checkSignal(options.signal);
    if (this.isDisposed) throw new FusedGrpoError('ERR_DISPOSED', 'This model was disposed');
    const text = classificationConfig(this.folder.text, this.config, this.padTokenId);
    writeCompanions({ ...this.folder, text }, dir, this.dtype);
    await settle(() => this.native.save(join(dir, weightsFileName)), options.signal);
    removeShards(dir);
  }

  dispose(): void {
    this.isDisposed = true;
    this.native.dispose();
  }
  [Symbol.dispose](): void {
    this.dispose();
  }
}
