// Reward models from preferences: Bradley-Terry on pairs of a better and a worse answer.
import { readScalarFolder, ScalarModel } from '../engine/scalar-model.js';
import type { PairBatch, PairResult } from '../engine/training.js';
import type { ColumnMapping } from '../data/columns.js';
import { FusedGrpoError, invalidType, rejectUnknown } from '../errors.js';
import { resolveModel } from '../hub/resolve.js';
import type { Logger } from '../loggers/types.js';
import { preferenceLoss } from '../ops/preference_loss.js';
import { pairBatch, PairReader, type Pair } from '../reward/pairs.js';
import { RewardModel, scoreSequences } from '../reward/reward-model.js';
import { worldSize } from '../distributed/environment.js';
import { ownStretch } from '../distributed/share.js';
import { combinePairs } from './combine.js';
import { divided } from './jointly.js';
import type { Dataset, Row } from './dataset.js';
import { resolveRewardConfig, type ResolvedRewardConfig, type RewardConfig } from './reward-config.js';
import { checkPreferenceRow } from './rows.js';
import { recordNonFinite, type Suspects } from './non-finite.js';
import { Run } from './run.js';
import { Trainer } from './trainer.js';
import type { RankMetrics } from './types.js';
import { layoutOf, learningRateAt } from './schedule.js';

/** One line of metrics.jsonl. Means are over the step's pairs, scores those before the optimizer step. */
export interface RewardMetrics {
  /** The step, from 1. */
  step: number;
  /** Passes over the data set so far, a fraction. */
  epoch: number;
  /** -log sigmoid(chosen - rejected - margin) + centerRewardsCoefficient (chosen + rejected)^2. */
  loss: number;
  /** Share of pairs whose chosen side scores higher. */
  accuracy: number;
  /** Mean of chosen - rejected. */
  margin: number;
  /** Over the scores of both sides. */
  meanReward: number;
  /** See meanReward. */
  minReward: number;
  /** See meanReward. */
  maxReward: number;
  /** Of the evaluation set, after the optimizer step; at steps that evaluate. */
  evalLoss?: number;
  /** See evalLoss. */
  evalAccuracy?: number;
  /** See evalLoss. */
  evalMargin?: number;
  /** Of this step. */
  learningRate: number;
  /** Norm of the whole gradient before it was clipped. */
  gradNorm: number;
  /** Of both sides. */
  tokens: number;
  /** Of the whole step: `tokens` by `seconds.total`. */
  tokensPerSecond: number;
  /** Wall-clock seconds of the step, by phase. */
  seconds: { train: number; optimizer: number; evaluate?: number; total: number };
  /** The process's largest resident memory so far. */
  peakMemoryBytes: number;
  /** With several ranks: their number, and what the step's sums cost rank 0 (bytes handed over, seconds). */
  ranks?: RankMetrics;
}

/** What a RewardTrainer yields after each optimizer step. */
export interface RewardStep {
  /** The step, from 1. */
  step: number;
  /** The line that is in metrics.jsonl. */
  metrics: RewardMetrics;
}

/** What a RewardTrainer is made of. */
export interface RewardTrainerOptions {
  /**
   * A folder in Hugging Face layout: a language model, which gets a new head (normal with config.json's initializer_range, by `seed`), or a
   * reward model to go on with. Or a loaded RewardModel, which stays the caller's to dispose.
   */
  model: string | RewardModel;
  /** Rows of { prompt?, chosen, rejected, margin? }: text, or lists of { role, content } messages. Without a prompt both sides are whole. */
  trainDataset: Dataset;
  /** Held-out rows: measured every `evalSteps` steps and after the last one. */
  evalDataset?: Dataset;
  /** Our column <- the data sets' name for it: { chosen: 'better', rejected: 'worse' }. */
  columnMapping?: ColumnMapping;
  /** Options; defaults are those of TRL. */
  config?: RewardConfig;
  /** Aborting saves a checkpoint (when there is an outputDir) and rejects with signal.reason. */
  signal?: AbortSignal;
  /** Where metrics go besides metrics.jsonl. An error of theirs is a warning. */
  loggers?: Logger[];
  /** Called after each step, before the next one begins; it may be async. */
  onStep?: (step: RewardStep) => void | Promise<void>;
}

const OPTION_NAMES = ['model', 'trainDataset', 'evalDataset', 'columnMapping', 'config', 'signal', 'loggers', 'onStep'];
const NONE = Float32Array.of(NaN);
const NOT_MADE: PairResult = { loss: NaN, pairs: 0, accuracy: NaN, margin: NaN, chosen: NONE, rejected: NONE };

const tokensOf = ({ chosen, rejected }: Pair): number => chosen.length + rejected.length;

const warn = (text: string | undefined): void => {
  if (text !== undefined) process.emitWarning(text, 'FusedGrpoWarning');
};

/**
 * Trains a reward model on preferences (Bradley-Terry: arXiv 2203.02155 eq. 1), as TRL's RewardTrainer does: text gets the end token where it
 * does not end with it; pairs with a side of more than `maxLength` tokens are left out. Writes what SFTTrainer writes; model/ opens in
 * transformers (AutoModelForSequenceClassification) and in RewardModel.load. Errors as GRPOTrainer's.
 */
export class RewardTrainer extends Trainer<RewardStep> {
  /** The options with all defaults filled in. */
  readonly config: ResolvedRewardConfig;
  /** @internal */
  protected override readonly run: Run<ScalarModel>;
  private reader?: PairReader;
  private evaluation?: Pair[];
  private loaded?: RewardModel;

  constructor(private readonly options: RewardTrainerOptions) {
    super();
    if (options === null || typeof options !== 'object') throw invalidType('RewardTrainer options', 'an object', options);
    rejectUnknown('RewardTrainer', options, OPTION_NAMES);
    const { model } = options;
    if (typeof model !== 'string' && !(model instanceof RewardModel)) throw invalidType('model', 'a folder or a RewardModel', model);
    this.config = resolveRewardConfig(options.config ?? {});
    const { seed, device, dtype } = this.config;
    this.run = new Run<ScalarModel>({
      kind: 'reward',
      model: typeof model === 'string' ? model : model.scalar,
      load: (folder, signal) => ScalarModel.load(folder, { device, dtype, signal, newHead: { seed } }),
      dataset: options.trainDataset,
      columnMapping: options.columnMapping,
      prepare: (dataset) => this.prepare(dataset),
      check: checkPreferenceRow,
      config: this.config,
      settings: layoutOf(this.config, ['perDeviceTrainBatchSize', 'gradientAccumulationSteps', 'seed', 'shuffleDataset', 'maxLength']),
      signal: options.signal,
      loggers: options.loggers,
    });
  }

  /** The model being trained, once training has begun. It is freed with the trainer, unless it was passed in. */
  get model(): RewardModel {
    if (!this.run.policy) throw new FusedGrpoError('ERR_TRAINING', 'The model is loaded when training begins');
    const { model } = this.options;
    return (this.loaded ??= model instanceof RewardModel ? model : RewardModel.of(this.run.policy, 'reward'));
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<RewardStep, void, undefined> {
    const { run, config } = this;
    const batchSize = config.perDeviceTrainBatchSize * config.gradientAccumulationSteps * worldSize();
    await run.start((source) => Math.ceil((source.length! * config.numTrainEpochs) / batchSize));
    yield* run.steps(
      () => run.withRows(async (take) => this.makeStep(await take(batchSize))),
      () => ({}),
      async (step) => {
        // The optimizer step is made and counted: what is thrown from here on does not undo it.
        try {
          await this.evaluate(step);
        } finally {
          run.log(step.metrics);
        }
        await this.options.onStep?.(step);
      },
    );
  }

  /** Reads both data sets by the model's own words, before its weights are loaded. */
  private async prepare(dataset: Dataset): Promise<Dataset> {
    const { model, evalDataset, columnMapping } = this.options;
    const source =
      typeof model === 'string' ? readScalarFolder(await resolveModel(model, { signal: this.run.signal }), true) : model.scalar;
    const limit = Math.min(this.config.maxLength, source.contextLength);
    if (evalDataset !== undefined) {
      const reader = new PairReader(source, limit);
      const rows = (await reader.filter(evalDataset, { what: 'evaluation set', columnMapping })) as Row[];
      this.evaluation = rows.map((row) => reader.read(row));
      warn(reader.warning('evalDataset'));
    }
    this.reader = new PairReader(source, limit);
    const rows = await this.reader.filter(dataset, { lazy: this.config.maxSteps > 0, what: 'data set', columnMapping });
    warn(this.reader.warning('trainDataset'));
    return rows;
  }

  private async makeStep(rows: Row[]): Promise<RewardStep> {
    const { run, config } = this;
    const begin = performance.now();
    const pairs = rows.map((row) => this.reader!.read(row));
    const own = ownStretch(rows, (row) => tokensOf(this.reader!.read(row)), run.ranks);
    const batchOf = (some: Row[]) => pairBatch(some.map((row) => this.reader!.read(row)));
    const { centerRewardsCoefficient, outputDir } = config;
    const given = { normalizer: pairs.length, centerRewardsCoefficient };
    const learningRate = learningRateAt(config, run.step, run.totalSteps);
    const trained = await run.optimize(
      (training, options) => training.accumulatePairs(batchOf(own), { ...options, ...given }),
      combinePairs,
      learningRate,
      {
        result: NOT_MADE,
        record: (error) =>
          recordNonFinite(error, run.step + 1, this.suspects(own, batchOf, given), { training: run.training, outputDir, ranks: run.ranks }),
      },
    );
    const step = run.step + 1;
    const rewards = [...trained.chosen, ...trained.rejected];
    const total = (performance.now() - begin) / 1000;
    const tokens = pairs.reduce((n, pair) => n + tokensOf(pair), 0);
    const { loss, accuracy, margin, gradNorm } = trained;
    return {
      step,
      metrics: {
        ...{ step, epoch: run.epoch, loss, accuracy, margin },
        meanReward: rewards.reduce((a, b) => a + b, 0) / rewards.length,
        minReward: Math.min(...rewards),
        maxReward: Math.max(...rewards),
        ...{ learningRate, gradNorm, tokens },
        tokensPerSecond: tokens / Math.max(total, 1e-9),
        ...(trained.ranks ? { ranks: trained.ranks } : {}),
        seconds: { ...trained.seconds, total },
        peakMemoryBytes: process.resourceUsage().maxRSS * 1024,
      },
    };
  }

  /** The pairs of a step, for when it is not finite. */
  private suspects(
    rows: Row[],
    batchOf: (some: Row[]) => PairBatch,
    given: { normalizer: number; centerRewardsCoefficient: number },
  ): Suspects {
    const { training, signal } = this.run;
    return {
      ...{ what: 'pairs', count: rows.length },
      accumulate: (s) => training.accumulatePairs(batchOf([rows[s]!]), { ...given, microBatchTokens: 0, signal }),
      describe: (s) => {
        const { chosen, rejected } = this.reader!.read(rows[s]!);
        return { ...rows[s], chosenTokens: [...chosen], rejectedTokens: [...rejected] };
      },
    };
  }

  /** Measures the evaluation set where it is due, and adds what it found to the step's metrics. */
  private async evaluate({ step, metrics }: RewardStep): Promise<void> {
    const { evaluation: pairs, config, run } = this;
    const due = step === run.totalSteps || (config.evalSteps > 0 && step % config.evalSteps === 0);
    if (!pairs || !due) return;
    const begin = performance.now();
    const sequences = pairs.flatMap(({ chosen, rejected }) => [chosen, rejected]);
    const scores = await divided(run.ranks, sequences.length, async (from, to) => [
      ...(await scoreSequences(run.policy, sequences.slice(from, to), run.signal)),
    ]);
    const side = (k: number) => Float32Array.from(pairs, (_, i) => scores[2 * i + k]!);
    const margins = Float32Array.from(pairs, ({ margin }) => margin);
    const { centerRewardsCoefficient } = config;
    const of = preferenceLoss({ chosenRewards: side(0), rejectedRewards: side(1), margins }, { centerRewardsCoefficient });
    Object.assign(metrics, { evalLoss: of.loss, evalAccuracy: of.metrics.accuracy, evalMargin: of.metrics.margin });
    const evaluate = (performance.now() - begin) / 1000;
    metrics.seconds = { ...metrics.seconds, evaluate, total: metrics.seconds.total + evaluate };
  }
}
