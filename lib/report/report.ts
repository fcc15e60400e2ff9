// renderReport: a run as one self-contained HTML page.
import { renderChart } from './chart.js';
import { chartsOf } from './charts.js';
import { cut, escape } from './html.js';
import { groupsHtml } from './groups.js';
import { page } from './page.js';
import { beforeAfterHtml, samplesHtml } from './samples.js';
import type { ReportInput } from './types.js';
import { findings } from './warnings.js';
import { tilesOf, type Tile } from './words.js';

const tileHtml = ({ label, value, detail, mood }: Tile): string =>
  `<div class="tile"><span>${escape(label)}</span><b class="${mood ?? ''}">${escape(value)}</b>${detail ? `<span>${escape(detail)}</span>` : ''}</div>`;

/** Nested values as `a.b` rows; arrays as one line. */
function rowsOf(value: Record<string, unknown>, prefix = ''): [string, string][] {
  return Object.entries(value).flatMap(([key, v]): [string, string][] => {
    if (v === undefined) return [];
    if (v !== null && typeof v === 'object' && !Array.isArray(v) && prefix.length < 40)
      return rowsOf(v as Record<string, unknown>, `${prefix}${key}.`);
    return [[prefix + key, typeof v === 'string' ? v : (JSON.stringify(v) ?? typeof v)]];
  });
}

function runHtml(run: Record<string, unknown>): string {
  const rows = rowsOf(run).map(([key, value]) => `<tr><td>${escape(key)}</td><td class="text">${escape(cut(value, 500))}</td></tr>`);
  return rows.length
    ? `<section><h2>The run</h2><details><summary>${rows.length} settings and facts</summary><table class="run"><tbody>${rows.join('')}</tbody></table></details></section>`
    : '';
}

function subtitle(run: Record<string, unknown>): string {
  const parts = [run.model, run.trainDataset].filter((v): v is string => typeof v === 'string');
  return parts.length ? `<p class="sub">${escape(cut(parts.join(' · '), 300))}</p>` : '<p class="sub"></p>';
}

/** Shown by the script that makes it work. */
const SMOOTHING =
  '<div class="tools smoothing" hidden><label>Smoothing <input type="range" min="0" max="6" value="0" step="1"></label><span class="count">off</span></div>';

/**
 * A report.html: summary in plain words, curves, samples, settings. Needs nothing but the file itself; follows the reader's light or
 * dark setting. Long runs are thinned out (with the range of what was merged) and long texts cut, so that the file stays below 1 MB.
 */
export function renderReport({ title, run = {}, steps, samples = [], beforeAfter, warnings = [] }: ReportInput): string {
  const tiles = tilesOf(steps, beforeAfter).map(tileHtml).join('');
  const notes = [...warnings, ...findings(steps)].map((text) => `<p class="warn" role="note">⚠ ${escape(cut(text, 1000))}</p>`).join('');
  const charts = steps.length ? chartsOf(steps).map(renderChart).join('') : '';
  const body = [
    `<h1>${escape(title)}</h1>${subtitle(run)}`,
    `<div class="tiles">${tiles}</div>${notes}`,
    beforeAfter ? beforeAfterHtml(beforeAfter) : '',
    charts ? `<section><h2>Curves</h2>${SMOOTHING}<div class="charts">${charts}</div></section>` : '',
    groupsHtml(samples),
    samplesHtml(samples),
    runHtml(run),
    '<footer>Written by fused-grpo. Hover over a curve for its values; the numbers are in metrics.jsonl beside this file.</footer>',
  ];
  return page(escape(title), body.join('\n'));
}
