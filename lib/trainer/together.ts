// The ranks of a run, from joining to leaving, and work of which each does its part.
import { alone, joinRanks, type Ranks } from '../distributed/ranks.js';
import { FusedGrpoError } from '../errors.js';
import type { ExchangeStatistics } from '../engine/addon.js';
import { isNonFinite } from './non-finite.js';
import type { RankMetrics } from './types.js';

/** Something that is not finite, found by another rank. */
export class Elsewhere extends FusedGrpoError {}

/** What has been exchanged since `before`. */
export function rankMetrics(ranks: Ranks, before: ExchangeStatistics): { ranks?: RankMetrics } {
  if (ranks.worldSize === 1) return {};
  const now = ranks.statistics();
  const { bytes, waiting, exchanging } = before;
  const since = { bytes: now.bytes - bytes, waiting: now.waiting - waiting, exchanging: now.exchanging - exchanging };
  return { ranks: { count: ranks.worldSize, ...since } };
}

let runs = 0;

export class Together {
  /** The processes that train together; `alone` before they have met and after they have parted. */
  ranks: Ranks = alone;
  /** This process writes files: one of several does. */
  writes = true;
  private readonly channels = new Map<string, Promise<Ranks>>();
  /** Runs of a process meet those of the others in the order in which they begin. */
  private number?: number;
  private joins = 0;
  private step = 0;

  constructor(
    private readonly timeout: number,
    private readonly signal: AbortSignal,
  ) {}

  /** Unless it has been done. */
  async join(): Promise<void> {
    if (this.ranks !== alone) return;
    this.number ??= runs++;
    const name = `run/${this.number}/${this.joins++}`;
    this.ranks = await joinRanks({ name, timeout: this.timeout, signal: this.signal });
    this.writes = this.ranks.rank === 0;
    this.ranks.setStep(this.step);
  }

  /** The ranks, for what goes on beside the steps; without a name: for the steps. */
  channel(name?: string): Promise<Ranks> {
    if (name === undefined) return Promise.resolve(this.ranks);
    const there = this.channels.get(name) ?? this.ranks.channel(name);
    this.channels.set(name, there);
    void this.tellStep(there);
    return there;
  }

  /** The step under way, for messages. */
  setStep(step: number): void {
    this.step = step;
    this.ranks.setStep(step);
    for (const channel of this.channels.values()) void this.tellStep(channel);
  }

  private tellStep(channel: Promise<Ranks>): Promise<void> {
    return channel.then(
      (ranks) => ranks.setStep(this.step),
      () => undefined, // whoever wants it learns why
    );
  }

  /** Leaves the other ranks; they are told `why` unless the run is over. */
  async part(why?: unknown): Promise<void> {
    const channels = await Promise.allSettled(this.channels.values());
    const all = [...channels.flatMap((c) => (c.status === 'fulfilled' ? [c.value] : [])), this.ranks];
    this.ranks = alone;
    this.channels.clear();
    const message = why instanceof Error ? why.message : String(why);
    if (why !== undefined) await Promise.all(all.map((ranks) => ranks.fail(message)));
    await Promise.allSettled(all.map((ranks) => ranks.leave()));
  }

  /**
   * Every rank's part of some work; what one found not finite is everybody's error (`undo` is called where the part itself went well).
   * Returns the results of all, in their order.
   */
  async jointly<R>(work: () => Promise<R>, undo: () => Promise<void>): Promise<R[]> {
    let own: FusedGrpoError | undefined;
    const result = await work().catch((error: unknown) => {
      if (!isNonFinite(error)) throw error; // the others learn of it when this run ends
      own = error;
      return undefined;
    });
    const all = await this.ranks.gather({ failed: own && { code: own.code, message: own.message }, result });
    if (own !== undefined) throw own;
    const other = all.findIndex((r) => r.failed);
    if (other < 0) return all.map((r) => r.result as R);
    await undo();
    throw new Elsewhere(all[other]!.failed!.code, `rank ${other}: ${all[other]!.failed!.message}`);
  }
}
