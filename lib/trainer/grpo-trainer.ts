import { join } from 'node:path';
import type { ColumnMapping } from '../data/columns.js';
import { Policy } from '../engine/policy.js';
import { FusedGrpoError, incompatible, invalidType, rejectUnknown } from '../errors.js';
import type { Logger } from '../loggers/types.js';
import type { ValueResult } from '../engine/training.js';
import { stepLoss } from './loss.js';
import { resolveGRPOConfig, type GRPOConfig, type ResolvedGRPOConfig } from './config.js';
import { openDataset, type Dataset, type Row as DataRow } from './dataset.js';
import { checkPromptRow } from './rows.js';
import type { RewardFuncs, TextRow } from './reward-types.js';
import type { TrainerCheckpoint } from './checkpoint.js';
import { memoryOf, nameRewards, setMemory, type NamedReward } from './rewards.js';
import type { Critic } from './critic.js';
import { combineValues } from './combine.js';
import { minibatch, ownPart, toBatch, trainedTokens } from './batch.js';
import { evaluatePolicy, type EvalMetrics } from './evaluate.js';
import type { RolloutFn, SyncWeights } from './rollout-function.js';
import { RolloutSource } from './rollout-source.js';
import type { Rollout } from './rollout.js';
import { Run } from './run.js';
import { Trainer } from './trainer.js';
import { SampleLog, sampleOf } from './samples.js';
import { externalSampler, type ExternalSampler } from './sampler.js';
import { countSteps, layoutOf, learningRateAt, stepsPerRollout } from './schedule.js';
import { stepMetrics } from './step-metrics.js';
import type { GRPOStep } from './types.js';

/** What a GRPOTrainer is made of. `Row`, `Added`: see GRPOTrainer. */
export interface GRPOTrainerOptions<Row extends object = TextRow, Added = unknown> {
  /** A folder in Hugging Face layout, or a loaded Policy (which stays the caller's to dispose). */
  model: string | Policy;
  /** Functions, or loaded reward models (which stay the caller's to dispose): one, or several whose rewards are added by `rewardWeights`. */
  rewardFuncs: RewardFuncs<Row & NoInfer<Added>>;
  /** Rows of { prompt: string | ChatMessage[], ...columns }; the columns reach the reward functions. */
  trainDataset: Dataset<Row>;
  /** Our column <- the data set's name for it: { prompt: 'question', answer: 'solution' }. evalDataset's columns are renamed as well. */
  columnMapping?: ColumnMapping;
  /** Options; defaults are those of TRL. */
  config?: GRPOConfig;
  /** Rows as in trainDataset: evaluated every config.evalSteps steps and at the end, by the same reward functions. */
  evalDataset?: Dataset<Row>;
  /**
   * The reference of the KL term (beta > 0); default: the model as it is when the run begins. With a LoRA adapter: its base model, which is
   * the same one with the adapter left out, so that there is no second copy.
   */
  refModel?: string | Policy;
  /**
   * Samples the completions in place of the policy's own engine: by an inference server, in an environment (docs/rollouts.md). Evaluations ask
   * it as well.
   */
  rollout?: RolloutFn;
  /** How whatever `rollout` asks gets the policy's weights. What openAICompatible makes brings its own. */
  syncWeights?: SyncWeights;
  /** Aborting saves a checkpoint (when there is an outputDir) and rejects with signal.reason. */
  signal?: AbortSignal;
  /** Where metrics go besides metrics.jsonl. An error of theirs is a warning. */
  loggers?: Logger[];
  /** Called after each step, before the next one begins; it may be async. */
  onStep?: (step: GRPOStep) => void | Promise<void>;
}

const OPTION_NAMES = [
  ...['model', 'rewardFuncs', 'trainDataset', 'evalDataset', 'columnMapping', 'config', 'refModel', 'signal', 'loggers', 'onStep'],
  ...['rollout', 'syncWeights'],
];
const NOT_YET =
  'evaluate() asks the policy, which is loaded when training begins: call it in the loop, or afterwards. `npx fused-grpo eval` measures a ' +
  'model as it is';
// Changing one of these on resume would change which rows and samples come next.
const LAYOUT_OPTIONS = [
  'numGenerations',
  'perDeviceTrainBatchSize',
  'gradientAccumulationSteps',
  'stepsPerGeneration',
  'dynamicSampling',
  'maxResamples',
  'generateAhead',
  'refModelSyncSteps',
  'numIterations',
  'seed',
  'shuffleDataset',
] as const;

/** What distinguishes the trainers that share this one's loop. */
export interface TrainerSetup {
  kind: 'grpo' | 'ppo';
  name: string;
  /** For config.json. */
  described?: Record<string, unknown>;
  resolve: (config: object) => ResolvedGRPOConfig;
  critic?: (config: ResolvedGRPOConfig, signal: AbortSignal) => Critic;
}

const GRPO: TrainerSetup = { kind: 'grpo', name: 'GRPOTrainer', resolve: resolveGRPOConfig };

/**
 * Group Relative Policy Optimization (DeepSeekMath, arXiv 2402.03300): sample numGenerations completions per prompt, score them, turn
 * rewards into advantages relative to the group, and take AdamW steps on the clipped policy-ratio loss.
 *
 *     for await (const step of new GRPOTrainer({ model, rewardFuncs, trainDataset, config })) console.log(step.metrics.reward);
 *
 * With `config.outputDir` it writes metrics.jsonl, samples.jsonl, config.json (of the run), checkpoint-<step>/ and, at the end, model/.
 * Errors: TypeError/RangeError for options; FusedGrpoError with a code for data, model, reward and training failures. Whatever ends a
 * run early, the steps made so far are saved first.
 *
 * `Row` types what the reward functions get: it is that of the data sets' rows; of a file a text prompt and columns of any kind are taken for
 * granted, and `new GRPOTrainer<{ prompt: ChatMessage[]; answer: string }>(...)` says otherwise. `Added`: further columns of reward functions,
 * which columnMapping or a rollout function makes.
 */
export class GRPOTrainer<Row extends object = TextRow, Added = unknown> extends Trainer<GRPOStep> {
  /** The options with all defaults filled in. */
  readonly config: ResolvedGRPOConfig;
  private readonly rewards: NamedReward[];
  /** @internal */
  protected override readonly run: Run;
  private readonly rollouts: RolloutSource;
  private readonly critic?: Critic;
  private readonly external?: ExternalSampler;
  private evalRows?: DataRow[];
  /** An evaluation has begun and not ended. */
  private evaluationDue = false;
  private readonly sampleLog = new SampleLog();
  private lastRollout?: Rollout;

  private readonly options: Pick<GRPOTrainerOptions<object>, 'evalDataset' | 'columnMapping' | 'onStep'>;

  constructor(options: GRPOTrainerOptions<Row, Added>, /** @internal */ setup: TrainerSetup = GRPO) {
    super();
    this.options = options;
    if (options === null || typeof options !== 'object') throw invalidType(`${setup.name} options`, 'an object', options);
    rejectUnknown(setup.name, options, setup.critic ? [...OPTION_NAMES, 'valueModel'] : OPTION_NAMES);
    this.config = setup.resolve(options.config ?? {});
    this.rewards = nameRewards(options.rewardFuncs, this.config.rewardWeights);
    this.external = externalSampler(options, this.config, setup.critic !== undefined);
    this.run = new Run({
      kind: setup.kind,
      model: options.model,
      dataset: options.trainDataset,
      columnMapping: options.columnMapping,
      check: checkPromptRow,
      config: this.config,
      settings: layoutOf(this.config, LAYOUT_OPTIONS),
      described: {
        ...(typeof options.evalDataset === 'string' ? { evalDataset: options.evalDataset } : {}),
        ...setup.described,
      },
      trainedOn: Object.fromEntries(this.rewards.map(({ name, code }) => [`reward function '${name}'`, code])),
      loadBestModelAtEnd: this.config.loadBestModelAtEnd,
      saveMore: async (folder) => {
        await this.rollouts.save(folder);
        await this.critic?.save(folder);
      },
      saveShard: async () => this.critic?.saveShard(),
      settled: () => this.rollouts.settled(),
      signal: options.signal,
      loggers: options.loggers,
    });
    const { run, config, rewards, stepsPerRollout, external } = this;
    const critic = (this.critic = setup.critic?.(config, run.signal));
    const { model, refModel } = options;
    this.rollouts = new RolloutSource({ run, config, rewards, stepsPerRollout, critic, external, model, refModel });
    if (config.evalSteps > 0 && options.evalDataset === undefined) throw incompatible('evalSteps needs evalDataset');
  }

  /** The policy being trained, once training has begun. */
  get policy(): Policy {
    if (!this.run.policy) throw new FusedGrpoError('ERR_TRAINING', 'The policy is loaded when training begins');
    return this.run.policy;
  }

  override dispose(): void {
    super.dispose();
    this.rollouts.dispose();
    this.critic?.dispose();
  }

  private get stepsPerRollout(): number {
    return stepsPerRollout(this.config);
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<GRPOStep, void, undefined> {
    const { run } = this;
    await run.start(
      (source) => countSteps(this.config, source.length!),
      (resumed) => this.opened(resumed),
    );
    yield* run.steps(
      () => this.makeStep(),
      () => ({ ...this.rollouts.state(), sampleLog: this.sampleLog.state, evaluationDue: this.evaluationDue }),
      async (step) => {
        try {
          Object.assign(step.metrics, await this.evaluateStep());
        } finally {
          const { line, always } = this.sampleLog.lineOf(step, this.lastRollout!, this.config.numGenerations);
          run.log(step.metrics, line, always); // an evaluation that fails does not undo the step
        }
        await this.options.onStep?.(step);
      },
      async () => {
        // One that an earlier loop could not finish. The step stands, so it is still this policy.
        if (this.evaluationDue && this.evalRows) run.amend(await this.evaluateStep());
      },
    );
  }

  private async opened(resumed: TrainerCheckpoint | undefined): Promise<void> {
    const { run } = this;
    await this.critic?.open(run.policy, resumed && join(run.resumedFrom!, 'trainer'), run.ranks);
    if (resumed) {
      await this.rollouts.restore(resumed, run.resumedFrom!);
      this.sampleLog.state = resumed.sampleLog;
      this.evaluationDue = resumed.evaluationDue === true;
    }
    this.evalRows ??= await this.readEvalRows();
    if (run.ranks.worldSize > 1) await this.rollouts.again();
  }

  private async readEvalRows(): Promise<DataRow[] | undefined> {
    const { evalDataset } = this.options;
    if (evalDataset === undefined) return undefined;
    const source = await openDataset(evalDataset, {
      ...{ seed: null, lazy: false, check: checkPromptRow, name: 'evalDataset', columnMapping: this.options.columnMapping },
    });
    return source.take(source.length!);
  }

  /** The policy as it is on evalDataset: greedy and sampled rewards, pass@1 and pass@K. Between steps, or after the run; before it, ERR_TRAINING. */
  async evaluate(): Promise<EvalMetrics> {
    const rows = (this.evalRows ??= await this.readEvalRows());
    if (!rows) throw incompatible('evaluate() needs evalDataset');
    const { run, config, rewards, external } = this;
    const { policy } = run;
    if (!policy) throw new FusedGrpoError('ERR_TRAINING', NOT_YET);
    const { policyVersion } = run.version;
    const state = { step: run.step, totalSteps: run.totalSteps, epoch: run.epoch };
    if (memoryOf(rewards) || external) await this.rollouts.finishAhead();
    const memory = memoryOf(rewards); // statistics of training's rewards alone
    try {
      const { ranks, signal } = run;
      await external?.weights?.bringTogether(ranks, policy, run.version, signal, true);
      return await evaluatePolicy(rows, { policy, rewards, config, external, policyVersion, ranks, signal }, state);
    } finally {
      if (memory) setMemory(rewards, memory);
    }
  }

  /** After a step: an evaluation, where one is due, and whether it is the best so far. */
  private async evaluateStep(): Promise<Partial<EvalMetrics>> {
    const { run, config } = this;
    const due = run.step === run.totalSteps || (config.evalSteps > 0 && run.step % config.evalSteps === 0);
    this.evaluationDue = this.evalRows !== undefined && due;
    if (!this.evaluationDue) return {};
    const metrics = await this.evaluate();
    this.evaluationDue = false;
    run.consider(config.metricForBestModel, metrics[config.metricForBestModel]);
    return metrics;
  }

  private async makeStep(): Promise<GRPOStep> {
    const { run, config } = this;
    const begin = performance.now();
    const rollout = await this.rollouts.next();
    const fresh = rollout.used === 0;
    const { policyVersion } = run.version;
    const chosen = minibatch(rollout, config);
    const learningRate = learningRateAt(config, run.step, run.totalSteps);
    const lossConfig = { ...config, samplerImportanceSampling: rollout.correction ?? 'none' };
    const loss = stepLoss(lossConfig, trainedTokens(rollout, chosen, config), chosen.length);
    const { critic } = this;
    const own = ownPart(rollout, chosen, config, run.ranks);
    let judged: ValueResult | undefined;
    const trained = await run.update(
      toBatch(rollout, own, config),
      loss,
      learningRate,
      critic && {
        accumulate: async (options) => void (judged = await critic.accumulate(rollout, chosen, options, own)),
        step: () => critic.step(learningRate),
        discard: () => critic.discard(),
      },
    );
    this.rollouts.used();
    this.lastRollout = rollout;
    const phases = fresh ? rollout.seconds : { generate: 0, reward: 0, score: 0 };
    const seconds = { ...phases, ...trained.seconds, total: (performance.now() - begin) / 1000 };
    const step = run.step + 1;
    const skippedSteps = run.skipped.total;
    const metrics = stepMetrics({
      ...{ fresh, policyVersion },
      skippedSteps,
      step,
      epoch: rollout.epoch ?? run.epoch,
      rollout,
      chosen,
      rewards: this.rewards,
      trained,
      learningRate,
      seconds,
      config,
    });
    if (critic && judged && !trained.skipped) Object.assign(metrics, critic.metrics(combineValues(await run.ranks.gather(judged))));
    return { step, metrics, samples: [...chosen].map((i) => sampleOf(rollout, i, config.numGenerations)) };
  }
}
