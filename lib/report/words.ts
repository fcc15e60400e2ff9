// A run told in plain words: the tiles at the top, one sentence, and what looks wrong.
import { brief, format, mean, percent, span, toNumber } from './numbers.js';
import type { BeforeAfter, ReportStep } from './types.js';

export interface Tile {
  label: string;
  value: string;
  detail?: string;
  mood?: 'good' | 'bad';
}

/** Mean over the first and the last steps: a tenth of the run, at least one step, at most 20. */
export function ends(steps: readonly ReportStep[], pick: (step: ReportStep) => unknown): [number, number] {
  const n = Math.max(1, Math.min(20, Math.floor(steps.length / 10)));
  const values = steps.map((s) => toNumber(pick(s)));
  return [mean(values.slice(0, n)), mean(values.slice(-n))];
}

const total = (steps: readonly ReportStep[], pick: (step: ReportStep) => unknown): number =>
  steps.reduce((sum, s) => sum + (toNumber(pick(s)) || 0), 0);

const change = ([a, b]: [number, number]): string => `${brief(a)} → ${brief(b)}`;

function rewardTile(steps: readonly ReportStep[]): Tile[] {
  const [a, b] = ends(steps, (s) => s.reward);
  if (!Number.isFinite(b)) return [];
  if (steps.length < 2) return [{ label: 'Mean reward', value: brief(b) }];
  const spread = mean(steps.map((s) => toNumber(s.rewardStd))) || 0;
  const moved = Math.abs(b - a) > Math.max(1e-9, 0.1 * spread);
  return [
    {
      label: 'Mean reward',
      value: change([a, b]),
      detail: moved ? (b > a ? 'it rose' : 'it fell') : 'hardly a change',
      mood: moved ? (b > a ? 'good' : 'bad') : undefined,
    },
  ];
}

function timeTile(steps: readonly ReportStep[]): Tile[] {
  const seconds = total(steps, (s) => s.seconds?.total);
  if (!seconds) return [];
  const sampling = total(steps, (s) => s.seconds?.generate) / seconds;
  return [
    {
      label: 'Time',
      value: span(seconds),
      detail: sampling > 0 ? `${percent(sampling)} of it sampling` : `${span(seconds / steps.length)} per step`,
    },
  ];
}

function speedTile(steps: readonly ReportStep[]): Tile[] {
  const tokens = total(steps, (s) => s.tokens);
  const seconds = total(steps, (s) => s.seconds?.total);
  return tokens && seconds
    ? [{ label: 'Speed', value: `${format(Math.round(tokens / seconds))} tok/s`, detail: `${brief(tokens)} tokens in all` }]
    : [];
}

function lossTile(steps: readonly ReportStep[]): Tile[] {
  const [a, b] = ends(steps, (s) => s.loss);
  // In GRPO the loss says nothing about progress: it is a tile only where there is no reward.
  if (!Number.isFinite(b) || steps.some((s) => toNumber(s.reward) === s.reward)) return [];
  return [{ label: 'Loss', value: steps.length < 2 ? format(b) : change([a, b]), mood: b < a ? 'good' : undefined }];
}

export function tilesOf(steps: readonly ReportStep[], beforeAfter?: BeforeAfter): Tile[] {
  const tiles: Tile[] = [];
  if (beforeAfter) {
    const { label, beforeScore, afterScore } = beforeAfter;
    tiles.push({
      label: label[0]!.toUpperCase() + label.slice(1),
      value: `${percent(beforeScore)} → ${percent(afterScore)}`,
      detail: 'before → after',
      mood: afterScore > beforeScore ? 'good' : 'bad',
    });
  }
  if (steps.length === 0) return tiles;
  const length = ends(steps, (s) => s.completionLength?.mean);
  const peak = steps.reduce((most, s) => Math.max(most, toNumber(s.peakMemoryBytes) || 0), 0);
  return [
    ...tiles,
    ...rewardTile(steps),
    ...lossTile(steps),
    { label: 'Steps', value: format(steps.length), detail: `${format(toNumber(steps.at(-1)!.epoch))} passes over the data` },
    ...timeTile(steps),
    ...speedTile(steps),
    ...(Number.isFinite(length[1])
      ? [
          {
            label: 'Completion length',
            value: steps.length < 2 ? format(length[1]) : change(length.map(Math.round) as [number, number]),
            detail: 'tokens',
          },
        ]
      : []),
    ...(peak ? [{ label: 'Memory', value: peak >= 1e9 ? `${format(peak / 1e9)} GB` : `${format(peak / 1e6)} MB`, detail: 'peak' }] : []),
  ];
}

type Finding = (steps: readonly ReportStep[], recent: readonly ReportStep[]) => string | false;
const recentMean = (steps: readonly ReportStep[], pick: (step: ReportStep) => unknown): number => mean(steps.map((s) => toNumber(pick(s))));
const seen = (value: unknown): boolean => value !== undefined; // null: it was there and not a number

const FINDINGS: readonly Finding[] = [
  (steps) =>
    steps.some((s) => (seen(s.loss) && !Number.isFinite(s.loss)) || (seen(s.gradNorm) && !Number.isFinite(s.gradNorm))) &&
    'Some steps had a loss or gradient that was not a number. Lower the learning rate, or look for infinite logits or rewards.',
  (steps) =>
    recentMean(steps, (s) => s.fracRewardZeroStd) >= 0.99 &&
    'All groups have equal rewards: there was nothing to learn. Use prompts of another difficulty, or a reward that tells better from worse.',
  (steps, recent) => {
    const now = recentMean(recent, (s) => s.fracRewardZeroStd);
    return (
      now >= 0.8 &&
      recentMean(steps, (s) => s.fracRewardZeroStd) < 0.99 &&
      `By the end ${percent(now)} of the groups had equal rewards: the model has little left to learn from these prompts.`
    );
  },
  (_, recent) =>
    recentMean(recent, (s) => s.truncated) > 0.3 &&
    `By the end ${percent(recentMean(recent, (s) => s.truncated))} of the completions were cut at the length limit. Raise maxCompletionLength, or reward shorter answers.`,
  (steps, recent) => {
    const [first] = ends(steps, (s) => s.entropy);
    const now = recentMean(recent, (s) => s.entropy);
    return (
      steps.length > 10 &&
      now < 0.02 &&
      now < first / 10 &&
      'The policy has become almost deterministic (entropy near 0): samples of a group hardly differ any more.'
    );
  },
  (_, recent) =>
    recentMean(recent, (s) => s.kl) > 1 &&
    `The policy has moved far from the reference (${format(recentMean(recent, (s) => s.kl))} nats per token). Raise beta or lower the learning rate if its language suffers.`,
  (_, recent) =>
    recentMean(recent, (s) => s.clipRatio?.region) > 0.3 &&
    'The clip stops more than 30 % of the tokens: the steps are too large for it. Lower the learning rate or numIterations.',
  (steps) => {
    const [a, b] = ends(steps, (s) => s.reward);
    return (
      steps.length >= 10 &&
      b < a - 0.25 * (recentMean(steps, (s) => s.rewardStd) || 0) - 1e-6 &&
      `The reward fell from ${brief(a)} to ${brief(b)}.`
    );
  },
];

/** What a reader should know before trusting the curves. */
export function findings(steps: readonly ReportStep[]): string[] {
  if (steps.length === 0) return ['No step was finished: there is nothing to show yet.'];
  const recent = steps.slice(-Math.max(1, Math.min(20, Math.floor(steps.length / 10))));
  return FINDINGS.map((f) => f(steps, recent)).filter((t): t is string => typeof t === 'string');
}
