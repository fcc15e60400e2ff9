// A run told in plain words: the tiles at the top. What looks wrong with it: warnings.ts.
import { brief, ends, format, mean, percent, span, toNumber } from './numbers.js';
import type { BeforeAfter, ReportStep } from './types.js';

export interface Tile {
  label: string;
  value: string;
  detail?: string;
  mood?: 'good' | 'bad';
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
