// Random cases against the float64 oracle, at every instruction set this machine has. A failure names its seed; FUSED_GRPO_SWEEP sets
// the number of cases (npm run test:sweep: 50,000).
import { afterAll, expect, test } from '@jest/globals';
import { core } from '../../lib/native.js';
import { makeCase } from '../support/cases.js';
import { grpoOracle } from '../support/oracle.js';
import { LOSS_TYPES } from '../support/oracle_types.js';
import { sweepOn } from '../support/sweep.js';

const COUNT = Number(process.env.FUSED_GRPO_SWEEP ?? 2000);
const original = core().simd();
const LEVELS = ['portable', 'avx2', 'avx512', 'neon'].filter((name) => core().useSimd(name));
afterAll(() => void core().useSimd(original));

test(
  `${COUNT} random cases on ${LEVELS.join(', ')}`,
  () => {
    const backends = LEVELS.map((name) => ({ name, use: () => void core().useSimd(name) }));
    const skipped = sweepOn(backends, 1, COUNT);
    expect(skipped).toBeLessThan(Math.max(2, 0.03 * COUNT));
  },
  Math.max(120_000, 100 * COUNT),
);

/** What a case makes the loss do: options that are on, and decisions that went the rarer way. */
function reached(seed: number): string[] {
  const c = makeCase(seed);
  const truth = grpoOracle(c.oracleBatch, c.oracleConfig);
  const o = c.oracleConfig;
  const policy = c.batch.oldLogps ? 'off policy' : 'on policy';
  const out = [`${o.lossType} ${policy}`, `${o.lossType} ${o.importanceSamplingLevel}`, c.dtype];
  if (truth.tokens === 0) return out;
  if (o.beta > 0) out.push(`${o.klEstimator} ${o.klGradient} ${o.useBiasCorrectionKl}`, `${o.lossType} with KL`);
  if (truth.sums.low > 0) out.push(`${o.lossType} clipped below`);
  if (truth.sums.high > 0) out.push(`${o.lossType} clipped above`);
  if (truth.chosen.length > 0) out.push(`${o.lossType} chooses`);
  if (o.samplerImportanceSampling) out.push(`${o.samplerImportanceSampling} ${policy}`);
  if (c.batch.samplerLogps?.some((v, t) => c.oracleBatch.selected[t] && Number.isNaN(v))) out.push('unknown sampler');
  if (o.topEntropyQuantile < 1) out.push('quantile');
  if (truth.gradEntropies.some((g) => g !== 0)) out.push('entropy bonus');
  return out;
}

test('the cases reach every option and every decision', () => {
  const counts = new Map<string, number>();
  for (let seed = 1; seed <= 1000; ++seed) for (const what of reached(seed)) counts.set(what, (counts.get(what) ?? 0) + 1);
  const levels = ['sequence', 'sequence_token'].flatMap((level) =>
    ['grpo', 'bnpo', 'dr_grpo', 'dapo', 'cispo', 'sapo'].map((type) => `${type} ${level}`),
  );
  const kl = ['k1', 'k2', 'k3'].flatMap((e) => [
    ...[true, false].flatMap((bias) => [`${e} estimator ${bias}`, `${e} straight_through ${bias}`]),
    `${e} score_function false`,
  ]);
  const clipped = ['grpo', 'bnpo', 'dr_grpo', 'dapo', 'luspo', 'gmpo', 'dppo', 'clip_cov'].flatMap((type) => [
    `${type} clipped below`,
    `${type} clipped above`,
  ]);
  const sampler = ['token_truncate', 'token_mask', 'sequence_truncate', 'sequence_mask'].flatMap((m) => [
    `${m} on policy`,
    `${m} off policy`,
  ]);
  const types = LOSS_TYPES.flatMap((type) => [`${type} on policy`, `${type} off policy`, `${type} with KL`]);
  const others = [
    'luspo sequence',
    'cispo clipped above',
    'clip_cov chooses',
    'kl_cov chooses',
    'unknown sampler',
    'quantile',
    'entropy bonus',
  ];
  const wanted = [...types, ...levels, ...kl, ...clipped, ...sampler, ...others, 'float32', 'bfloat16', 'float16'];
  expect(wanted.filter((what) => (counts.get(what) ?? 0) < 3)).toEqual([]);
});
