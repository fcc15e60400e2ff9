// Line charts and stacked areas as SVG. Colours are CSS variables of the page, so that one file serves light and dark.
import { escape } from './html.js';
import { extent, format, isNumber, niceRange, ticks } from './numbers.js';

export interface Line {
  name: string;
  y: readonly number[];
  /** Colour 1..6 of the page. */
  colour: number;
  /** Drawn thin and pale: the raw values behind a smoothed line. */
  faint?: boolean;
  /** It is this line of the chart, smoothed. */
  smoothOf?: number;
  /** A shaded range around the line. */
  low?: readonly number[];
  high?: readonly number[];
}

export interface Chart {
  title: string;
  /** One line in plain words. */
  note: string;
  x: readonly number[];
  lines: readonly Line[];
  /** Lines are layers on top of each other. */
  stacked?: boolean;
  zero?: boolean;
  wide?: boolean;
  format?: (value: number) => string;
}

const HEIGHT = 230;
const MARGIN = { left: 58, right: 14, top: 10, bottom: 34 };
const trim = (value: number): string => String(Math.round(value * 10) / 10);

interface Frame {
  width: number;
  px: (x: number) => number;
  py: (y: number) => number;
  xRange: [number, number];
  yRange: [number, number];
}

/** The layers of a stacked chart as bands: each lies on the sum of those before it. */
function stack(lines: readonly Line[]): Line[] {
  const base = lines[0]!.y.map(() => 0);
  return lines.map((line) => {
    const low = [...base];
    line.y.forEach((v, i) => (base[i]! += isNumber(v) ? v : 0));
    return { ...line, low, high: [...base] };
  });
}

function frame(chart: Chart, lines: readonly Line[]): Frame {
  const width = chart.wide ? 1140 : 560;
  const inner = { width: width - MARGIN.left - MARGIN.right, height: HEIGHT - MARGIN.top - MARGIN.bottom };
  let [x0, x1] = extent(chart.x);
  if (!isNumber(x0)) [x0, x1] = [0, 1];
  if (x0 === x1) [x0, x1] = [x0 - 0.5, x1 + 0.5];
  const all = lines.flatMap((l) => [...(chart.stacked ? [] : l.y), ...(l.low ?? []), ...(l.high ?? [])]);
  const yRange = niceRange(extent(all), Boolean(chart.zero ?? chart.stacked));
  const px = (x: number) => MARGIN.left + ((x - x0) / (x1 - x0)) * inner.width;
  const py = (y: number) => MARGIN.top + (1 - (y - yRange[0]) / (yRange[1] - yRange[0])) * inner.height;
  return { width, px, py, xRange: [x0, x1], yRange };
}

/** The path of a line; a gap where a value is missing, a dot where a point stands alone. */
function linePath(x: readonly number[], y: readonly number[], f: Frame): string {
  let path = '';
  y.forEach((v, i) => {
    if (!isNumber(v)) return;
    const follows = i > 0 && isNumber(y[i - 1]!);
    const at = `${trim(f.px(x[i]!))} ${trim(f.py(v))}`;
    path += follows ? `L${at}` : `M${at}`;
    if (!follows && !isNumber(y[i + 1] ?? NaN)) path += 'h.01'; // with round caps: a dot
  });
  return path;
}

function bandPath(x: readonly number[], low: readonly number[], high: readonly number[], f: Frame): string {
  let path = '';
  for (let i = 0; i < x.length; ++i) {
    if (!isNumber(low[i]!) || !isNumber(high[i]!)) continue;
    let end = i;
    while (end + 1 < x.length && isNumber(low[end + 1]!) && isNumber(high[end + 1]!)) ++end;
    const indices = Array.from({ length: end - i + 1 }, (_, k) => i + k);
    const there = indices.map((k) => `${trim(f.px(x[k]!))} ${trim(f.py(high[k]!))}`);
    const back = indices.reverse().map((k) => `${trim(f.px(x[k]!))} ${trim(f.py(low[k]!))}`);
    path += `M${there.join('L')}L${back.join('L')}Z`;
    i = end;
  }
  return path;
}

function axes(chart: Chart, f: Frame): string {
  const show = chart.format ?? format;
  const bottom = HEIGHT - MARGIN.bottom;
  const ys = ticks(f.yRange[0], f.yRange[1], 6);
  const xs = ticks(f.xRange[0], f.xRange[1], chart.wide ? 10 : 6).filter(Number.isInteger);
  const grid = ys.map(
    (v) =>
      `<line class="grid" x1="${MARGIN.left}" x2="${f.width - MARGIN.right}" y1="${trim(f.py(v))}" y2="${trim(f.py(v))}"/><text class="tick" text-anchor="end" x="${MARGIN.left - 8}" y="${trim(f.py(v) + 4)}">${escape(show(v))}</text>`,
  );
  const below = xs.map(
    (v) => `<text class="tick" text-anchor="middle" x="${trim(f.px(v))}" y="${bottom + 17}">${v.toLocaleString('en-US')}</text>`,
  );
  const line = `<line class="axis" x1="${MARGIN.left}" x2="${f.width - MARGIN.right}" y1="${bottom}" y2="${bottom}"/>`;
  return `${grid.join('')}${below.join('')}${line}<text class="tick" text-anchor="middle" x="${(MARGIN.left + f.width - MARGIN.right) / 2}" y="${HEIGHT - 3}">step</text>`;
}

function shapes(chart: Chart, lines: readonly Line[], f: Frame): string {
  const bands = lines.map((l) =>
    l.low && l.high ? `<path class="${chart.stacked ? 'layer' : 'band'} c${l.colour}" d="${bandPath(chart.x, l.low, l.high, f)}"/>` : '',
  );
  const strokes = chart.stacked
    ? []
    : lines.map((l, i) => `<path class="line c${l.colour}${l.faint ? ' faint' : ''}" data-line="${i}" d="${linePath(chart.x, l.y, f)}"/>`);
  return bands.join('') + strokes.join('');
}

/** What the script reads: pixel positions, the axis's range, the values and their names. */
function hoverData(chart: Chart, f: Frame): string {
  const compact = (v: number) => (isNumber(v) ? Number(v.toPrecision(4)) : null);
  const shown = chart.lines.map((l) => ({ n: l.name, c: l.colour, y: l.y.map(compact), m: l.smoothOf }));
  const place = { w: f.width, l: MARGIN.left, r: f.width - MARGIN.right, t: MARGIN.top, b: HEIGHT - MARGIN.bottom, v: f.yRange };
  return escape(JSON.stringify({ ...place, k: Boolean(chart.stacked), p: Boolean(chart.format), x: chart.x, s: shown }));
}

const legend = (lines: readonly Line[]): string =>
  lines.length < 2
    ? ''
    : `<span class="legend">${lines.map((l) => `<i class="c${l.colour}${l.faint ? ' faint' : ''}"></i>${escape(l.name)}`).join('')}</span>`;

/** One chart as a figure; an empty string when none of its values is there. */
export function renderChart(chart: Chart): string {
  const present = chart.lines.filter((l) => l.y.some(isNumber));
  if (present.length === 0) return '';
  const lines = chart.stacked ? stack(present) : present;
  const f = frame(chart, lines);
  return `<figure class="${chart.wide ? 'wide' : ''}" data-chart="${hoverData({ ...chart, lines: present }, f)}"><figcaption><b>${escape(chart.title)}</b>${legend(present)}<small>${escape(chart.note)}</small></figcaption><svg viewBox="0 0 ${f.width} ${HEIGHT}" role="img" aria-label="${escape(`${chart.title} by step`)}">${axes(chart, f)}${shapes(chart, lines, f)}<line class="cursor" y1="${MARGIN.top}" y2="${HEIGHT - MARGIN.bottom}"/></svg><div class="tip"></div></figure>`;
}
