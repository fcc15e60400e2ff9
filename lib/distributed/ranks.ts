// The processes of a run and what they tell each other.
import { deserialize, serialize } from 'node:v8';
import { settle } from '../engine/call.js';
import type { ExchangeStatistics, NativeCall, NativeGroup } from '../engine/addon.js';
import { engine } from '../native.js';
import { rankEnvironment, type RankEnvironment } from './environment.js';

/** All ranks make the same calls in the same order. Values are structured clones: plain data and typed arrays. */
export interface Ranks {
  readonly rank: number;
  readonly worldSize: number;
  /** For calls that add up gradients; undefined for a process alone. */
  readonly native?: NativeGroup;
  /** Every rank's value, in their order. */
  gather<T>(value: T): Promise<T[]>;
  /** Rank 0's value. */
  fromFirst<T>(value: T): Promise<T>;
  /** Waits for all. */
  meet(): Promise<void>;
  /** The same ranks, for calls that go on beside this one's. */
  channel(name: string): Promise<Ranks>;
  /** The step under way, for messages. */
  setStep(step: number): void;
  /** Tells the others why this rank ends; they end, too. */
  fail(message: string): Promise<void>;
  statistics(): ExchangeStatistics;
  leave(): Promise<void>;
}

/** A process that is the only one of its run. */
export const alone: Ranks = {
  rank: 0,
  worldSize: 1,
  gather: async (value) => [value],
  fromFirst: async (value) => value,
  meet: async () => undefined,
  channel: async () => alone,
  setStep: () => undefined,
  fail: async () => undefined,
  statistics: () => ({ bytes: 0, waiting: 0, exchanging: 0 }),
  leave: async () => undefined,
};

interface JoinOptions {
  /** Ranks of the same name meet; each name once. */
  name: string;
  /** Seconds without a sign of life after which a rank is missing. */
  timeout: number;
  signal?: AbortSignal;
  /** For tests: numbers on the CPU go by NCCL, too, or by what stands in for it. */
  ncclOnly?: boolean;
  /** Seconds after which whoever waits says for whom, again and again. Default 60. */
  patience?: number;
}

/** Groups whose others would miss this process. */
const joined = new Set<NativeGroup>();

/** A process that ends in the middle (process.exit, an error nobody caught) says so: silence takes the others longer. */
function sayFarewell(code: number): void {
  for (const native of joined) native.lastWords(`its process ended with exit code ${code}, before the run was over`);
}

class Joined implements Ranks {
  private constructor(
    readonly native: NativeGroup,
    private readonly environment: RankEnvironment,
    private readonly options: JoinOptions,
  ) {}

  static async join(environment: RankEnvironment, options: JoinOptions): Promise<Joined> {
    const native = new (engine().Group)();
    const { rank, worldSize, masterAddr: host, masterPort: port, attempt } = environment;
    const serve = rank === 0 && !environment.held;
    const timeout = Math.max(1, Math.round(options.timeout * 1000));
    const prefix = `fused-grpo/${attempt}/${options.name}`;
    await settle(
      () => native.join({ rank, worldSize, host, port, serve, prefix, timeout, ncclOnly: options.ncclOnly === true }),
      options.signal,
    );
    if (joined.size === 0) process.once('exit', sayFarewell);
    joined.add(native);
    return new Joined(native, environment, options);
  }

  get rank(): number {
    return this.environment.rank;
  }
  get worldSize(): number {
    return this.environment.worldSize;
  }

  async gather<T>(value: T): Promise<T[]> {
    const all = await this.patiently(() => this.native.gather(serialize(value)));
    return all.map((bytes) => deserialize(bytes) as T);
  }
  async fromFirst<T>(value: T): Promise<T> {
    const mine = this.rank === 0 ? serialize(value) : new Uint8Array();
    return deserialize(await this.patiently(() => this.native.fromFirst(mine))) as T;
  }
  meet(): Promise<void> {
    return this.patiently(() => this.native.meet());
  }
  /** A call that waits for the others, however long they take: now and then it says for whom. */
  private async patiently<T>(call: () => NativeCall<T>): Promise<T> {
    const { patience = 60 } = this.options;
    let waited = 0;
    const timer = setInterval(() => {
      waited += patience;
      const whom = this.native.awaited();
      if (whom) process.emitWarning(`rank ${this.rank} has waited ${waited} s for ${whom}, alive but not there yet`, 'FusedGrpoWarning');
    }, patience * 1000);
    timer.unref();
    return settle(call, this.options.signal).finally(() => clearInterval(timer));
  }
  channel(name: string): Promise<Ranks> {
    return Joined.join(this.environment, { ...this.options, name: `${this.options.name}/${name}` });
  }
  setStep(step: number): void {
    this.native.setStep(step);
  }
  fail(message: string): Promise<void> {
    return settle(() => this.native.fail(message)).catch(() => undefined);
  }
  statistics(): ExchangeStatistics {
    return this.native.statistics();
  }
  async leave(): Promise<void> {
    await settle(() => this.native.leave()).finally(() => joined.delete(this.native));
    if (joined.size === 0) process.off('exit', sayFarewell);
  }
}

/** Joins the other processes of the run, as the environment says; a process that is the only one gets `alone`. */
export async function joinRanks(options: JoinOptions): Promise<Ranks> {
  const environment = rankEnvironment();
  if (!environment) return alone;
  return Joined.join(environment, options);
}
