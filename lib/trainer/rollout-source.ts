// Where a GRPO run's rollouts come from: sampling (dynamic, or ahead of training), the reference and its renewal, and their part in checkpoints.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { baseOption } from '../engine/adapter-folder.js';
import { Policy } from '../engine/policy.js';
import type { TrainerCheckpoint } from './checkpoint.js';
import type { ResolvedGRPOConfig } from './config.js';
import type { Critic } from './critic.js';
import type { Ranks } from '../distributed/ranks.js';
import { addReports, type RolloutReport } from '../rollouts/stats.js';
import { sampleInformative } from './dynamic-sampling.js';
import { memoryOf, setMemory, type NamedReward } from './rewards.js';
import { decodeRollout, encodeRollout } from './rollout-state.js';
import { finishRollout, sampleGroups, withoutAdapter, type Place, type Rollout, type RolloutContext } from './rollout.js';
import type { Run } from './run.js';
import type { ExternalSampler } from './sampler.js';
import type { Version } from './weight-sync.js';

export interface RolloutSourceOptions {
  run: Run;
  config: ResolvedGRPOConfig;
  rewards: NamedReward[];
  model: string | Policy;
  refModel?: string | Policy;
  critic?: Critic;
  /** Completions come from elsewhere. */
  external?: ExternalSampler;
  /** Optimizer steps on each rollout. */
  stepsPerRollout: number;
}

/** A rollout drawn beside training: by a copy of the policy as it was at `at`. Without `promise`: still to be started. */
interface Ahead {
  sampler: Policy;
  at: Version;
  promise?: Promise<Rollout>;
  done?: Rollout;
}

/** What all ranks' calls have reported of the servers. */
async function reportOf(ranks: Ranks, external: ExternalSampler): Promise<RolloutReport | undefined> {
  const reports = (await ranks.gather(external.takeReport())).filter((r) => r !== undefined);
  return reports.length ? addReports(reports, true) : undefined;
}

export class RolloutSource {
  private rollout?: Rollout;
  private drawn = 0;
  /** None without a KL, and none for a policy with an adapter, whose base it then is (unless another is given, or synced). */
  private reference?: Policy;
  /** The step at which the reference last became the policy; 0: never. */
  private syncedAt = 0;
  private ahead?: Ahead;
  /** What reward functions remembered before a rollout that is still being drawn. */
  private memoryBefore?: unknown[];

  constructor(private readonly options: RolloutSourceOptions) {}

  /** The rollout of the next step: the one in use, or a new one. */
  async next(): Promise<Rollout> {
    await this.resumeAhead();
    await this.syncReference();
    if (this.rollout) return this.rollout;
    this.rollout = await this.take();
    const { run, config, stepsPerRollout } = this.options;
    if (config.generateAhead && run.step + stepsPerRollout < run.totalSteps) {
      const at = run.version;
      await this.startAhead((this.ahead = { sampler: await run.policy.clone(), at }));
    }
    return this.rollout;
  }

  /** A step has been made on the rollout in use. */
  used(): void {
    if (this.rollout && ++this.rollout.used === this.options.stepsPerRollout) this.rollout = undefined;
  }

  state(): Partial<TrainerCheckpoint> {
    const { rollout, ahead, drawn: rolloutsDrawn, syncedAt } = this;
    return {
      rolloutsDrawn,
      rollout: rollout && encodeRollout(rollout),
      ahead: ahead?.done && encodeRollout(ahead.done),
      aheadPending: ahead !== undefined && ahead.done === undefined,
      aheadAt: ahead?.at,
      synced: this.options.external?.weights?.state,
      syncedAt,
      rewards: this.memoryBefore ?? memoryOf(this.options.rewards),
    };
  }

  /** Until nothing is being drawn beside training. */
  async settled(): Promise<void> {
    await this.ahead?.promise?.catch(() => undefined);
  }

  /** Another loop begins: what was being drawn when the last one ended, and came to nothing, is drawn again. */
  async again(): Promise<void> {
    const { ahead } = this;
    await ahead?.promise?.catch(() => (ahead.promise = undefined));
  }

  /** The rollout that is drawn ahead, to its end: what comes after must not change what it is drawn by. */
  async finishAhead(): Promise<void> {
    await this.resumeAhead();
    if (this.ahead) await this.drawnAhead(this.ahead);
  }

  /** In a resumed run: with the reference as it was. */
  private async resumeAhead(): Promise<void> {
    this.reference ??= await this.loadReference(); // before the first step: a Policy passed in is still untouched
    if (this.ahead) await this.startAhead(this.ahead);
  }

  /** Weights that a checkpoint needs besides the policy's. */
  async save(folder: string): Promise<void> {
    if (this.syncedAt > 0) await this.reference?.save(join(folder, 'reference'));
    await this.ahead?.sampler.save(join(folder, 'sampler'));
    const next = this.ahead && !this.ahead.done ? this.ahead.at : this.options.run.version;
    this.options.external?.weights?.save(folder, next);
  }

  async restore(state: TrainerCheckpoint, checkpoint: string): Promise<void> {
    this.drawn = state.rolloutsDrawn!;
    this.rollout = state.rollout ? decodeRollout(state.rollout) : undefined;
    this.syncedAt = state.syncedAt ?? 0;
    setMemory(this.options.rewards, state.rewards);
    const load = (name: string) => {
      const folder = join(checkpoint, 'trainer', name);
      return existsSync(folder) ? this.load(folder) : undefined;
    };
    if (this.syncedAt > 0) this.reference = await load('reference');
    await this.options.external?.weights?.restore(state.synced, join(checkpoint, 'trainer'));
    const sampler = state.ahead || state.aheadPending ? await load('sampler') : undefined;
    if (!sampler) return;
    const done = state.ahead ? decodeRollout(state.ahead) : undefined;
    this.ahead = { sampler, at: state.aheadAt ?? this.options.run.version, done, promise: done && Promise.resolve(done) };
  }

  dispose(): void {
    if (this.reference !== this.options.refModel) this.reference?.dispose();
    this.ahead?.sampler.dispose();
    this.options.external?.weights?.dispose();
    this.reference = this.ahead = undefined;
  }

  private async load(folder: string): Promise<Policy> {
    const { config, model, run } = this.options;
    const { device, dtype } = config;
    const base = typeof model === 'string' ? await baseOption(folder, model) : {};
    return Policy.load(folder, { device, dtype, ...base, signal: run.signal });
  }

  private async loadReference(): Promise<Policy | undefined> {
    const { refModel, model, config, run } = this.options;
    if (config.beta === 0 || (refModel === undefined && run.policy.adapter)) return undefined;
    if (refModel instanceof Policy) return refModel;
    const folder = refModel ?? (typeof model === 'string' ? model : undefined);
    return folder === undefined ? (model as Policy).clone() : this.load(folder);
  }

  /** Iterative GRPO (DeepSeekMath, arXiv:2402.03300, algorithm 1): reference := policy. */
  private async syncReference(): Promise<void> {
    const { run, config, refModel } = this.options;
    const every = config.refModelSyncSteps;
    if (every === 0 || run.step === 0 || run.step % every !== 0 || this.syncedAt === run.step) return;
    await this.settled(); // it is being scored by the old one
    const old = this.reference;
    this.reference = await run.policy.clone();
    this.syncedAt = run.step;
    if (old !== refModel) old?.dispose();
  }

  private async startAhead(ahead: Ahead): Promise<void> {
    if (ahead.promise) return;
    await this.handOver(ahead.sampler, ahead.at); // not beside training: a checkpoint has the weights handed over last
    ahead.promise = this.draw(ahead.sampler, true, ahead.at).then((rollout) => (ahead.done = rollout));
    ahead.promise.catch(() => undefined); // told when it is taken
  }

  private async handOver(policy: Policy, at: Version): Promise<void> {
    const { external, run } = this.options;
    await external?.weights?.bringTogether(run.ranks, policy, at, run.signal);
  }

  private async take(): Promise<Rollout> {
    const { ahead } = this;
    if (!ahead) {
      const { run, stepsPerRollout } = this.options;
      await this.handOver(run.policy, run.version);
      return this.draw(run.policy, stepsPerRollout > 1, run.version);
    }
    const rollout = await this.drawnAhead(ahead);
    ahead.sampler.dispose();
    this.ahead = undefined;
    return rollout;
  }

  private async drawnAhead(ahead: Ahead): Promise<Rollout> {
    try {
      return await ahead.promise!;
    } catch (error) {
      ahead.promise = undefined; // the sampler stays, for another try
      throw error;
    }
  }

  private async draw(policy: Policy, keepOld: boolean, at: Version): Promise<Rollout> {
    const { run, config, rewards, external } = this.options;
    const base = config.beta > 0 && run.policy.adapter ? withoutAdapter(run.policy) : undefined;
    const context: RolloutContext = {
      policy,
      reference: this.reference ?? base,
      rewards,
      config,
      critic: this.options.critic,
      external,
      ranks: await run.channel(config.generateAhead ? 'rollouts' : undefined),
      signal: run.signal,
    };
    const state = { step: at.step, totalSteps: run.totalSteps, epoch: run.epoch };
    const place: Place = { index: this.drawn, state, policyVersion: at.policyVersion };
    const want = config.rolloutCompletions / config.numGenerations;
    this.memoryBefore = memoryOf(rewards);
    const drawn = run.withRows(async (take) => {
      if (!config.dynamicSampling) {
        const rows = await take(want);
        const { epoch } = run; // before another rollout's rows are taken
        return { ...(await finishRollout(context, await sampleGroups(context, rows, place, 0), this.drawn, keepOld)), epoch };
      }
      const { groups, groupsSampled } = await sampleInformative(context, want, take, place);
      const { epoch } = run;
      return { ...(await finishRollout(context, groups, this.drawn, keepOld)), groupsSampled, epoch };
    });
    try {
      const rollout = await drawn;
      ++this.drawn;
      rollout.policyVersion = at.policyVersion;
      const report = external && (await reportOf(context.ranks!, external));
      return report ? { ...rollout, report } : rollout;
    } catch (error) {
      setMemory(rewards, this.memoryBefore); // it will be drawn again
      throw error;
    } finally {
      this.memoryBefore = undefined;
    }
  }
}
