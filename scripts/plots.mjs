// The plots of docs/losses.md, from our own policyLoss: the factor that a token's gradient gets, against its ratio. And that of docs/ppo.md.
// node scripts/plots.mjs [--check]: writes docs/plots/*.svg, or says which differ from what they should be.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { algorithmsPlot, algorithmsResult } from './algorithms-figures.mjs';
import { root } from './deps.mjs';
import { runAsCommand } from './run.mjs';

/** Name of the plot: the loss's options. One token a sequence, so that a sequence's ratio is the token's. */
const PLOTS = {
  clip: { lossType: 'dapo', epsilon: 0.2, epsilonHigh: 0.28 },
  delta: { lossType: 'dapo', epsilon: 0.2, delta: 2 },
  dualClip: { lossType: 'dapo', epsilon: 0.2, dualClip: 2 },
  gspo: { lossType: 'grpo', importanceSamplingLevel: 'sequence', epsilon: 0.2 },
  luspo: { lossType: 'luspo', importanceSamplingLevel: 'sequence', epsilon: 0.2 },
  cispo: { lossType: 'cispo', epsilonHigh: 2 },
  sapo: { lossType: 'sapo' },
  vespo: { lossType: 'vespo' },
  gmpo: { lossType: 'gmpo', epsilon: 0.4 },
  reinforce: { lossType: 'reinforce' },
  dppo: { lossType: 'dppo', epsilon: 0.1 },
  clip_cov: { lossType: 'clip_cov', epsilon: 0.2 },
  kl_cov: { lossType: 'kl_cov', klCovRatio: 1, klCovCoef: 0.5 },
};
const RATIOS = Array.from({ length: 251 }, (_, i) => 0.01 + i * 0.01);
const [WIDTH, HEIGHT, LEFT, BOTTOM] = [320, 180, 34, 24];
const [MIN, MAX] = [-0.25, 2.5];

/** -d loss / d logp of single tokens at these ratios; every token has the probability e^-1 now. */
function gradientWeights(policyLoss, config, advantage) {
  const n = RATIOS.length;
  const { gradLogps } = policyLoss(
    {
      logps: new Float32Array(n).fill(-1),
      oldLogps: Float32Array.from(RATIOS, (r) => -1 - Math.log(r)),
      advantages: new Float32Array(n).fill(advantage),
      completionLength: 1,
    },
    { ...config, normalizer: 1 },
  );
  return Array.from(gradLogps, (g) => -g * advantage);
}

const x = (ratio) => LEFT + (ratio / 2.51) * (WIDTH - LEFT - 8);
const y = (weight) => HEIGHT - BOTTOM - ((Math.min(MAX, Math.max(MIN, weight)) - MIN) / (MAX - MIN)) * (HEIGHT - BOTTOM - 8);

/** Straight pieces; a jump is not joined. */
function path(weights) {
  return weights
    .map((w, i) => `${i > 0 && Math.abs(w - weights[i - 1]) < 0.2 ? 'L' : 'M'}${x(RATIOS[i]).toFixed(1)} ${y(w).toFixed(1)}`)
    .join('');
}

function svg(name, positive, negative) {
  const ticks = [0, 1, 2].flatMap((v) => [
    `<path d="M${LEFT} ${y(v).toFixed(1)}H${WIDTH - 8}M${x(v).toFixed(1)} 8V${HEIGHT - BOTTOM}" stroke="#ddd"/>`,
    `<text x="${LEFT - 6}" y="${(y(v) + 4).toFixed(1)}" text-anchor="end">${v}</text>`,
    `<text x="${x(v).toFixed(1)}" y="${HEIGHT - 8}" text-anchor="middle">${v}</text>`,
  ]);
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="11" fill="#555">`,
    `<title>${name}: weight of the gradient against the ratio</title><rect width="${WIDTH}" height="${HEIGHT}" fill="#fff"/>`,
    ...ticks,
    `<path d="${path(negative)}" fill="none" stroke="#c2410c" stroke-width="2" stroke-dasharray="5 3"/>`,
    `<path d="${path(positive)}" fill="none" stroke="#1d4ed8" stroke-width="2"/>`,
    `<text x="${WIDTH - 10}" y="20" text-anchor="end" fill="#1d4ed8">A &gt; 0</text>`,
    `<text x="${WIDTH - 10}" y="34" text-anchor="end" fill="#c2410c">A &lt; 0</text></svg>`,
    '',
  ].join('\n');
}

await runAsCommand(import.meta.url, async (argv) => {
  const { policyLoss } = createRequire(import.meta.url)('../dist/cjs/index.js');
  const folder = join(root, 'docs', 'plots');
  mkdirSync(folder, { recursive: true });
  const stale = [];
  const losses = Object.entries(PLOTS).map(([name, config]) => [
    name,
    svg(name, gradientWeights(policyLoss, config, 1), gradientWeights(policyLoss, config, -1)),
  ]);
  const plots = [...losses, ['algorithms', algorithmsPlot(algorithmsResult())]];
  for (const [name, drawn] of plots) {
    const file = join(folder, `${name}.svg`);
    if (existsSync(file) && readFileSync(file, 'utf8') === drawn) continue;
    stale.push(name);
    if (!argv.includes('--check')) writeFileSync(file, drawn);
  }
  if (!argv.includes('--check')) return console.log(`wrote ${stale.length} of ${plots.length} plots`);
  if (stale.length > 0) throw new Error(`docs/plots are out of date: ${stale.join(', ')}. Run: node scripts/plots.mjs`);
});
