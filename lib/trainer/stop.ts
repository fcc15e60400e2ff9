// How a run is asked to stop: at once, or, where a checkpoint needs all ranks, together between two steps.
import { worldSize } from '../distributed/environment.js';
import type { Ranks } from '../distributed/ranks.js';
import { FusedGrpoError } from '../errors.js';

/** What the environment says; variables that make no sense are told when training begins. */
function severalRanks(): boolean {
  try {
    return worldSize() > 1;
  } catch {
    return false;
  }
}

export class Stop {
  /** Ends the work under way. */
  readonly signal: AbortSignal;
  /** All ranks stand at the same step. */
  agreed = false;
  private readonly controller = new AbortController();
  /** The user's, where it waits for the end of a step. */
  private readonly patient?: AbortSignal;
  private stepping = false;

  constructor(signal: AbortSignal | undefined, sharded: boolean) {
    if (signal && sharded && severalRanks()) {
      this.patient = signal;
      signal.addEventListener('abort', () => this.atOnce(), { once: true });
    }
    this.signal = signal && !this.patient ? AbortSignal.any([signal, this.controller.signal]) : this.controller.signal;
  }

  /** There is no step to wait for, or not everybody is there any more. */
  private atOnce(): void {
    const reason: unknown = this.patient!.reason;
    if (!this.stepping || (reason as { code?: unknown } | undefined)?.code === 'ERR_RANK_LOST') this.controller.abort(reason);
  }

  throwIfAborted(): void {
    this.signal.throwIfAborted();
    if (!this.stepping) this.patient?.throwIfAborted();
  }

  /** Steps are being made from here on. */
  begin(): void {
    this.agreed = false;
    this.stepping = true;
  }

  end(): void {
    this.stepping = false;
  }

  /** Between two steps: throws on all ranks when one of them was asked to stop. */
  async between(ranks: Ranks, step: number): Promise<void> {
    this.signal.throwIfAborted();
    if (!this.patient || ranks.worldSize === 1) return;
    const who = (await ranks.gather(this.patient.aborted)).indexOf(true);
    if (who < 0) return;
    this.agreed = true;
    this.patient.throwIfAborted();
    throw new FusedGrpoError('ERR_RANK_LOST', `Rank ${who} was interrupted after step ${step}`);
  }

  /** Ends it whatever the user says. */
  now(reason: Error): void {
    this.controller.abort(reason);
  }
}
