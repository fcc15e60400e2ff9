// One optimizer step of a run: the ranks' gradients, AdamW, and steps that are left out.
import { Training, type AccumulateResult, type GradientOptions, type TrainBatch, type TrainLoss } from '../engine/training.js';
import { FusedGrpoError } from '../errors.js';
import { combineAccumulated } from './combine.js';
import { isNonFinite, recordNonFinite, sequencesOf, type Skipped } from './non-finite.js';
import type { CommonConfig, NotMade, SecondModel, Trained, Updated } from './run-types.js';
import { Elsewhere, rankMetrics, type Together } from './together.js';

/** What there is to say of a step that was not made. */
const NOT_MADE: AccumulateResult = {
  ...{ loss: NaN, tokens: 0, sequences: 0, entropy: NaN, meanLogp: NaN },
  clipRatio: { low: NaN, high: NaN, region: NaN },
  ratio: { min: NaN, mean: NaN, max: NaN },
};

/** What an update needs of its run. */
export interface UpdatedRun {
  readonly training: Training;
  readonly policy: object;
  readonly signal: AbortSignal;
  readonly step: number;
}

export class Updater {
  /** Steps left out, and how many of them in a row. */
  skipped: Skipped = { total: 0, inRow: 0 };

  constructor(
    private readonly run: UpdatedRun,
    private readonly together: Together,
    private readonly config: CommonConfig,
  ) {}

  /** Gradients of the policy loss (and of another model's, which is stepped if and only if the policy is), then one AdamW step. */
  async update(batch: TrainBatch, loss: TrainLoss, learningRate: number, other?: SecondModel): Promise<Trained> {
    const { fused = true, skipZeroAdvantages = false, workspaceBytes, outputDir } = this.config;
    const { training, signal, policy, step } = this.run;
    const trained = await this.optimize(
      async (_, options) => {
        if (other) await this.jointly(() => other.accumulate(options));
        return training.accumulate(batch, loss, { ...options, workspaceBytes, fused, skipZeroAdvantages });
      },
      combineAccumulated,
      learningRate,
      {
        result: NOT_MADE,
        record: (error) =>
          recordNonFinite(error, step + 1, sequencesOf(batch, loss, training, policy, signal), {
            ...{ training, outputDir, ranks: this.together.ranks },
          }),
      },
    ).catch(async (error: unknown) => {
      await other?.discard().catch(() => undefined); // the first error is the one to tell
      throw error;
    });
    await (trained.skipped ? other?.discard() : other?.step());
    return trained;
  }

  /**
   * Gradients, then one AdamW step. Nothing is changed when this throws, or when something is not finite: such a step is left out and
   * counted, until there are more than maxSkippedSteps of them in a row.
   */
  async optimize<R extends object>(
    gradients: (training: Training, options: GradientOptions) => Promise<R>,
    combine: (parts: R[]) => R,
    learningRate: number,
    notMade: NotMade<R>,
  ): Promise<Updated<R>> {
    const begin = performance.now();
    try {
      const updated = await this.tryOptimize(gradients, combine, learningRate);
      this.skipped.inRow = 0;
      return updated;
    } catch (error) {
      if (!isNonFinite(error)) throw error;
      await this.skip(error, notMade.record);
      return { ...notMade.result, gradNorm: NaN, skipped: true, seconds: { train: (performance.now() - begin) / 1000, optimizer: 0 } };
    }
  }

  private async skip(error: FusedGrpoError, record: NotMade<unknown>['record']): Promise<void> {
    const { maxSkippedSteps } = this.config;
    const there = error instanceof Elsewhere ? undefined : await record?.(error);
    const where = there === undefined ? '' : `; ${there}`;
    if (this.skipped.inRow >= maxSkippedSteps)
      throw new FusedGrpoError(
        error.code,
        maxSkippedSteps === 0
          ? `${error.message}${where}`
          : `${error.message}: ${this.skipped.inRow + 1} steps in a row were not finite (maxSkippedSteps ${maxSkippedSteps})${where}`,
        { cause: error },
      );
    this.skipped = { total: this.skipped.total + 1, inRow: this.skipped.inRow + 1 };
    process.emitWarning(`step ${this.run.step + 1} was left out: ${error.message}${where}`, 'FusedGrpoWarning');
  }

  private jointly<R>(work: () => Promise<R>): Promise<R[]> {
    return this.together.jointly(work, () => this.run.training.zeroGrad());
  }

  private async tryOptimize<R extends object>(
    gradients: (training: Training, options: GradientOptions) => Promise<R>,
    combine: (parts: R[]) => R,
    learningRate: number,
  ): Promise<Updated<R>> {
    const { config } = this;
    const begin = performance.now();
    const { microBatchTokens } = config;
    const options = { microBatchTokens, signal: this.run.signal, group: this.together.ranks.native };
    const before = this.together.ranks.statistics();
    const result = combine(await this.jointly(() => gradients(this.run.training, options)));
    const middle = performance.now();
    const { weightDecay, adamBeta1, adamBeta2, adamEpsilon, maxGradNorm } = config;
    const gradNorm = await this.run.training.optimizerStep({ learningRate, weightDecay, adamBeta1, adamBeta2, adamEpsilon, maxGradNorm });
    const ranks = rankMetrics(this.together.ranks, before);
    return { ...result, ...ranks, gradNorm, seconds: { train: (middle - begin) / 1000, optimizer: (performance.now() - middle) / 1000 } };
  }
}
