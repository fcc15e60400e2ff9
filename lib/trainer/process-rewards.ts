// Process supervision: reward functions that judge the steps of a completion instead of its whole.
import type { Policy } from '../engine/policy.js';
import { FusedGrpoError } from '../errors.js';

/**
 * One step of a completion. Where it ends: `lastToken` is the index, from 0, of its last token among the completion's tokens; `end` is the
 * number of characters of the completion's text up to and including the step. Exactly one of the two.
 */
export type StepReward =
  | {
      /** What the step is worth. */
      reward: number;
      /** The index of its last token among the completion's. */
      lastToken: number;
    }
  | {
      /** What the step is worth. */
      reward: number;
      /** Where its text ends, in characters of the completion. */
      end: number;
    };

/** What a reward function may return for a completion in place of a number: its steps in order, possibly none. */
export interface StepRewards {
  /** In order. */
  steps: StepReward[];
}

export const isStepRewards = (value: unknown): value is StepRewards =>
  value !== null && typeof value === 'object' && Array.isArray((value as { steps?: unknown }).steps);

/** The mean of the steps' rewards: what metrics, samples and dynamic sampling see. NaN without steps: nothing to say. */
export const meanStepReward = ({ steps }: StepRewards): number => steps.reduce((sum, { reward }) => sum + reward, 0) / steps.length;

/** Checks the steps that function `name` returned for completion `i`. */
export function checkSteps(name: string, i: number, { steps }: StepRewards): void {
  let before = -Infinity;
  let unit: 'lastToken' | 'end' | undefined;
  steps.forEach((step, k) => {
    const fail = (what: string): never => {
      throw new FusedGrpoError('ERR_REWARD', `Reward function '${name}', completion ${i}, step ${k}: ${what}`);
    };
    if (step === null || typeof step !== 'object') fail('expected { reward, lastToken } or { reward, end }');
    if (typeof step.reward !== 'number' || !Number.isFinite(step.reward))
      fail(`reward is ${String(step.reward)}; a finite number is needed`);
    const units = (['lastToken', 'end'] as const).filter((u) => (step as Record<string, unknown>)[u] !== undefined);
    if (units.length !== 1 || (unit !== undefined && unit !== units[0]))
      fail('either lastToken or end says where a step ends, the same for all steps');
    unit = units[0]!;
    const at = (step as Record<string, number>)[unit]!;
    if (!Number.isInteger(at) || at < 0) fail(`${unit} is ${String(at)}; a non-negative integer is needed`);
    if (at <= before) fail(`${unit} ${at} does not come after the step before, which ends at ${before}`);
    before = at;
  });
}

/** The token in which character `end` (exclusive) of the completion lies: the first after which the text is that long. */
function tokenAt(policy: Policy, tokens: Int32Array, end: number): number {
  let [low, high] = [0, tokens.length - 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (policy.decode(tokens.subarray(0, middle + 1)).length >= end) high = middle;
    else low = middle + 1;
  }
  return low;
}

/**
 * Index of each step's last token. Of steps that end in one token, the last one counts; a position behind the completion is an error.
 * @returns ends (ascending) and the reward of each
 */
export function stepEnds(
  name: string,
  i: number,
  { steps }: StepRewards,
  completion: { tokens: Int32Array; text: string },
  policy: Policy,
): { ends: number[]; rewards: number[] } {
  const { tokens, text } = completion;
  const found = new Map<number, number>();
  for (const step of steps) {
    const inText = 'end' in step;
    const [at, most] = inText ? [step.end, text.length] : [step.lastToken, tokens.length - 1];
    if (at > most)
      throw new FusedGrpoError(
        'ERR_REWARD',
        `Reward function '${name}', completion ${i}: a step ends at ${inText ? `character ${at} of ${most}` : `token ${at}; the last is ${most}`}`,
      );
    found.set(inText ? tokenAt(policy, tokens, at) : at, step.reward);
  }
  return { ends: [...found.keys()], rewards: [...found.values()] };
}
