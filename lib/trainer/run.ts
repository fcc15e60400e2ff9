// What every trainer's run has in common: the policy, the data cursor, the optimizer step, the run folder, saving and resuming.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { checkMapping } from '../data/columns.js';
import { baseOption } from '../engine/adapter-folder.js';
import { Policy } from '../engine/policy.js';
import { FusedGrpoError, incompatible, invalidType } from '../errors.js';
import type { Ranks } from '../distributed/ranks.js';
import { Loggers, loggersOf } from '../loggers/loggers.js';
import { agreeOnData, agreeOnModel, agreeOnOptions, agreeOnPlace } from './agreement.js';
import { findResume, loadCheckpoint, saveCheckpoint, type Best, type TrainerCheckpoint } from './checkpoint.js';
import { openDataset, type Cursor, type Row, type RowSource } from './dataset.js';
import { copyModel, writeFileAtomic, writeFolderAtomic } from './files.js';
import { RunFolder, type LoggedSamples } from './run-folder.js';
import type { NotMade, RunOptions, SecondModel, Trained, TrainedModel, Updated } from './run-types.js';
import type { Skipped } from './non-finite.js';
import { chooseTrained, trainedSettings } from './trained-part.js';
import { Stop } from './stop.js';
import { Together } from './together.js';
import { Updater } from './updater.js';
import type { Version } from './weight-sync.js';
import { Training, type GradientOptions, type TrainBatch, type TrainLoss } from '../engine/training.js';

/** What a trainer does once its run is open. */
type Opened = (resumed: TrainerCheckpoint | undefined) => Promise<void>;

export class Run<M extends TrainedModel = Policy> {
  policy!: M;
  source!: RowSource;
  /** Optimizer steps made. */
  step = 0;
  totalSteps = 0;
  /** The best evaluation so far; its checkpoint is kept. */
  best?: Best;
  training!: Training;
  private readonly folder: RunFolder;
  private readonly settings: Record<string, unknown>;
  /** Of the newest checkpoint; -1: there is none. */
  savedStep = -1;
  private readonly loggers: Loggers;
  private saveWanted = false;
  /** The checkpoint of this step is to be written again. */
  private amended = false;
  /** The checkpoint that this run continues from. */
  resumedFrom?: string;
  private readonly together: Together;
  private readonly updater: Updater;
  private readonly stop: Stop;
  private state: 'new' | 'idle' | 'running' | 'disposed' = 'new';
  /** The loop waits for its consumer, who may never come back. */
  private handedOut = false;
  /** The last loop came to its end. */
  private finished = false;
  /** Rows taken for a step that failed, and where the cursor stood before them: for a checkpoint they do not count. */
  private pending?: { rows: Row[]; before: Cursor };

  constructor(private readonly options: RunOptions<M>) {
    this.folder = new RunFolder(options.config);
    checkMapping(options.columnMapping);
    this.loggers = loggersOf(options.config, options.loggers);
    this.settings = { ...options.settings, ...trainedSettings(options.config) };
    const { model, config, signal } = options;
    this.stop = new Stop(signal, config.shardOptimizer);
    this.together = new Together(config.ddpTimeout, this.signal);
    this.updater = new Updater(this, this.together, config);
    if (typeof model !== 'string' && !options.load && !(model instanceof Policy)) throw invalidType('model', 'a folder or a Policy', model);
    if (config.resume !== undefined && typeof model !== 'string')
      throw incompatible('resume needs `model` as a folder: a checkpoint replaces the weights');
  }

  /** Ends when the user's does (with sharded state: between two steps), or at dispose(). */
  get signal(): AbortSignal {
    return this.stop.signal;
  }

  /** Steps left out, and how many of them in a row. */
  get skipped(): Skipped {
    return this.updater.skipped;
  }

  /** Of the policy as it is. */
  get version(): Version {
    return { step: this.step, policyVersion: this.step - this.skipped.total };
  }

  /** The processes that train together. */
  get ranks(): Ranks {
    return this.together.ranks;
  }

  /** In the data set: rows of a step that was not made do not count. */
  private get place(): Cursor {
    return this.pending?.before ?? { ...this.source.cursor };
  }

  get epoch(): number {
    const { epoch, index } = this.source.cursor;
    return epoch + (this.source.length ? index / this.source.length : 0);
  }

  /**
   * Opens data and model, resumes if asked to, and lets `opened` do the trainer's part (with the checkpoint, where it continues from one). A
   * trainer that is iterated again goes on where it stopped.
   */
  async start(countSteps: (source: RowSource) => number, opened: Opened = async () => undefined): Promise<void> {
    if (this.state === 'running') throw new FusedGrpoError('ERR_TRAINING', 'This trainer is already running: one loop at a time');
    const first = this.state === 'new';
    this.stop.throwIfAborted();
    this.state = 'running';
    try {
      // Nothing left to do: the others need not come to that.
      if (first || this.step < this.totalSteps || (this.options.config.shardOptimizer && !this.finished)) await this.together.join();
      await opened(first ? await this.openTogether(countSteps) : await this.goOn());
    } catch (error) {
      await this.together.part(error);
      this.folder.unlock();
      if (this.state === 'running') this.state = first ? 'new' : 'idle';
      throw error;
    }
  }

  private async goOn(): Promise<undefined> {
    const { config } = this.options;
    this.folder.lock();
    await agreeOnPlace(this.ranks, this.policy, this.step, this.place);
    if (config.shardOptimizer && this.ranks.native) await this.training.shardOptimizer(this.ranks.native);
  }

  private async openTogether(countSteps: (source: RowSource) => number): Promise<TrainerCheckpoint | undefined> {
    const { config, dataset, check, model } = this.options;
    const { signal, ranks } = this;
    if (ranks.rank > 0) this.folder.onlyRead();
    await agreeOnOptions(ranks, this.options);
    const data = (await this.options.prepare?.(dataset)) ?? dataset;
    const columnMapping = this.options.prepare ? undefined : this.options.columnMapping; // prepare has renamed them
    const seed = config.shuffleDataset ? config.seed : null;
    this.source = await openDataset(data, { seed, lazy: config.maxSteps > 0, check, columnMapping });
    this.totalSteps = config.maxSteps > 0 ? config.maxSteps : countSteps(this.source);
    await agreeOnData(ranks, dataset, this.source, this.totalSteps);
    const from = await ranks.fromFirst(ranks.rank === 0 ? await findResume(config.resume, config.outputDir) : undefined);
    if (from !== undefined && !existsSync(from))
      throw new FusedGrpoError('ERR_IO', `Rank ${ranks.rank} does not see ${from}: all ranks must see the folder of the checkpoints`);
    this.policy = typeof model === 'string' ? await this.loadModel(model, from, signal) : model;
    await chooseTrained(this.policy, config);
    await agreeOnModel(ranks, this.policy);
    this.training = new Training(this.policy);
    if (config.shardOptimizer && ranks.native) await this.training.shardOptimizer(ranks.native);
    this.folder.open(this.described(), from !== undefined);
    if (from === undefined) return undefined;
    const state = await loadCheckpoint(from, this.training, this.options.kind, this.settings);
    this.step = this.savedStep = state.step;
    this.updater.skipped = state.skipped ?? this.skipped;
    this.best = state.best;
    this.resumedFrom = from;
    await this.source.seek(state.cursor);
    this.folder.truncate(this.step);
    return state;
  }

  /** The ranks, for what goes on beside the steps; without a name: for the steps. */
  channel(name?: string): Promise<Ranks> {
    return this.together.channel(name);
  }

  private async loadModel(model: string, from: string | undefined, signal: AbortSignal): Promise<M> {
    const { load, config } = this.options;
    const folder = from ?? model;
    this.policy?.dispose(); // of an earlier start that failed
    if (load) return load(folder, signal);
    const { device, dtype } = config;
    return (await Policy.load(folder, { device, dtype, ...(await baseOption(folder, model)), signal })) as TrainedModel as M;
  }

  private described(): Record<string, unknown> {
    const { config, kind, model, dataset, columnMapping } = this.options;
    return {
      trainer: kind,
      model: typeof model === 'string' ? model : model.path,
      trainDataset: typeof dataset === 'string' ? dataset : '(in memory)',
      ...this.options.described,
      ...(columnMapping ? { columnMapping } : {}),
      ...config,
    };
  }

  /** Lets `use` take rows; when it fails they count as not taken, and the next one gets the same. */
  async withRows<T>(use: (take: (n: number) => Promise<Row[]>) => Promise<T>): Promise<T> {
    const pending = (this.pending ??= { rows: [], before: { ...this.source.cursor } });
    let given = 0;
    const result = await use(async (n) => {
      const missing = given + n - pending.rows.length;
      if (missing > 0) pending.rows.push(...(await this.source.take(missing)));
      return pending.rows.slice(given, (given += n));
    });
    this.pending = undefined;
    return result;
  }

  /** Gradients of the policy loss (and of another model's, which is stepped if and only if the policy is), then one AdamW step. */
  update(batch: TrainBatch, loss: TrainLoss, learningRate: number, other?: SecondModel): Promise<Trained> {
    return this.updater.update(batch, loss, learningRate, other);
  }

  /** The same of any gradients: `combine` makes one result of those of all ranks. */
  optimize<R extends object>(
    gradients: (training: Training, options: GradientOptions) => Promise<R>,
    combine: (parts: R[]) => R,
    learningRate: number,
    notMade: NotMade<R>,
  ): Promise<Updated<R>> {
    return this.updater.optimize(gradients, combine, learningRate, notMade);
  }

  log(metrics: { step: number }, samples?: LoggedSamples, always = false): void {
    this.folder.log(metrics, samples, { step: this.step, totalSteps: this.totalSteps, always });
  }

  /**
   * The loop: makes steps until the end. Whatever ends it early (an error, an abort, the consumer's break), what was done is saved.
   * `state` gives what the trainer adds to a checkpoint; `after` runs once per step, before it is handed out; `before` before the first of this
   * loop.
   */
  async *steps<S extends { step: number; metrics: object }>(
    make: () => Promise<S>,
    state: () => Partial<TrainerCheckpoint>,
    after: (step: S) => Promise<void>,
    before?: () => Promise<void>,
  ): AsyncGenerator<S, void, undefined> {
    const { config } = this.options;
    this.finished = false;
    this.stop.begin();
    let reason: unknown;
    let saving = false; // a save that failed is not tried again
    const save = async () => {
      saving = true;
      await this.save(state());
      saving = false;
    };
    const { outputDir } = config;
    const { writes } = this.together;
    if (writes)
      await this.loggers.start({
        kind: this.options.kind,
        config: this.described(),
        step: this.step,
        totalSteps: this.totalSteps,
        outputDir,
      });
    try {
      await before?.();
      if (this.saveWanted) await save();
      while (this.step < this.totalSteps) {
        await this.stop.between(this.ranks, this.step);
        this.together.setStep(this.step + 1);
        const step = await make();
        this.step = step.step;
        await after(step);
        if (writes) await this.loggers.step(step.metrics, step.step);
        if (this.saveWanted || (config.saveSteps > 0 && this.step % config.saveSteps === 0)) await save();
        this.handedOut = true;
        yield step;
        this.handedOut = false;
      }
      await save();
      await this.saveModel();
      this.finished = true;
    } catch (error) {
      // Interrupted ranks do not end in the same moment: what this one misses then is no failure.
      reason = this.signal.aborted && (error as { code?: unknown }).code === 'ERR_RANK_LOST' ? this.signal.reason : error;
      throw reason;
    } finally {
      const disposed = (this.state as string) === 'disposed';
      this.handedOut = false;
      this.stop.end();
      if (!disposed) this.state = 'idle';
      // A failure to save must not hide the error that ended the run.
      const { finished } = this;
      if (!finished && !disposed && !saving && (!this.sharded || this.stop.agreed))
        await this.save(state()).catch((error: Error) =>
          process.emitWarning(`the interrupted run could not be saved: ${error.message}`, 'FusedGrpoWarning'),
        );
      this.folder.unlock();
      // Whoever has left the loop may never come back to it: the others are told. All meet again where all come back.
      if (reason === undefined && this.ranks.worldSize > 1) await this.options.settled?.();
      await this.together.part(finished ? undefined : (reason ?? `it left its loop after step ${this.step}`));
      if (writes) await this.loggers.end({ status: finished ? 'finished' : 'stopped', step: this.step });
    }
  }

  /** A checkpoint needs all ranks. */
  private get sharded(): boolean {
    return this.options.config.shardOptimizer && this.ranks.worldSize > 1;
  }

  private async save(state: Partial<TrainerCheckpoint>): Promise<void> {
    const { config, kind, saveMore } = this.options;
    if (config.outputDir === undefined || (this.step === this.savedStep && !this.amended) || this.step === 0) return;
    if (!this.together.writes) {
      if (this.sharded) await this.training.saveOptimizer('');
      await this.options.saveShard?.();
      this.saved();
      return;
    }
    await saveCheckpoint(
      config.outputDir,
      this.policy,
      this.training,
      { trainer: kind, step: this.step, cursor: this.place, settings: this.settings, skipped: this.skipped, best: this.best, ...state },
      config.saveTotalLimit,
      saveMore,
    );
    this.saved();
  }

  private saved(): void {
    this.savedStep = this.step;
    this.saveWanted = this.amended = false;
  }

  private async saveModel(): Promise<void> {
    const { outputDir } = this.options.config;
    if (outputDir === undefined || !this.together.writes) return;
    const { best } = this;
    const wanted = this.options.loadBestModelAtEnd && best && best.step !== this.step;
    const from = wanted ? join(outputDir, `checkpoint-${best.step}`) : '';
    await writeFolderAtomic(join(outputDir, 'model'), (part) => (existsSync(from) ? copyModel(from, part) : this.policy.save(part)));
  }

  /** Compares an evaluation of the step that has just been made with the best so far; a better one is saved. */
  consider(metric: string, value: number): void {
    if (this.best?.metric === metric && !(value > this.best.value)) return;
    this.best = { step: this.step, metric, value };
    this.saveWanted = true;
    const { outputDir } = this.options.config;
    if (outputDir !== undefined && this.together.writes) writeFileAtomic(join(outputDir, 'best.json'), JSON.stringify(this.best) + '\n');
  }

  /** Values of the step made last that came later than its line: it is saved again. */
  amend(values: object): void {
    this.folder.amend(this.step, values);
    this.amended = true;
    this.saveWanted = true;
  }

  /** Ends a loop under way (its step is not made) and frees the policy, unless it is the caller's. */
  dispose(): void {
    this.state = 'disposed';
    this.stop.now(new FusedGrpoError('ERR_DISPOSED', 'This trainer was disposed'));
    this.folder.unlock();
    if (this.handedOut) void this.together.part('its trainer was disposed'); // a step under way does it itself
    if (typeof this.options.model === 'string') this.policy?.dispose();
  }
}
