import type { RewardInput } from '../../lib/trainer/reward-types.js';

/** What a trainer would hand to a reward function. */
export function inputOf(completions: string[], columns: Record<string, unknown> = {}): RewardInput {
  return {
    prompts: completions.map(() => 'p'),
    completions,
    completionTokens: completions.map((text) => new Int32Array(text.length)),
    trainerState: { step: 0, totalSteps: 1, epoch: 0 },
    ...columns,
  };
}
