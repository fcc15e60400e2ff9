import { Policy } from '../engine/policy.js';
import { FusedGrpoError, invalidType, rejectUnknown } from '../errors.js';
import type { RewardModel } from '../reward/reward-model.js';
import { stepLoss } from './loss.js';
import { resolveGRPOConfig, type GRPOConfig, type ResolvedGRPOConfig } from './config.js';
import type { Row, Dataset } from './dataset.js';
import { checkPromptRow } from './rows.js';
import { nameRewards, type NamedReward, type RewardFn } from './rewards.js';
import { decodeRollout, drawRollout, encodeRollout, minibatch, toBatch, trainedTokens, type Rollout } from './rollout.js';
import { Run } from './run.js';
import { learningRateAt } from './schedule.js';
import { stepMetrics, stepSamples } from './step-metrics.js';
import type { GRPOStep } from './types.js';

export interface GRPOTrainerOptions {
  /** A folder in Hugging Face layout, or a loaded Policy (which stays the caller's to dispose). */
  model: string | Policy;
  /** Functions, or loaded reward models (which stay the caller's to dispose): one, or several whose rewards are added by `rewardWeights`. */
  rewardFuncs: RewardFn | RewardModel | (RewardFn | RewardModel)[];
  /** Rows of { prompt: string | ChatMessage[], ...columns }; the columns reach the reward functions. */
  trainDataset: Dataset;
  config?: GRPOConfig;
  /** The reference of the KL term (beta > 0); default: the model as it is when the run begins. */
  refModel?: string | Policy;
  /** Aborting saves a checkpoint (when there is an outputDir) and rejects with signal.reason. */
  signal?: AbortSignal;
  onStep?: (step: GRPOStep) => void | Promise<void>;
}

const OPTION_NAMES = ['model', 'rewardFuncs', 'trainDataset', 'config', 'refModel', 'signal', 'onStep'];
// Changing one of these on resume would change which rows and samples come next.
const LAYOUT_OPTIONS = [
  'numGenerations',
  'perDeviceTrainBatchSize',
  'gradientAccumulationSteps',
  'stepsPerGeneration',
  'numIterations',
  'seed',
  'shuffleDataset',
] as const;

/**
 * Group Relative Policy Optimization (DeepSeekMath, arXiv 2402.03300): sample numGenerations completions per prompt, score them, turn
 * rewards into advantages relative to the group, and take AdamW steps on the clipped policy-ratio loss.
 *
 *     for await (const step of new GRPOTrainer({ model, rewardFuncs, trainDataset, config })) console.log(step.metrics.reward);
 *
 * With `config.outputDir` it writes metrics.jsonl, samples.jsonl, config.json (of the run), checkpoint-<step>/ and, at the end, model/.
 * Errors: TypeError/RangeError for options; FusedGrpoError with a code for data, model, reward and training failures. Whatever ends a
 * run early, the steps made so far are saved first.
 */
export class GRPOTrainer implements AsyncIterable<GRPOStep> {
  readonly config: ResolvedGRPOConfig;
  private readonly rewards: NamedReward[];
  private readonly run: Run;
  private reference?: Policy;
  private rollout?: Rollout;
  private rolloutsDrawn = 0;

  constructor(private readonly options: GRPOTrainerOptions) {
    if (options === null || typeof options !== 'object') throw invalidType('GRPOTrainer options', 'an object', options);
    rejectUnknown('GRPOTrainer', options, OPTION_NAMES);
    this.config = resolveGRPOConfig(options.config ?? {});
    this.rewards = nameRewards(options.rewardFuncs, this.config.rewardWeights);
    this.run = new Run({
      kind: 'grpo',
      model: options.model,
      dataset: options.trainDataset,
      check: checkPromptRow,
      config: this.config,
      settings: Object.fromEntries(LAYOUT_OPTIONS.map((name) => [name, this.config[name]])),
      signal: options.signal,
    });
  }

  /** The policy being trained, once training has begun. */
  get policy(): Policy {
    if (!this.run.policy) throw new FusedGrpoError('ERR_TRAINING', 'The policy is loaded when training begins');
    return this.run.policy;
  }

  /** Optimizer steps of the whole run; 0 until training has begun. */
  get totalSteps(): number {
    return this.run.totalSteps;
  }

  /** The step to come (0-based): also after resuming. */
  get currentStep(): number {
    return this.run.step;
  }

  /** Trains to the end; returns the last step. */
  async train(): Promise<GRPOStep | undefined> {
    let last: GRPOStep | undefined;
    for await (const step of this) last = step;
    return last;
  }

  /** Frees what this trainer loaded: not a Policy that was passed in. */
  dispose(): void {
    this.run.dispose();
    if (this.reference && this.reference !== this.options.refModel) this.reference.dispose();
    this.reference = undefined;
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  private get stepsPerRollout(): number {
    return (this.config.rolloutCompletions / this.config.stepCompletions) * this.config.numIterations;
  }

  private async loadReference(): Promise<Policy | undefined> {
    const { refModel, model } = this.options;
    const { signal } = this.run;
    if (this.config.beta === 0) return undefined;
    if (refModel instanceof Policy) return refModel;
    const folder = refModel ?? (typeof model === 'string' ? model : undefined);
    if (folder === undefined) return (model as Policy).clone();
    return Policy.load(folder, { device: this.config.device, dtype: this.config.dtype, signal });
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<GRPOStep, void, undefined> {
    const { run } = this;
    const resumed = await run.start(
      (source) =>
        Math.ceil((source.length! * this.config.numTrainEpochs * this.config.numGenerations) / this.config.rolloutCompletions) *
        this.stepsPerRollout,
    );
    if (resumed) {
      this.rolloutsDrawn = resumed.rolloutsDrawn!;
      this.rollout = resumed.rollout ? decodeRollout(resumed.rollout) : undefined;
      this.rewards.forEach(({ memory }, i) => memory && (memory.state = resumed.rewards?.[i]));
    }
    yield* run.steps(
      () => this.makeStep(),
      () => ({
        rolloutsDrawn: this.rolloutsDrawn,
        rollout: this.rollout && encodeRollout(this.rollout),
        rewards: this.rewards.some((r) => r.memory) ? this.rewards.map((r) => r.memory?.state) : undefined,
      }),
      async (step) => {
        run.log(step.metrics, { step: step.step, samples: stepSamples(step.samples) });
        await this.options.onStep?.(step);
      },
    );
  }

  private async ensureRollout(): Promise<Rollout> {
    this.reference ??= await this.loadReference(); // before the first step: a Policy passed in is still untouched
    if (this.rollout) return this.rollout;
    const { run, config } = this;
    const context = { policy: run.policy, reference: this.reference, rewards: this.rewards, config, signal: run.signal };
    const before = this.rewards.map((r) => r.memory?.state);
    try {
      this.rollout = await run.withRows(config.rolloutCompletions / config.numGenerations, (rows: Row[]) =>
        drawRollout(context, rows, this.rolloutsDrawn, this.stepsPerRollout > 1, {
          step: run.step,
          totalSteps: run.totalSteps,
          epoch: run.epoch,
        }),
      );
    } catch (error) {
      this.rewards.forEach(({ memory }, i) => memory && (memory.state = before[i])); // it will be drawn again
      throw error;
    }
    ++this.rolloutsDrawn;
    return this.rollout;
  }

  private async makeStep(): Promise<GRPOStep> {
    const { run, config } = this;
    const begin = performance.now();
    const rollout = await this.ensureRollout();
    const fresh = rollout.used === 0;
    const chosen = minibatch(rollout, config);
    const learningRate = learningRateAt(config, run.step, run.totalSteps);
    const loss = stepLoss(config, trainedTokens(rollout, chosen, config), chosen.length);
    const trained = await run.update(toBatch(rollout, chosen, config), loss, learningRate);
    if (++rollout.used === this.stepsPerRollout) this.rollout = undefined;
    const phases = fresh ? rollout.seconds : { generate: 0, reward: 0, score: 0 };
    const seconds = { ...phases, ...trained.seconds, total: (performance.now() - begin) / 1000 };
    const step = run.step + 1;
    const metrics = stepMetrics({ step, epoch: run.epoch, rollout, chosen, rewards: this.rewards, trained, learningRate, seconds, config });
    return { step, metrics, samples: [...chosen].map((i) => sampleOf(rollout, i, config.numGenerations)) };
  }
}

function sampleOf(rollout: Rollout, i: number, numGenerations: number): GRPOStep['samples'][number] {
  const prompt = rollout.prompts[Math.floor(i / numGenerations)]!;
  const completion = rollout.completions[i]!;
  return {
    prompt: typeof prompt === 'string' ? prompt : prompt.map((m) => `${m.role}: ${m.content}`).join('\n'),
    completion: completion.text,
    reward: rollout.rewards[i]!,
    advantage: rollout.advantages[i]!,
    finishReason: completion.finishReason,
  };
}
