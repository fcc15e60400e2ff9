// What looks wrong with a run, in plain words and with what to do about it: for the report, and as lines while it trains.
import { brief, ends, extent, format, mean, median, percent, toNumber } from './numbers.js';
import type { ReportStep } from './types.js';

/** What the rules look at; a long run must not keep more of its steps than this. */
interface Seen {
  step: number;
  loss: unknown;
  gradNorm: unknown;
  zeroStd: number;
  truncated: number;
  entropy: number;
  kl: number;
  clipped: number;
  reward: number;
  rewardStd: number;
  requests: number;
  retries: number;
  samplerKl: number;
  staleness: number;
}

interface Scene {
  steps: readonly Seen[];
  /** The last of them: a tenth, at most 20. */
  recent: readonly Seen[];
  /** 'By the end', or 'Lately' while it trains. */
  when: string;
}

type Rule = (scene: Scene) => string | false;

const seen = (s: ReportStep): Seen => ({
  step: s.step,
  loss: s.loss,
  gradNorm: s.gradNorm,
  zeroStd: toNumber(s.fracRewardZeroStd),
  truncated: toNumber(s.truncated),
  entropy: toNumber(s.entropy),
  kl: toNumber(s.kl),
  clipped: toNumber(s.clipRatio?.region),
  reward: toNumber(s.reward),
  rewardStd: toNumber(s.rewardStd),
  requests: toNumber(s.rollout?.requests),
  retries: toNumber(s.rollout?.retries),
  samplerKl: toNumber(s.samplerKl),
  staleness: toNumber(s.staleness?.max),
});

const over = (steps: readonly Seen[], pick: (s: Seen) => number): number => mean(steps.map(pick));
const broken = (value: unknown): boolean => value !== undefined && !Number.isFinite(value); // null: it was there and not a number

const notFinite: Rule = ({ steps }) =>
  steps.some((s) => broken(s.loss) || broken(s.gradNorm)) &&
  'Some steps had a loss or gradient that was not a number. Lower the learning rate, or look for infinite logits or rewards.';

const nothingToLearn: Rule = ({ steps }) =>
  over(steps, (s) => s.zeroStd) >= 0.99 &&
  'All groups have equal rewards: there was nothing to learn. Use prompts of another difficulty, or a reward that tells better from worse.';

const littleLeft: Rule = ({ steps, recent, when }) => {
  const now = over(recent, (s) => s.zeroStd);
  return (
    now >= 0.8 &&
    over(steps, (s) => s.zeroStd) < 0.99 &&
    `${when} ${percent(now)} of the groups had equal rewards: there is little left to learn from these prompts. Use harder ones if most are solved, easier ones if most fail, or a larger numGenerations.`
  );
};

const cutOff: Rule = ({ recent, when }) => {
  const share = over(recent, (s) => s.truncated);
  return (
    share > 0.3 &&
    `${when} ${percent(share)} of the completions were cut at the length limit. Raise maxCompletionLength, or reward shorter answers.`
  );
};

const collapsed: Rule = ({ steps, recent }) => {
  const [first] = ends(steps, (s) => s.entropy);
  const now = over(recent, (s) => s.entropy);
  return (
    steps.length > 10 &&
    now < 0.02 &&
    now < first / 10 &&
    'The entropy has collapsed: the policy has become almost deterministic, and samples of a group hardly differ any more.'
  );
};

const farAway: Rule = ({ recent }) => {
  const kl = over(recent, (s) => s.kl);
  return (
    kl > 1 &&
    `The policy has moved far from the reference (${format(kl)} nats per token). Raise beta or lower the learning rate if its language suffers.`
  );
};

const clipped: Rule = ({ recent }) => {
  const share = over(recent, (s) => s.clipped);
  return (
    share > 0.3 &&
    `The clip stops the ratio of ${percent(share)} of the tokens: the steps are too large for it. Lower the learning rate or numIterations.`
  );
};

/** More than chance: the last tenth against the first, by four standard errors of the difference as the steps' own scatter says. */
const fell: Rule = ({ steps }) => {
  const n = Math.min(20, Math.floor(steps.length / 10));
  if (n < 4) return false;
  const [first, last] = [steps.slice(0, n), steps.slice(-n)].map((part) => part.map((s) => toNumber(s.reward)));
  const [a, b] = [mean(first!), mean(last!)];
  const squares = (values: number[], m: number) => values.reduce((sum, v) => sum + (v - m) ** 2, 0) / (n - 1);
  const error = Math.sqrt((squares(first!, a) + squares(last!, b)) / n);
  const spread = over(steps, (s) => s.rewardStd) || 0;
  return b < a - Math.max(4 * error, 0.1 * spread, 1e-6) && `The reward fell from ${brief(a)} to ${brief(b)}.`;
};

/** Steps that a tenth of a run means; a reward that has not moved over five of them is stuck. */
const stuck: Rule = ({ steps, recent }) => {
  if (steps.length < 50 || over(recent, (s) => s.zeroStd) >= 0.8) return false;
  const spread = over(steps, (s) => s.rewardStd);
  const fifth = Math.floor(steps.length / 5);
  const [low, high] = extent(Array.from({ length: 5 }, (_, i) => over(steps.slice(i * fifth, (i + 1) * fifth), (s) => s.reward)));
  return (
    spread > 0 &&
    high - low < 0.1 * spread &&
    `The reward is stuck: between ${brief(low)} and ${brief(high)} for ${steps.length} steps. Raise the learning rate, or use easier prompts or a reward that gives partial credit.`
  );
};

const spikes: Rule = ({ steps }) => {
  if (steps.length < 20) return false;
  const usual = median(steps.map((s) => toNumber(s.gradNorm)));
  const high = steps.filter((s) => toNumber(s.gradNorm) > 10 * usual);
  const worst = high.reduce<Seen | undefined>((a, s) => (a && toNumber(a.gradNorm) >= toNumber(s.gradNorm) ? a : s), undefined);
  return (
    worst !== undefined &&
    usual > 0 &&
    `The gradient norm has spikes: ${high.length} of ${steps.length} steps above ten times the usual (step ${worst.step}: ${brief(toNumber(worst.gradNorm))}, usual ${brief(usual)}). Clipping (maxGradNorm) bounds the harm; a lower learning rate or a longer warm-up avoids it.`
  );
};

/** Among the recent steps that drew a rollout. */
const shaky: Rule = ({ recent, when }) => {
  const drawn = recent.filter((s) => Number.isFinite(s.requests));
  const sum = (pick: (s: Seen) => number) => drawn.reduce((n, s) => n + pick(s), 0);
  const share = sum((s) => s.retries) / sum((s) => s.requests);
  return (
    share > 0.1 &&
    `${when} ${percent(share)} of the requests to the servers were second attempts. The servers' logs say why; a longer requestTimeout or a smaller maxConcurrency helps where they are overloaded.`
  );
};

/** Of samples that should be the policy's own. */
const otherWeights: Rule = ({ recent, when }) => {
  const fresh = recent.filter((s) => s.staleness <= 1);
  const kl = over(fresh, (s) => s.samplerKl);
  return (
    kl > 0.1 &&
    `${when} what sampled was ${format(kl)} nats per token away from the policy, though its weights should be the same. Did it load them (all of them)? Are its log-probs at \`temperature\`? See docs/rollouts.md.`
  );
};

const RULES: readonly Rule[] = [
  notFinite,
  nothingToLearn,
  littleLeft,
  cutOff,
  collapsed,
  farAway,
  clipped,
  fell,
  stuck,
  spikes,
  shaky,
  otherWeights,
];

const lastOf = <T>(steps: readonly T[], least: number): readonly T[] =>
  steps.slice(-Math.max(least, Math.min(20, Math.floor(steps.length / 10))));

/** What a reader should know before trusting the curves. */
export function findings(all: readonly ReportStep[]): string[] {
  if (all.length === 0) return ['No step was finished: there is nothing to show yet.'];
  const steps = all.map(seen);
  const scene = { steps, recent: lastOf(steps, 1), when: 'By the end' };
  return RULES.map((rule) => rule(scene)).filter((text): text is string => typeof text === 'string');
}

const FIRST_LOOK = 10;

/** The same while a run trains: each warning is said once. The first steps say nothing, later ones are looked at less often. */
export class Watch {
  private readonly steps: Seen[] = [];
  private readonly said = new Set<Rule>();

  /** Steps of an earlier part of the run: what was to be said of them has been said. */
  recall(steps: readonly ReportStep[]): void {
    for (const step of steps) this.add(step);
  }

  /** Takes a step's metrics; returns what is to be said now. */
  add(step: ReportStep): string[] {
    this.steps.push(seen(step));
    const n = this.steps.length;
    if (n < FIRST_LOOK || n % Math.ceil(n / 50) !== 0) return [];
    const scene = { steps: this.steps, recent: lastOf(this.steps, FIRST_LOOK), when: 'Lately' };
    return RULES.flatMap((rule) => {
      const text = this.said.has(rule) ? false : rule(scene);
      if (text === false) return [];
      this.said.add(rule);
      return [text];
    });
  }
}
