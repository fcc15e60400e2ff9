// The rewards of single completions, group by group: what GRPO compares. One strip for each prompt, one dot for each completion.
import type { RewardGroup } from '../trainer/types.js';
import { cut, escape } from './html.js';
import { brief, extent, format, mean, niceRange, spread, ticks } from './numbers.js';
import type { ReportSamples } from './types.js';

const ROW = 20;
const WIDTH = 560;
const LEFT = 170;
const RIGHT = 16;
const BOTTOM = 24;
const SHOWN_STEPS = 8;
const LABEL_LENGTH = 26;

const known = (group: RewardGroup): number[] => group.rewards.filter((r): r is number => typeof r === 'number' && Number.isFinite(r));
const trim = (value: number): string => String(Math.round(value * 10) / 10);

function strip(group: RewardGroup, y: number, px: (v: number) => number): string {
  const rewards = known(group);
  const equal = rewards.every((r) => r === rewards[0]);
  const dots = rewards.map((r) => `<circle class="dot${equal ? ' flat' : ''}" cx="${trim(px(r))}" cy="${y}" r="4"/>`).join('');
  const middle = rewards.length > 0 ? `<path class="mean" d="M${trim(px(mean(rewards)))} ${y - 7}v14"/>` : '';
  const label = cut(group.prompt.replace(/\s+/g, ' '), 200);
  const short = label.length > LABEL_LENGTH ? `${label.slice(0, LABEL_LENGTH)}…` : label;
  const told = `${label}: ${rewards.map(format).join(', ') || 'no rewards'}`;
  return `<g><title>${escape(told)}</title><text class="tick" text-anchor="end" x="${LEFT - 10}" y="${y + 4}">${escape(short)}</text><line class="grid" x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${y}" y2="${y}"/>${middle}${dots}</g>`;
}

/** One step's groups; all steps have the same scale. */
function figure({ step, groups = [] }: ReportSamples, range: [number, number]): string {
  const height = groups.length * ROW + BOTTOM + 8;
  const px = (v: number) => LEFT + ((v - range[0]) / (range[1] - range[0])) * (WIDTH - LEFT - RIGHT);
  const rows = groups.map((group, i) => strip(group, 12 + i * ROW, px)).join('');
  const axis = ticks(range[0], range[1], 5)
    .map((v) => `<text class="tick" text-anchor="middle" x="${trim(px(v))}" y="${height - 6}">${escape(format(v))}</text>`)
    .join('');
  const flat = groups.filter((g) => new Set(known(g)).size <= 1).length;
  const all = brief(mean(groups.flatMap(known)));
  const note = `mean ${all}; ${flat} of ${groups.length} groups without a difference`;
  return `<figure data-groups="${step}"><figcaption><b>Step ${step}</b><small>${escape(note)}</small></figcaption><svg viewBox="0 0 ${WIDTH} ${height}" role="img" aria-label="Rewards by group at step ${step}">${rows}${axis}</svg></figure>`;
}

/** The section of rewards by group; empty where no step has any. */
export function groupsHtml(records: readonly ReportSamples[]): string {
  const there = records.filter((r) => (r.groups ?? []).some((g) => known(g).length > 0));
  if (there.length === 0) return '';
  const range = niceRange(extent(there.flatMap((r) => r.groups!.flatMap(known))), false);
  const figures = spread(there, SHOWN_STEPS).map((r) => figure(r, range));
  const more =
    figures.length > 2
      ? `<details><summary>${figures.length - 2} steps between</summary><div class="charts">${figures.slice(1, -1).join('')}</div></details>`
      : '';
  const ends = figures.length > 1 ? [figures[0]!, figures.at(-1)!] : figures;
  return `<section><h2>Rewards by group</h2><p class="sub">Each line is a prompt, each dot one of its completions, the bar their mean. Dots in one place teach nothing.</p><div class="charts">${ends.join('')}</div>${more}</section>`;
}
