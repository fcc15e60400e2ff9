// What all trainers show of their run.

/** A run that is trained by iterating: one step (`S`) for each turn of the loop. GRPOTrainer, PPOTrainer, SFTTrainer and RewardTrainer are. */
export abstract class Trainer<S> implements AsyncIterable<S> {
  /** @internal */
  protected abstract readonly run: { readonly step: number; readonly totalSteps: number; readonly savedStep: number; dispose(): void };

  /** Trains: one step for each turn of the loop. Leaving the loop saves; entering it again goes on. One loop at a time (ERR_TRAINING). */
  abstract [Symbol.asyncIterator](): AsyncGenerator<S, void, undefined>;

  /** Optimizer steps of the whole run; 0 until training has begun. */
  get totalSteps(): number {
    return this.run.totalSteps;
  }

  /** The step to come (0-based): also after resuming. */
  get currentStep(): number {
    return this.run.step;
  }

  /** The step of the newest checkpoint that this trainer wrote or continued from; 0: there is none. */
  get savedStep(): number {
    return Math.max(0, this.run.savedStep);
  }

  /** Trains to the end; returns the last step. */
  async train(): Promise<S | undefined> {
    let last: S | undefined;
    for await (const step of this) last = step;
    return last;
  }

  /** Frees what this trainer loaded: not a model that was passed in. */
  dispose(): void {
    this.run.dispose();
  }

  /** dispose(), for `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}
