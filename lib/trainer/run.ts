// What every trainer's run has in common: the policy, the data cursor, the optimizer step, the run folder, saving and resuming.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Policy } from '../engine/policy.js';
import { FusedGrpoError, incompatible, invalidType } from '../errors.js';
import { findResume, loadCheckpoint, saveCheckpoint, type TrainerCheckpoint, type TrainerKind } from './checkpoint.js';
import type { ResolvedSFTConfig } from './config.js';
import { openDataset, type Cursor, type Dataset, type Row, type RowCheck, type RowSource } from './dataset.js';
import { appendJsonLine, makeFolder, writeFileAtomic, writeFolderAtomic } from './files.js';
import { Training, type AccumulateResult, type NativeTraining, type TrainBatch, type TrainLoss } from '../engine/training.js';

// SFTConfig's common part: what Run itself reads.
type CommonConfig = Pick<
  ResolvedSFTConfig,
  | 'outputDir'
  | 'maxSteps'
  | 'microBatchTokens'
  | 'weightDecay'
  | 'adamBeta1'
  | 'adamBeta2'
  | 'adamEpsilon'
  | 'maxGradNorm'
  | 'seed'
  | 'shuffleDataset'
  | 'saveSteps'
  | 'saveTotalLimit'
  | 'resume'
  | 'device'
  | 'dtype'
> & { fused?: boolean };

/** What a run needs of the model it trains. */
export interface TrainedModel {
  readonly native: NativeTraining;
  readonly path: string;
  readonly vocabSize: number;
  save(dir: string): Promise<void>;
  dispose(): void;
}

export interface RunOptions<M extends TrainedModel = Policy> {
  kind: TrainerKind;
  model: string | M;
  /** How another model than a policy is loaded, when `model` is a folder. */
  load?: (folder: string, signal: AbortSignal) => Promise<M>;
  dataset: Dataset;
  /** What is made of the data set before the first step: rows left out, say. */
  prepare?: (dataset: Dataset) => Promise<Dataset>;
  /** Tokens of a micro-batch when none are asked for; default: what keeps its logits small. */
  microBatchTokens?: number;
  check: RowCheck;
  config: CommonConfig;
  /** Options that a resumed run must share with the one that wrote the checkpoint. */
  settings: Record<string, unknown>;
  signal?: AbortSignal;
}

export type Updated<R> = R & { gradNorm: number; seconds: { train: number; optimizer: number } };
export type Trained = Updated<AccumulateResult>;

const LOGITS_BYTES = 256e6;
const MAX_MICRO_BATCH_TOKENS = 8192;

/** Tokens of a micro-batch when none are asked for: what keeps its logits within 256 MB. */
export const automaticMicroBatchTokens = (policy: { readonly vocabSize: number }): number =>
  Math.max(256, Math.min(MAX_MICRO_BATCH_TOKENS, Math.floor(LOGITS_BYTES / (4 * policy.vocabSize))));

export class Run<M extends TrainedModel = Policy> {
  policy!: M;
  source!: RowSource;
  /** Optimizer steps made. */
  step = 0;
  totalSteps = 0;
  private training!: Training;
  private savedStep = -1;
  /** Ends when the user's signal does, or at dispose(). */
  readonly signal: AbortSignal;
  private readonly controller = new AbortController();
  private state: 'new' | 'idle' | 'running' | 'disposed' = 'new';
  /** Rows taken for a step that failed, and where the cursor stood before them: for a checkpoint they do not count. */
  private pending?: { rows: Row[]; before: Cursor };

  constructor(private readonly options: RunOptions<M>) {
    const { model, config, signal } = options;
    this.signal = signal ? AbortSignal.any([signal, this.controller.signal]) : this.controller.signal;
    if (typeof model !== 'string' && !options.load && !(model instanceof Policy)) throw invalidType('model', 'a folder or a Policy', model);
    if (config.resume !== undefined && typeof model !== 'string')
      throw incompatible('resume needs `model` as a folder: a checkpoint replaces the weights');
  }

  get epoch(): number {
    const { epoch, index } = this.source.cursor;
    return epoch + (this.source.length ? index / this.source.length : 0);
  }

  get microBatchTokens(): number {
    return this.options.config.microBatchTokens || this.options.microBatchTokens || automaticMicroBatchTokens(this.policy);
  }

  /**
   * Opens data and model, resumes if asked to; returns the checkpoint it continues from. A trainer that is iterated again goes on where it
   * stopped.
   */
  async start(countSteps: (source: RowSource) => number): Promise<TrainerCheckpoint | undefined> {
    if (this.state === 'running') throw new FusedGrpoError('ERR_TRAINING', 'This trainer is already running: one loop at a time');
    const first = this.state === 'new';
    this.signal.throwIfAborted();
    this.state = 'running';
    if (!first) return undefined;
    try {
      return await this.open(countSteps);
    } catch (error) {
      if (this.state === 'running') this.state = 'new';
      throw error;
    }
  }

  private async open(countSteps: (source: RowSource) => number): Promise<TrainerCheckpoint | undefined> {
    const { config, dataset, check, model } = this.options;
    const { signal } = this;
    const data = (await this.options.prepare?.(dataset)) ?? dataset;
    this.source = await openDataset(data, { seed: config.shuffleDataset ? config.seed : null, lazy: config.maxSteps > 0, check });
    this.totalSteps = config.maxSteps > 0 ? config.maxSteps : countSteps(this.source);
    const from = findResume(config.resume, config.outputDir);
    this.policy = typeof model === 'string' ? await this.loadModel(from ?? model, signal) : model;
    this.training = new Training(this.policy);
    if (config.outputDir !== undefined) this.openFolder(config.outputDir, from !== undefined);
    if (from === undefined) return undefined;
    const state = await loadCheckpoint(from, this.training, this.options.kind, this.options.settings);
    this.step = this.savedStep = state.step;
    await this.source.seek(state.cursor);
    this.truncateLogs();
    return state;
  }

  private async loadModel(folder: string, signal: AbortSignal): Promise<M> {
    const { load, config } = this.options;
    if (load) return load(folder, signal);
    return (await Policy.load(folder, { device: config.device, dtype: config.dtype, signal })) as TrainedModel as M;
  }

  private openFolder(outputDir: string, resumed: boolean): void {
    makeFolder(outputDir);
    // A run that ended before its first checkpoint is continued from its beginning.
    if (!resumed && this.options.config.resume === 'auto') this.truncateLogs();
    else if (!resumed && existsSync(join(outputDir, 'metrics.jsonl')))
      throw new FusedGrpoError('ERR_DATA', `${outputDir} already holds a run; give another outputDir, or resume: 'auto' to continue it`);
    const { config, kind, model, dataset } = this.options;
    const described = {
      trainer: kind,
      model: typeof model === 'string' ? model : model.path,
      trainDataset: typeof dataset === 'string' ? dataset : '(in memory)',
      ...config,
    };
    writeFileAtomic(join(outputDir, 'config.json'), JSON.stringify(described, null, 2) + '\n');
  }

  /** After a crash the logs may be ahead of the checkpoint: the steps to be repeated are taken out. */
  private truncateLogs(): void {
    const { outputDir } = this.options.config;
    if (outputDir === undefined) return;
    for (const name of ['metrics.jsonl', 'samples.jsonl']) {
      const path = join(outputDir, name);
      if (!existsSync(path)) continue;
      const kept = readFileSync(path, 'utf8')
        .split('\n')
        .filter((line) => {
          try {
            return (JSON.parse(line) as { step: number }).step <= this.step;
          } catch {
            return false; // the empty end, or a line cut off by the crash
          }
        });
      writeFileAtomic(path, kept.map((line) => line + '\n').join(''));
    }
  }

  /** Hands `n` rows to `use`; when it fails they count as not taken. */
  async withRows<T>(n: number, use: (rows: Row[]) => Promise<T>): Promise<T> {
    if (!this.pending) {
      const before = { ...this.source.cursor };
      this.pending = { rows: await this.source.take(n), before };
    }
    const result = await use(this.pending.rows);
    this.pending = undefined;
    return result;
  }

  /** Gradients of the batch, then one AdamW step. Nothing is changed when this throws. */
  update(batch: TrainBatch, loss: TrainLoss, learningRate: number): Promise<Trained> {
    const fused = this.options.config.fused ?? true;
    return this.optimize((training, options) => training.accumulate(batch, loss, { ...options, fused }), learningRate);
  }

  /** The same with gradients of another loss. */
  async optimize<R extends object>(
    gradients: (training: Training, options: { microBatchTokens: number; signal: AbortSignal }) => Promise<R>,
    learningRate: number,
  ): Promise<Updated<R>> {
    const { config } = this.options;
    const begin = performance.now();
    const { signal, microBatchTokens } = this;
    const result = await gradients(this.training, { microBatchTokens, signal });
    const middle = performance.now();
    const { weightDecay, adamBeta1, adamBeta2, adamEpsilon, maxGradNorm } = config;
    const gradNorm = await this.training.optimizerStep({ learningRate, weightDecay, adamBeta1, adamBeta2, adamEpsilon, maxGradNorm });
    return { ...result, gradNorm, seconds: { train: (middle - begin) / 1000, optimizer: (performance.now() - middle) / 1000 } };
  }

  /** Appends to the run folder's logs. Samples are thinned out so that long runs stay readable. */
  log(metrics: { step: number }, samples?: { step: number; samples: unknown }): void {
    const { outputDir } = this.options.config;
    if (outputDir === undefined) return;
    appendJsonLine(join(outputDir, 'metrics.jsonl'), metrics);
    const every = Math.max(1, Math.floor(this.totalSteps / 50));
    if (samples && (this.step < 5 || this.step % every === 0 || this.step === this.totalSteps))
      appendJsonLine(join(outputDir, 'samples.jsonl'), samples);
  }

  /**
   * The loop: makes steps until the end. Whatever ends it early (an error, an abort, the consumer's break), what was done is saved.
   * `state` gives what the trainer adds to a checkpoint; `after` runs once per step, before it is handed out.
   */
  async *steps<S extends { step: number }>(
    make: () => Promise<S>,
    state: () => Partial<TrainerCheckpoint>,
    after: (step: S) => Promise<void>,
  ): AsyncGenerator<S, void, undefined> {
    const { config } = this.options;
    let finished = false;
    let saving = false; // a save that failed is not tried again
    const save = async () => {
      saving = true;
      await this.save(state());
      saving = false;
    };
    try {
      while (this.step < this.totalSteps) {
        this.signal.throwIfAborted();
        const step = await make();
        this.step = step.step;
        await after(step);
        if (config.saveSteps > 0 && this.step % config.saveSteps === 0) await save();
        yield step;
      }
      await save();
      await this.saveModel();
      finished = true;
    } finally {
      const disposed = (this.state as string) === 'disposed';
      if (!disposed) this.state = 'idle';
      // A failure to save must not hide the error that ended the run.
      if (!finished && !disposed && !saving)
        await this.save(state()).catch((error: Error) =>
          process.emitWarning(`the interrupted run could not be saved: ${error.message}`, 'FusedGrpoWarning'),
        );
    }
  }

  private async save(state: Partial<TrainerCheckpoint>): Promise<void> {
    const { config, kind, settings } = this.options;
    if (config.outputDir === undefined || this.step === this.savedStep || this.step === 0) return;
    const cursor = this.pending?.before ?? { ...this.source.cursor };
    await saveCheckpoint(
      config.outputDir,
      this.policy,
      this.training,
      { trainer: kind, step: this.step, cursor, settings, ...state },
      config.saveTotalLimit,
    );
    this.savedStep = this.step;
  }

  private async saveModel(): Promise<void> {
    const { outputDir } = this.options.config;
    if (outputDir !== undefined) await writeFolderAtomic(join(outputDir, 'model'), (part) => this.policy.save(part));
  }

  /** Ends a loop under way (its step is not made) and frees the policy, unless it is the caller's. */
  dispose(): void {
    this.state = 'disposed';
    this.controller.abort(new FusedGrpoError('ERR_DISPOSED', 'This trainer was disposed'));
    if (typeof this.options.model === 'string') this.policy?.dispose();
  }
}
