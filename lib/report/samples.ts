// Sample completions that are worth reading: the same prompt over time, early against late, best against worst.
import type { Sample } from '../trainer/types.js';
import { cut, escape } from './html.js';
import { brief, spread } from './numbers.js';
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

/** `about`: attributes that the page's script sorts and filters by. */
function card(sample: Sample, heading: string, { withPrompt = true, about = '' } = {}): string {
  const prompt = withPrompt ? `<span class="prompt">${escape(cut(sample.prompt, PROMPT_LIMIT))}</span>` : '';
  return `<div class="card"${about}><header><span>${escape(heading)}</span>${chip(sample)}</header><div class="text">${prompt}${completionHtml(sample)}</div></div>`;
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
  const cards = spread(chosen, 6).map((s) => card(s, `step ${s.step}`, { withPrompt: false }));
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

/** Which prompt a card belongs to, by number. */
function numbered(records: readonly ReportSamples[]): Map<string, number> {
  const numbers = new Map<string, number>();
  for (const { samples } of records) for (const { prompt } of samples) if (!numbers.has(prompt)) numbers.set(prompt, numbers.size);
  return numbers;
}

/** Prompts that come more than once, for the script's choice of one. */
function promptOptions(records: readonly ReportSamples[], numbers: ReadonlyMap<string, number>): string {
  const steps = new Map<string, number>();
  for (const { samples } of records) for (const p of new Set(samples.map((s) => s.prompt))) steps.set(p, (steps.get(p) ?? 0) + 1);
  const repeated = [...steps].filter(([, n]) => n > 1).sort((a, b) => b[1] - a[1]);
  return repeated
    .slice(0, 40)
    .map(([p, n]) => `<option value="${numbers.get(p)}">${escape(cut(p.replace(/\s+/g, ' '), 70))} (${n} steps)</option>`)
    .join('');
}

/** All kept samples by step; the script (without which the tools stay hidden) shows them best first, worst first, or one prompt over time. */
function browse(records: readonly ReportSamples[]): string {
  const kept = spread(records, BROWSE_STEPS);
  const numbers = numbered(kept);
  const parts = kept.map(({ step, samples }) => {
    const shown = spread([...samples].sort(byReward), 4);
    const average = samples.reduce((sum, s) => sum + s.reward, 0) / samples.length;
    const cards = shown.map((s) => {
      const about = ` data-step="${step}" data-reward="${Number.isFinite(s.reward) ? s.reward : ''}" data-prompt="${numbers.get(s.prompt)}"`;
      return card(s, `step ${step}`, { about });
    });
    return `<details><summary>step ${step} — mean reward ${escape(brief(average))} over ${samples.length} samples</summary><div class="cards">${cards.join('')}</div></details>`;
  });
  const tools = `<div class="tools" hidden><label>Order <select name="order"><option value="">by step</option><option value="best">best first</option><option value="worst">worst first</option><option value="time">over time</option></select></label><label>Prompt <select name="prompt"><option value="">all</option>${promptOptions(kept, numbers)}</select></label><label>Containing <input name="text" type="search"></label><span class="count"></span></div>`;
  return `<div class="browser"><h3>More samples by step</h3>${tools}<div class="cards found" hidden></div><div class="steps">${parts.join('')}</div></div>`;
}

/** The section of sample completions; empty when there are none. */
export function samplesHtml(all: readonly ReportSamples[]): string {
  const records = all.filter((r) => r.samples.length > 0);
  const first = records[0];
  const last = records.at(-1);
  if (!first || !last) return '';
  const compare = first === last ? extremes(last, 'Best to worst') : extremes(first, 'At the start') + extremes(last, 'At the end');
  return `<section><h2>What the model wrote</h2>${samePrompt(records)}<h3>Best, middle and worst</h3><div class="compare">${compare}</div>${browse(records)}</section>`;
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
