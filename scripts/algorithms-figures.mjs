// What docs/ppo.md shows of benchmarks/algorithms.json: its tables (scripts/docs.mjs) and its plot (scripts/plots.mjs).
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from './deps.mjs';

const COLOURS = { GRPO: '#1d4ed8', RLOO: '#0f766e', REINFORCE: '#a16207', PPO: '#c2410c' };
const [PANEL, HEIGHT, LEFT, TOP, BOTTOM] = [300, 230, 40, 30, 36];

export const algorithmsResult = () => JSON.parse(readFileSync(join(root, 'benchmarks', 'algorithms.json'), 'utf8'));

const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;
const span = (values, show) => `${show(mean(values))} (${show(Math.min(...values))} to ${show(Math.max(...values))})`;
const percent = (x) => (100 * x).toFixed(1);
const gigabytes = (bytes) => (bytes / 2 ** 30).toFixed(2);

/** The mean of several curves, point by point. */
function meanCurve(curves) {
  const points = Math.min(...curves.map((c) => c.length));
  return Array.from({ length: points }, (_, i) => curves[0][i].map((_v, k) => mean(curves.map((c) => c[i][k]))));
}

function axes(title, xTitle, xMax, ticks) {
  const x = (v) => LEFT + (v / xMax) * (PANEL - LEFT - 12);
  const y = (v) => HEIGHT - BOTTOM - v * (HEIGHT - BOTTOM - TOP);
  const lines = [0, 0.25, 0.5, 0.75, 1].flatMap((v) => [
    `<path d="M${LEFT} ${y(v).toFixed(1)}H${PANEL - 12}" stroke="#ddd"/>`,
    `<text x="${LEFT - 5}" y="${(y(v) + 4).toFixed(1)}" text-anchor="end">${100 * v} %</text>`,
  ]);
  const marks = ticks.map(([v, text]) => `<text x="${x(v).toFixed(1)}" y="${HEIGHT - BOTTOM + 14}" text-anchor="middle">${text}</text>`);
  const names = [
    `<text x="${LEFT}" y="18" font-weight="bold">${title}</text>`,
    `<text x="${(LEFT + PANEL) / 2}" y="${HEIGHT - 6}" text-anchor="middle">${xTitle}</text>`,
  ];
  return { x, y, drawn: [...lines, ...marks, ...names] };
}

const path = (points, { x, y }) => points.map(([a, b], i) => `${i === 0 ? 'M' : 'L'}${x(a).toFixed(1)} ${y(b).toFixed(1)}`).join('');

/** Thin lines for seeds, a thick one for their mean. `points`: of a run, [x, y]. */
function curves(algorithms, points, plane) {
  return algorithms.flatMap(({ name, runs }) => {
    const stroke = `fill="none" stroke="${COLOURS[name]}"`;
    const drawn = runs.map(points);
    return [
      ...drawn.map((curve) => `<path d="${path(curve, plane)}" ${stroke} stroke-opacity="0.25"/>`),
      `<path d="${path(meanCurve(drawn), plane)}" ${stroke} stroke-width="2"/>`,
    ];
  });
}

/** Memory of the larger model's runs: what holds weights, gradients and moments, and the rest of the peak. */
function bars({ rows }) {
  const most = Math.max(...rows.map((r) => r.peakRssBytes));
  const width = (bytes) => ((bytes / most) * (PANEL - LEFT - 12)).toFixed(1);
  return [
    `<text x="20" y="18" font-weight="bold">135M parameters: peak memory, GB</text>`,
    ...rows.flatMap(({ name, peakRssBytes, stateBytes }, i) => {
      const at = TOP + 8 + i * 56;
      const colour = COLOURS[name.split(/[ ,]/)[0]];
      return [
        `<text x="20" y="${at + 10}">${name}</text>`,
        `<rect x="20" y="${at + 16}" width="${width(peakRssBytes)}" height="18" fill="${colour}" fill-opacity="0.35"/>`,
        `<rect x="20" y="${at + 16}" width="${width(stateBytes)}" height="18" fill="${colour}"/>`,
        `<text x="26" y="${at + 29}" fill="#fff">${gigabytes(stateBytes)} of ${gigabytes(peakRssBytes)}</text>`,
      ];
    }),
    `<text x="20" y="${HEIGHT - 6}">dark: weights, gradients, moments</text>`,
  ];
}

/** A step for the ticks: 1, 2 or 5 times a power of ten, at most five of them. */
function ticksOf(most, show) {
  const power = 10 ** Math.floor(Math.log10(most / 4));
  const step = [1, 2, 5, 10].map((k) => k * power).find((s) => most / s <= 5);
  return Array.from({ length: Math.floor(most / step) + 1 }, (_, i) => [i * step, show(i * step)]);
}

export function algorithmsPlot({ algorithms, larger }) {
  const ends = algorithms.flatMap(({ runs }) => runs.map(({ heldOut }) => heldOut.at(-1)));
  const [tokens, seconds] = [Math.max(...ends.map((e) => e[0])), Math.max(...ends.map((e) => e[2]))];
  const byTokens = axes(
    'Reward by generated tokens',
    'tokens',
    tokens,
    ticksOf(tokens, (v) => (v === 0 ? '0' : `${v / 1000}k`)),
  );
  const bySeconds = axes('Held-out accuracy by CPU time', 'seconds of CPU', seconds, ticksOf(seconds, String));
  const legend = algorithms.map(
    ({ name }, i) =>
      `<text x="${PANEL - 16}" y="${HEIGHT - BOTTOM - 10 - 14 * (algorithms.length - 1 - i)}" text-anchor="end" fill="${COLOURS[name]}">${name}</text>`,
  );
  const group = (k, parts) => `<g transform="translate(${k * PANEL} 0)">${parts.join('\n')}</g>`;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${3 * PANEL} ${HEIGHT}" font-family="sans-serif" font-size="11" fill="#555">`,
    `<title>GRPO, RLOO, REINFORCE and PPO: held-out accuracy and memory</title><rect width="${3 * PANEL}" height="${HEIGHT}" fill="#fff"/>`,
    group(0, [...byTokens.drawn, ...curves(algorithms, ({ curve }) => curve, byTokens), ...legend]),
    group(1, [...bySeconds.drawn, ...curves(algorithms, ({ heldOut }) => heldOut.map(([, share, time]) => [time, share]), bySeconds)]),
    group(2, bars(larger)),
    '</svg>',
    '',
  ].join('\n');
}

/** The tables of docs/ppo.md. */
export function algorithmsTables({ algorithms, larger, tokenBudget }) {
  const of = (runs, key) => runs.map((r) => r[key]);
  const seconds = (x) => x.toFixed(1);
  return [
    `| ${tokenBudget.toLocaleString('en')} generated tokens | reward of the last tenth | held-out accuracy, % | optimizer steps | seconds of CPU | weights, gradients, moments |`,
    '|---|---:|---:|---:|---:|---:|',
    ...algorithms.map(({ name, runs, stateBytes }) => {
      const cells = [span(of(runs, 'reward'), (x) => x.toFixed(2)), span(of(runs, 'accuracy'), percent), runs[0].steps];
      return `| ${[name, ...cells, span(of(runs, 'cpuSeconds'), seconds), `${(stateBytes / 2 ** 20).toFixed(1)} MB`].join(' | ')} |`;
    }),
    '',
    `| ${(larger.parameters / 1e6).toFixed(1)}M parameters, float32, ${larger.shape.completions} completions | seconds of a rollout and its steps | of CPU | weights, gradients, moments, GB | peak memory, GB |`,
    '|---|---:|---:|---:|---:|',
    ...larger.rows.map(
      (r) => `| ${[r.name, seconds(r.seconds), seconds(r.cpuSeconds), gigabytes(r.stateBytes), gigabytes(r.peakRssBytes)].join(' | ')} |`,
    ),
  ].join('\n');
}
