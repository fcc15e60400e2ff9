// A trained reward model: scores of texts, and a reward function of GRPOTrainer.
import { basename, dirname, resolve } from 'node:path';
import { ScalarModel } from '../engine/scalar-model.js';
import { FusedGrpoError, invalidType, invalidValue, rejectUnknown } from '../errors.js';
import { ofThisCopy } from '../place.js';
import type { AnyRewardInput } from '../trainer/reward-types.js';
import { checkLength, encodeItem, scoredPart, type RewardItem } from './texts.js';
import { RunningMoments } from './transform.js';

export const REWARD_TRANSFORMS: readonly RewardTransform[] = ['none', 'sigmoid', 'normalize'];
/** What is made of scores: see RewardModelOptions.transform. */
export type RewardTransform = 'none' | 'sigmoid' | 'normalize';

/** Of RewardModel.load. */
export interface RewardModelOptions {
  /** Default 'auto'. */
  device?: 'auto' | 'cpu' | 'cuda';
  /** What weights and activations are held in. Default 'auto': as config.json says. */
  dtype?: 'auto' | 'float32' | 'bfloat16';
  /**
   * What a trainer gets for a score. 'sigmoid': 1 / (1 + exp(-score)). 'normalize': (score - mean) / std over all scores that the run has
   * seen, the newest included; a run's checkpoints hold these statistics. `score` always returns the scores themselves. Default 'none'.
   */
  transform?: RewardTransform;
  /** Aborting stops loading; it rejects with signal.reason. */
  signal?: AbortSignal;
}

/** The name in metrics: the folder's; model/ of a run is named after the run. */
function nameOf(dir: string): string {
  const path = resolve(dir);
  return basename(path) === 'model' ? basename(dirname(path)) : basename(path);
}

/**
 * A backbone with a head of one number, as RewardTrainer (or TRL's) trains it. Pass it in `rewardFuncs` of GRPOTrainer, or score texts.
 *
 *     using model = await RewardModel.load('runs/reward/model');
 *     const [better, worse] = await model.score([{ prompt: 'Be kind.', completion: ' Thank you!' }, { prompt: 'Be kind.', completion: ' No.' }]);
 *
 * Scores have no scale and no zero of their own: only differences between completions of one prompt mean something (docs/reward-model.md).
 */
export class RewardModel {
  private constructor(
    /** @internal */ readonly scalar: ScalarModel,
    /** What it is called in metrics: the folder's name. */
    readonly name: string,
    /** What a trainer gets for a score. */
    readonly transform: RewardTransform,
  ) {}

  /**
   * Loads a folder in the layout of transformers' sequence classification with one label: what RewardTrainer writes, and what TRL's does.
   * A run's output folder stands for the model it holds.
   * @throws FusedGrpoError ERR_MODEL (a language model, several labels, a missing tensor), ERR_TOKENIZER, ERR_IO, ERR_NO_CUDA; the signal's reason.
   */
  static async load(dir: string, options: RewardModelOptions = {}): Promise<RewardModel> {
    rejectUnknown('RewardModel.load options', options, ['device', 'dtype', 'transform', 'signal']);
    const { transform = 'none', ...load } = options;
    if (!REWARD_TRANSFORMS.includes(transform)) throw invalidValue('transform', "'none', 'sigmoid' or 'normalize'", transform);
    return new RewardModel(await ScalarModel.load(dir, load), nameOf(dir), transform);
  }

  /** @internal The model that a trainer holds, under a name. */
  static of(scalar: ScalarModel, name: string): RewardModel {
    return new RewardModel(scalar, name, 'none');
  }

  /** The folder it was loaded from. */
  get path(): string {
    return this.scalar.path;
  }
  /** Tokens of a text, at most. */
  get contextLength(): number {
    return this.scalar.contextLength;
  }
  /** Whether dispose() was called. */
  get disposed(): boolean {
    return this.scalar.disposed;
  }

  /**
   * (items) scores. An item is a text, a conversation (through the model's chat template), token ids, or { prompt, completion } of these. Text
   * gets the end token where it does not end with it, as in training; ids are taken as they are. What neighbours begin with (completions of
   * one prompt, side by side) is computed once. Runs off the event loop.
   * @throws FusedGrpoError ERR_CONTEXT_LENGTH naming the item (nothing is cut), ERR_TOKENIZER, ERR_NON_FINITE, ERR_DISPOSED; TypeError; the signal's reason.
   */
  async score(items: readonly RewardItem[], options: { signal?: AbortSignal } = {}): Promise<Float64Array> {
    if (!Array.isArray(items)) throw invalidType('items', 'an array', items);
    rejectUnknown('RewardModel.score options', options, ['signal']);
    if (this.disposed) throw new FusedGrpoError('ERR_DISPOSED', 'This reward model was disposed');
    const sequences = items.map((item: RewardItem, i) => {
      const ids = encodeItem(this.scalar, item, `items[${i}]`);
      checkLength(this.scalar, ids, `items[${i}]`);
      return scoredPart(this.scalar, ids);
    });
    return Float64Array.from(await scoreSequences(this.scalar, sequences, options.signal));
  }

  /** Frees the model. Calls under way reject with ERR_DISPOSED, and so do later ones. May be called again. */
  dispose(): void {
    this.scalar.dispose();
  }
  /** dispose(), for `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** (sequences) scores. Neighbours that begin alike, as the completions of one prompt do, share the computation of what they begin with. */
export async function scoreSequences(scalar: ScalarModel, sequences: readonly Int32Array[], signal?: AbortSignal): Promise<Float32Array> {
  const lengths = sharedPrompts(sequences);
  const prompts = sequences.map((s, i) => s.subarray(0, lengths[i]));
  const completions = sequences.map((s, i) => s.subarray(lengths[i]));
  return scalar.values(prompts, completions, { positions: 'last', signal });
}

function commonLength(a: Int32Array, b: Int32Array): number {
  const most = Math.min(a.length, b.length);
  let n = 0;
  while (n < most && a[n] === b[n]) ++n;
  return n;
}

const WORTH_SHARING = 8; // tokens: a shorter beginning (a BOS, a role) is computed again more cheaply than it is shared

/** How many tokens of each sequence are its prompt: what a run of neighbours begins with, else the first token. */
export function sharedPrompts(sequences: readonly Int32Array[]): Int32Array {
  const lengths = new Int32Array(sequences.length).fill(1);
  for (let begin = 0; begin < sequences.length;) {
    let end = begin + 1;
    let shared = sequences[begin]!.length;
    for (; end < sequences.length; ++end) {
      const next = Math.min(shared, commonLength(sequences[begin]!, sequences[end]!));
      if (next < WORTH_SHARING || next < shared / 2) break;
      shared = next;
    }
    if (end > begin + 1) lengths.fill(shared, begin, end);
    begin = end;
  }
  return lengths;
}

/** A reward model as one of a trainer's reward functions, with what a checkpoint must hold of it. */
export class ModelReward {
  private readonly moments = new RunningMoments();

  constructor(private readonly model: RewardModel) {}

  get state(): unknown {
    return this.model.transform === 'normalize' ? this.moments.state : undefined;
  }
  set state(value: unknown) {
    if (this.model.transform === 'normalize') this.moments.state = value;
  }

  async score({ prompts, completions }: AnyRewardInput, signal?: AbortSignal): Promise<Float64Array> {
    const scores = await this.model.score(
      prompts.map((prompt, i) => ({ prompt, completion: completions[i]! })),
      { signal },
    );
    if (this.model.transform === 'sigmoid') return scores.map((s) => 1 / (1 + Math.exp(-s)));
    if (this.model.transform === 'normalize') return this.moments.normalize(scores);
    return scores;
  }
}
ofThisCopy(RewardModel);
