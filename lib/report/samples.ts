// Sample completions that are worth reading: the same prompt over time, early against late, best against worst.
import type { Sample } from '../trainer/types.js';
import { cut, escape } from './html.js';
import { brief } from './numbers.js';
import type { BeforeAfter, ReportSamples } from './types.js';

const TEXT_LIMIT = 1200;
const PROMPT_LIMIT = 400;
const BROWSE_STEPS = 24;

type Placed = Sample & { step: number };

/** Best first; samples without a reward last. */
const byReward = (a: Sample, b: Sample): number =>
  (Number.isFinite(b.reward) ? b.reward : -Infinity) - (Number.isFinite(a.reward) ? a.reward : -Infinity) || 0;

/** Green above the group's mean, red below it. */
function chip(sample: Sample): string {
  const mood = sample.advantage > 1e-9 ? 'good' : sample.advantage < -1e-9 ? 'bad' : '';
  return `<span class="chip ${mood}">reward ${escape(brief(sample.reward))}</span>`;
}

const cutOff = (s: Sample): string => (s.finishReason === 'length' ? '<em> ⟨cut at the length limit⟩</em>' : '');
const completionHtml = (s: Sample): string =>
  (s.completion === '' ? '<em>(nothing)</em>' : escape(cut(s.completion, TEXT_LIMIT))) + cutOff(s);

function card(sample: Sample, heading: string, withPrompt = true): string {
  const prompt = withPrompt ? `<span class="prompt">${escape(cut(sample.prompt, PROMPT_LIMIT))}</span>` : '';
  return `<div class="card"><header><span>${escape(heading)}</span>${chip(sample)}</header><div class="text">${prompt}${completionHtml(sample)}</div></div>`;
}

/** Up to `n` of the items, spread evenly, ends included. */
function spread<T>(items: readonly T[], n: number): T[] {
  if (items.length <= n) return [...items];
  return Array.from({ length: n }, (_, i) => items[Math.round((i * (items.length - 1)) / (n - 1))]!);
}

/** The prompt seen at most steps, with its best completion at each of them: how one answer changed. */
function samePrompt(records: readonly ReportSamples[]): string {
  const byPrompt = new Map<string, Placed[]>();
  for (const { step, samples } of records) {
    const best = new Map<string, Sample>();
    for (const s of [...samples].sort(byReward)) if (!best.has(s.prompt)) best.set(s.prompt, s);
    for (const [prompt, sample] of best) byPrompt.set(prompt, [...(byPrompt.get(prompt) ?? []), { ...sample, step }]);
  }
  const gain = (list: Placed[]) => list.length + (list.at(-1)!.reward > list[0]!.reward ? 0.5 : 0);
  const chosen = [...byPrompt.values()].filter((list) => list.length > 1).sort((a, b) => gain(b) - gain(a))[0];
  if (!chosen) return '';
  const cards = spread(chosen, 6).map((s) => card(s, `step ${s.step}`, false));
  return `<h3>One prompt through training</h3><p class="text prompt-line">${escape(cut(chosen[0]!.prompt, PROMPT_LIMIT))}</p><div class="cards">${cards.join('')}</div>`;
}

function extremes({ step, samples }: ReportSamples, title: string): string {
  const sorted = [...samples].sort(byReward);
  if (sorted.length === 0) return '';
  const picks: [string, Sample][] =
    sorted.length === 1
      ? [['the only one', sorted[0]!]]
      : [
          ['best', sorted[0]!],
          ['worst', sorted.at(-1)!],
        ];
  if (sorted.length > 2) picks.splice(1, 0, ['middle', sorted[Math.floor(sorted.length / 2)]!]);
  return `<div><h4>${escape(title)} (step ${step})</h4>${picks.map(([name, s]) => card(s, name)).join('')}</div>`;
}

function browse(records: readonly ReportSamples[]): string {
  const parts = spread(records, BROWSE_STEPS).map(({ step, samples }) => {
    const sorted = [...samples].sort(byReward);
    const shown = spread(sorted, 4);
    const average = samples.reduce((sum, s) => sum + s.reward, 0) / samples.length;
    return `<details><summary>step ${step} — mean reward ${escape(brief(average))} over ${samples.length} samples</summary><div class="cards">${shown.map((s) => card(s, '')).join('')}</div></details>`;
  });
  return `<h3>More samples by step</h3>${parts.join('')}`;
}

/** The section of sample completions; empty when there are none. */
export function samplesHtml(all: readonly ReportSamples[]): string {
  const records = all.filter((r) => r.samples.length > 0);
  const first = records[0];
  const last = records.at(-1);
  if (!first || !last) return '';
  const compare = first === last ? extremes(last, 'Best to worst') : extremes(first, 'At the start') + extremes(last, 'At the end');
  return `<section><h2>What the model wrote</h2>${samePrompt(records)}<h3>Best, middle and worst</h3><div class="compare">${compare}</div>${records.length > 2 ? browse(records) : ''}</section>`;
}

function mark(correct: boolean | undefined): string {
  if (correct === undefined) return '';
  return correct ? '<b class="good" title="correct">✓</b> ' : '<b class="bad" title="wrong">✗</b> ';
}

/** Problems before and after training. */
export function beforeAfterHtml(data: BeforeAfter): string {
  const withExpected = data.rows.some((r) => r.expected !== undefined);
  const cell = (text: string) => `<td class="text">${escape(cut(text, PROMPT_LIMIT))}</td>`;
  const rows = data.rows.slice(0, 60).map((r) => {
    const answer = (text: string, correct?: boolean) =>
      `<td class="text">${mark(correct)}${escape(cut(text, PROMPT_LIMIT)) || '<em>(nothing)</em>'}</td>`;
    return `<tr>${cell(r.prompt)}${withExpected ? cell(r.expected ?? '') : ''}${answer(r.before, r.beforeCorrect)}${answer(r.after, r.afterCorrect)}</tr>`;
  });
  const head = ['Problem', ...(withExpected ? ['Expected'] : []), 'Before training', 'After training'];
  return `<section><h2>Before and after</h2><div class="scroll"><table><thead><tr>${head.map((h) => `<th>${h}</th>`).join('')}</tr></thead><tbody>${rows.join('')}</tbody></table></div></section>`;
}
