import type { ColumnMapping } from '../data/columns.js';
import type { ChatMessage } from '../engine/chat.js';
import type { Policy } from '../engine/policy.js';
import { FusedGrpoError, invalidType, rejectUnknown } from '../errors.js';
import type { Logger } from '../loggers/types.js';
import { resolveSFTConfig, type ResolvedSFTConfig, type SFTConfig } from './config.js';
import { worldSize } from '../distributed/environment.js';
import { ownStretch } from '../distributed/share.js';
import type { Dataset, Row } from './dataset.js';
import { checkSFTRow } from './rows.js';
import { Run } from './run.js';
import { Trainer } from './trainer.js';
import type { RankMetrics } from './types.js';
import { layoutOf, learningRateAt } from './schedule.js';
import type { TrainBatch } from '../engine/training.js';

/** One line of metrics.jsonl of an SFTTrainer. */
export interface SFTMetrics {
  /** The step, from 1. */
  step: number;
  /** Passes over the data set so far, a fraction. */
  epoch: number;
  /** Mean negative log-likelihood, nats per token. */
  loss: number;
  /** Mean entropy, nats per token. */
  entropy: number;
  /** Of this step. */
  learningRate: number;
  /** Norm of the whole gradient before it was clipped. */
  gradNorm: number;
  /** Tokens of this step that carry a loss, and their prompts. */
  tokens: number;
  /** Of the whole step: `tokens` by `seconds.total`. */
  tokensPerSecond: number;
  /** Wall-clock seconds of the step, by phase. */
  seconds: { train: number; optimizer: number; total: number };
  /** The process's largest resident memory so far. */
  peakMemoryBytes: number;
  /** With several ranks: their number, and what the step's sums cost rank 0 (bytes handed over, seconds). */
  ranks?: RankMetrics;
}

/** What an SFTTrainer yields after each optimizer step. */
export interface SFTStep {
  /** The step, from 1. */
  step: number;
  /** The line that is in metrics.jsonl. */
  metrics: SFTMetrics;
}

/** What an SFTTrainer is made of. */
export interface SFTTrainerOptions {
  /** A folder in Hugging Face layout, or a loaded Policy (which stays the caller's to dispose). */
  model: string | Policy;
  /** Rows of { prompt, completion }, { text } or { messages }. */
  trainDataset: Dataset;
  /** Our column <- the data set's name for it: { prompt: 'instruction', completion: 'output' }. */
  columnMapping?: ColumnMapping;
  /** Options; defaults are those of TRL. */
  config?: SFTConfig;
  /** Aborting saves a checkpoint (when there is an outputDir) and rejects with signal.reason. */
  signal?: AbortSignal;
  /** Where metrics go besides metrics.jsonl. An error of theirs is a warning. */
  loggers?: Logger[];
  /** Called after each step, before the next one begins; it may be async. */
  onStep?: (step: SFTStep) => void | Promise<void>;
}

/**
 * Supervised fine-tuning by next-token likelihood: the cold start of GRPO recipes. Loss: mean over the step's completion tokens.
 * Completions end with the model's end-of-sequence token, so that it learns to stop.
 */
export class SFTTrainer extends Trainer<SFTStep> {
  /** The options with all defaults filled in. */
  readonly config: ResolvedSFTConfig;
  /** @internal */
  protected override readonly run: Run;

  constructor(private readonly options: SFTTrainerOptions) {
    super();
    if (options === null || typeof options !== 'object') throw invalidType('SFTTrainer options', 'an object', options);
    rejectUnknown('SFTTrainer', options, ['model', 'trainDataset', 'columnMapping', 'config', 'signal', 'loggers', 'onStep']);
    this.config = resolveSFTConfig(options.config ?? {});
    this.run = new Run({
      kind: 'sft',
      model: options.model,
      dataset: options.trainDataset,
      columnMapping: options.columnMapping,
      check: checkSFTRow,
      config: this.config,
      settings: layoutOf(this.config, ['perDeviceTrainBatchSize', 'gradientAccumulationSteps', 'seed', 'shuffleDataset']),
      signal: options.signal,
      loggers: options.loggers,
    });
  }

  /** The policy being trained, once training has begun. */
  get policy(): Policy {
    if (!this.run.policy) throw new FusedGrpoError('ERR_TRAINING', 'The policy is loaded when training begins');
    return this.run.policy;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<SFTStep, void, undefined> {
    const { run, config } = this;
    const batchSize = config.perDeviceTrainBatchSize * config.gradientAccumulationSteps * worldSize();
    await run.start((source) => Math.ceil((source.length! * config.numTrainEpochs) / batchSize));
    yield* run.steps(
      () => run.withRows(async (take) => this.makeStep(await take(batchSize))),
      () => ({}),
      async (step) => {
        run.log(step.metrics);
        await this.options.onStep?.(step);
      },
    );
  }

  /** Completion text and conversations bring their special tokens themselves. */
  private plain(text: string): Int32Array {
    const { tokenizer, path } = this.run.policy;
    if (!tokenizer) throw new FusedGrpoError('ERR_TOKENIZER', `${path} has no tokenizer.json: SFT needs one`);
    return tokenizer.encode(text, false);
  }

  private encodeMessages(messages: ChatMessage[]): { tokens: Int32Array; prompt: Int32Array } {
    const { policy } = this.run;
    const tokens = this.plain(policy.render(messages, 'messages', false));
    const before = messages.slice(0, -1);
    const answered = before.length > 0 && messages.at(-1)!.role === 'assistant';
    return { tokens, prompt: answered ? policy.encode(before) : new Int32Array() };
  }

  /** Text and { prompt, completion } end with the model's end token, which a conversation's template brings itself. */
  private encodeText(row: Row): { tokens: Int32Array; prompt: Int32Array } {
    const { policy } = this.run;
    const eos = policy.eosTokenIds.slice(0, 1);
    if (typeof row.text === 'string') return { tokens: Int32Array.from([...policy.encode(row.text), ...eos]), prompt: new Int32Array() };
    const prompt = row.prompt === '' ? new Int32Array() : policy.encode(row.prompt as string | ChatMessage[]);
    return { tokens: Int32Array.from([...prompt, ...this.plain(row.completion as string), ...eos]), prompt };
  }

  /** A row as tokens, and how many of them (at least one: nothing predicts the first) are not trained on. */
  private encode(row: Row): { tokens: Int32Array; promptLength: number } {
    const { tokens: all, prompt } = row.messages === undefined ? this.encodeText(row) : this.encodeMessages(row.messages as ChatMessage[]);
    const tokens = all.slice(0, Math.min(this.config.maxLength ?? Infinity, this.run.policy.contextLength));
    const masked = this.config.completionOnlyLoss ? prompt.length : 0;
    return { tokens, promptLength: Math.max(1, Math.min(masked, tokens.length - 1)) };
  }

  private async makeStep(rows: Row[]): Promise<SFTStep> {
    const { run, config } = this;
    const begin = performance.now();
    const examples = rows.map((row) => this.encode(row)).filter(({ tokens }) => tokens.length > 1);
    const own = ownStretch(examples, ({ tokens }) => tokens.length, run.ranks);
    const offsets = new Int32Array(own.length + 1);
    own.forEach(({ tokens }, i) => (offsets[i + 1] = offsets[i]! + tokens.length));
    const all = new Int32Array(offsets.at(-1)!);
    own.forEach(({ tokens }, i) => all.set(tokens, offsets[i]));
    const trainedTokens = examples.reduce((n, { tokens, promptLength }) => n + tokens.length - promptLength, 0);
    const learningRate = learningRateAt(config, run.step, run.totalSteps);
    // The gradient of the mean log-likelihood is the on-policy policy gradient with every advantage 1: no second formula.
    const batch: TrainBatch = {
      tokens: all,
      offsets,
      promptLengths: Int32Array.from(own, (e) => e.promptLength),
      advantages: new Float32Array(own.length).fill(1),
    };
    const trained = await run.update(batch, { normalizer: Math.max(1, trainedTokens) }, learningRate);
    const total = (performance.now() - begin) / 1000;
    const step = run.step + 1;
    const tokens = examples.reduce((n, e) => n + e.tokens.length, 0);
    const { entropy, gradNorm, meanLogp, seconds } = trained;
    const peakMemoryBytes = process.resourceUsage().maxRSS * 1024;
    return {
      step,
      metrics: {
        step,
        epoch: run.epoch,
        loss: -meanLogp,
        entropy,
        learningRate,
        gradNorm,
        tokens,
        tokensPerSecond: tokens / Math.max(total, 1e-9),
        ...(trained.ranks ? { ranks: trained.ranks } : {}),
        seconds: { ...seconds, total },
        peakMemoryBytes,
      },
    };
  }
}
