// Weights for whatever samples elsewhere: a folder in Hugging Face layout and the user's hook.
import { cpSync, existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type { Policy } from '../engine/policy.js';
import { invalidType, invalidValue, rejectUnknown } from '../errors.js';
import { callWithRetries } from './calls.js';
import type { ResolvedGRPOConfig } from './config.js';
import type { Ranks } from '../distributed/ranks.js';
import { makeFolder, writeFolderAtomic } from './files.js';
import type { SyncWeights } from './rollout-function.js';
import { staleAnyway } from './schedule.js';

/** Which of a run's weights. */
export interface Version {
  /** Steps of the run. */
  step: number;
  /** Optimizer steps that the weights have seen. */
  policyVersion: number;
}

const IN_CHECKPOINT = 'synced';

async function saveWhole(policy: Policy, folder: string): Promise<void> {
  if (!policy.adapter) return policy.save(folder);
  const merged = await policy.clone();
  try {
    await merged.mergeAdapter();
    await merged.save(folder);
  } finally {
    merged.dispose();
  }
}

/** What maxStaleness leaves of `every`. */
const mostEvery = (config: ResolvedGRPOConfig): number =>
  config.maxStaleness === undefined ? Infinity : config.maxStaleness - staleAnyway(config) + 1;

export class WeightSync {
  private readonly every: number;
  private readonly hook: SyncWeights['hook'];
  private place?: string;
  private temporary?: string;
  /** What was handed over last, in this process or the one that wrote the checkpoint. */
  private last?: Version;
  /** In this process. */
  private handedOver = false;
  /** Of the process that handed them over. */
  private lastFolder?: string;

  constructor(
    options: SyncWeights,
    private readonly config: ResolvedGRPOConfig,
  ) {
    if (options === null || typeof options !== 'object') throw invalidType('syncWeights', '{ hook, every?, folder? }', options);
    rejectUnknown('syncWeights', options, ['every', 'folder', 'hook']);
    const { every = 1, folder, hook } = options;
    if (typeof hook !== 'function') throw invalidType('syncWeights.hook', 'a function', hook);
    if (!Number.isInteger(every) || every < 1) throw invalidValue('syncWeights.every', 'a positive integer', every);
    if (folder !== undefined && (typeof folder !== 'string' || folder === ''))
      throw invalidType('syncWeights.folder', 'the path of a folder', folder);
    this.every = Math.min(every, mostEvery(config));
    this.hook = hook;
    if (folder !== undefined) this.place = resolve(folder);
    else if (config.outputDir !== undefined) this.place = resolve(config.outputDir, 'weights');
  }

  /** The version that was handed over last. */
  get version(): number | undefined {
    return this.last?.policyVersion;
  }

  /** Where it lies. */
  get where(): string | undefined {
    return this.lastFolder;
  }

  get state(): Version | undefined {
    return this.last;
  }

  /** Optimizer steps between the last time and these weights are too few. */
  private early({ policyVersion }: Version): boolean {
    if (this.last === undefined) return false;
    const made = policyVersion - this.last.policyVersion;
    return made > 0 && made < this.every;
  }

  /**
   * Before a rollout (or an evaluation, which always wants these very weights): hands them over when it is time. In a resumed run the first
   * rollout may still be due to the weights that the interrupted one had handed over; they are then handed over again.
   */
  async bring(policy: Policy, at: Version, signal: AbortSignal | undefined, always = false): Promise<void> {
    const early = !always && this.early(at);
    if (this.handedOver && (early || this.last!.policyVersion === at.policyVersion)) return;
    if (!early) {
      makeFolder(resolve(this.folder, '..'));
      await writeFolderAtomic(this.folder, (part) => saveWhole(policy, part));
      this.last = at;
      this.handedOver = false; // until the hook has returned
    }
    const given = { folder: this.folder, ...this.last! };
    await callWithRetries('The hook of syncWeights', (own) => this.hook({ ...given, signal: own }), {
      ...{ timeout: this.config.rolloutTimeout, timeoutName: 'rolloutTimeout', code: 'ERR_ROLLOUT', signal },
    });
    this.handedOver = true;
  }

  /** The same for all ranks: the first one hands the weights over, the others wait. */
  async bringTogether(ranks: Ranks, policy: Policy, at: Version, signal: AbortSignal | undefined, always = false): Promise<void> {
    if (ranks.rank === 0) await this.bring(policy, at, signal, always);
    const mine = ranks.rank === 0 ? { last: this.last, folder: this.folder } : undefined;
    ({ last: this.last, folder: this.lastFolder } = (await ranks.fromFirst(mine))!);
  }

  /** The weights handed over last belong to a checkpoint when the next rollout, of the policy `next`, is drawn by them still. */
  save(checkpoint: string, next: Version): void {
    if (!this.early(next) || !existsSync(this.folder)) return; // somebody removed it: that must not cost the checkpoint
    cpSync(this.folder, join(checkpoint, IN_CHECKPOINT), { recursive: true });
  }

  async restore(state: Version | undefined, checkpoint: string): Promise<void> {
    this.last = state;
    const kept = join(checkpoint, IN_CHECKPOINT);
    if (!existsSync(kept)) return void (this.last = undefined);
    makeFolder(resolve(this.folder, '..'));
    await writeFolderAtomic(this.folder, async (part) => cpSync(kept, part, { recursive: true }));
  }

  dispose(): void {
    if (this.temporary !== undefined) rmSync(this.temporary, { recursive: true, force: true });
    this.temporary = undefined;
  }

  private get folder(): string {
    if (this.place !== undefined) return this.place;
    this.temporary ??= mkdtempSync(join(tmpdir(), 'fused-grpo-weights-'));
    return join(this.temporary, 'weights');
  }
}
