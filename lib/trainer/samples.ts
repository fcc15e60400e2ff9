// Which completions of a step are kept in samples.jsonl, for the report.
import type { ChatMessage } from '../engine/chat.js';
import type { Rollout } from './rollout.js';
import type { LoggedSamples } from './run-folder.js';
import type { GRPOStep, RewardGroup, Sample } from './types.js';

const promptText = (prompt: string | ChatMessage[]): string =>
  typeof prompt === 'string' ? prompt : prompt.map((m) => `${m.role}: ${m.content}`).join('\n');

/** Completion `i` of a rollout as a step hands it out. */
export function sampleOf(rollout: Rollout, i: number, numGenerations: number): Sample {
  const completion = rollout.completions[i]!;
  return {
    prompt: promptText(rollout.prompts[Math.floor(i / numGenerations)]!),
    completion: completion.text,
    reward: rollout.rewards[i]!,
    advantage: rollout.advantages[i]!,
    finishReason: completion.finishReason,
  };
}

/**
 * The few samples of a step that are kept on disk: the best, the worst, two between, and the best of each prompt that is followed through
 * the run.
 */
export function stepSamples(samples: Sample[], followed: ReadonlySet<string> = new Set(), keep = 4): Sample[] {
  const ranked = [...samples].sort((a, b) => b.reward - a.reward);
  const picked =
    samples.length <= keep ? ranked : Array.from({ length: keep }, (_, k) => ranked[Math.round((k * (ranked.length - 1)) / (keep - 1))]!);
  const best = [...followed].map((prompt) => ranked.find((s) => s.prompt === prompt));
  return [...new Set([...picked, ...best.filter((s) => s !== undefined)])];
}

const MAX_GROUPS = 16;
const PROMPT_LENGTH = 80;

/** The rewards of a rollout's first groups; the numGenerations rewards of a prompt lie side by side. */
export function rewardGroups(prompts: readonly string[], rewards: ArrayLike<number>, numGenerations: number): RewardGroup[] {
  return prompts.slice(0, MAX_GROUPS).map((prompt, g) => ({
    prompt: prompt.length > PROMPT_LENGTH ? prompt.slice(0, PROMPT_LENGTH) + '…' : prompt,
    rewards: Array.from({ length: numGenerations }, (_, i) => {
      const reward = rewards[g * numGenerations + i]!;
      return Number.isNaN(reward) ? null : Number(reward.toPrecision(6));
    }),
  }));
}

const MAX_EXTRA_LINES = 50;
const FOLLOWED_PROMPTS = 2;

/** Makes the lines of samples.jsonl: the first prompts of the run are followed, and kept whenever they come again. */
export class SampleLog {
  private followed?: ReadonlySet<string>;
  private extraLines = 0;

  get state(): unknown {
    return { followed: this.followed && [...this.followed], extraLines: this.extraLines };
  }
  set state(value: unknown) {
    const { followed, extraLines = 0 } = (value ?? {}) as { followed?: string[]; extraLines?: number };
    this.followed = followed && new Set(followed);
    this.extraLines = extraLines;
  }

  /** `always`: the line is worth keeping where others are thinned out. A followed prompt that comes all the time must not undo that. */
  lineOf({ step, samples }: GRPOStep, rollout: Rollout, numGenerations: number): { line: LoggedSamples; always: boolean } {
    const always = this.extraLines < MAX_EXTRA_LINES && samples.some((s) => this.followed?.has(s.prompt));
    if (always) ++this.extraLines;
    this.followed ??= new Set([...new Set(samples.map((s) => s.prompt))].slice(0, FOLLOWED_PROMPTS));
    const groups = rewardGroups(rollout.prompts.map(promptText), rollout.rewards, numGenerations);
    return { line: { step, samples: stepSamples(samples, this.followed), groups }, always };
  }
}
