// Token-sized work at a size that random cases of the loss do not reach: order statistics over thousands of tokens with ties, long and
// empty sequences. The CUDA kernels against the CPU's.
import { expect, test } from '@jest/globals';
import { policyLoss, type LossConfig } from '../../lib/index.js';
import { substituteCore } from '../../lib/native.js';
import { BACKENDS, onEach } from '../backends/table.js';
import { Random } from '../support/random.js';

const LENGTHS = [0, 700, 1, 1500, 0, 33, 64, 900];
const N = LENGTHS.reduce((a, b) => a + b);

function batch(coarse: boolean) {
  const r = new Random(coarse ? 5 : 6);
  const grid = (v: number) => (coarse ? Math.round(4 * v) / 4 : v);
  const floats = (of: () => number) => Float32Array.from({ length: N }, of);
  const logps = floats(() => -Math.abs(grid(2 * r.normal())));
  return {
    logps,
    entropies: floats(() => Math.abs(grid(r.normal()))),
    oldLogps: logps.map((v) => v + grid(0.2 * r.normal())),
    refLogps: logps.map((v) => v + 0.1 * r.normal()),
    samplerLogps: logps.map((v) => (r.chance(0.05) ? NaN : v + 0.1 * r.normal())),
    advantages: Float32Array.from(LENGTHS, () => grid(r.normal())),
    mask: Uint8Array.from({ length: N }, () => Number(r.chance(0.9))),
    offsets: Int32Array.from([0, ...LENGTHS.map((_, i) => LENGTHS.slice(0, i + 1).reduce((a, b) => a + b))]),
  };
}

const CONFIGS: LossConfig[] = [
  { lossType: 'grpo', importanceSamplingLevel: 'sequence', epsilon: 3e-4, epsilonHigh: 4e-4, beta: 0.04 },
  { lossType: 'dapo', importanceSamplingLevel: 'sequence_token' },
  { lossType: 'luspo', importanceSamplingLevel: 'sequence', samplerImportanceSampling: 'token_truncate' },
  { lossType: 'gmpo', topEntropyQuantile: 0.3 },
  { lossType: 'vespo', samplerImportanceSampling: 'token_mask', samplerImportanceSamplingClipMax: 1.2 },
  { lossType: 'dapo', topEntropyQuantile: 0.2, entropyCoef: 0.01 },
  { lossType: 'dapo', topEntropyQuantile: 0, entropyCoef: 0.01 },
  { lossType: 'grpo', entropyThreshold: 0.5, entropyCoef: 0.01 },
  { lossType: 'kl_cov', klCovRatio: 0.1 },
  { lossType: 'kl_cov', klCovRatio: 1 },
  { lossType: 'clip_cov', clipCovRatio: 0.05, clipCovLow: 0.1, clipCovHigh: 2, clipCovSeed: 3 },
  { lossType: 'clip_cov', clipCovRatio: 1, clipCovLow: -100, clipCovHigh: 100 },
  { lossType: 'sapo', offPolicyMaskThreshold: 0.001, samplerImportanceSampling: 'sequence_truncate' },
  { lossType: 'bnpo', samplerImportanceSampling: 'sequence_mask', samplerImportanceSamplingClipMin: 0.1 },
];

onEach('policyLoss', BACKENDS, (backend) => {
  test('equal advantages: every covariance is 0, of either sign, and the first tokens are chosen', () => {
    const b = { ...batch(false), advantages: new Float32Array(LENGTHS.length).fill(0.7) };
    const config: LossConfig = { lossType: 'kl_cov', klCovRatio: 0.01 };
    substituteCore(undefined);
    const cpu = policyLoss(b, config);
    substituteCore(backend.addon());
    backend.configure({ arch: 'sm_90', multiprocessors: 3, seed: 11 });
    const cuda = policyLoss(b, config);
    cpu.gradLogps.forEach((v, i) => expect(Math.abs(cuda.gradLogps[i]! - v)).toBeLessThanOrEqual(1e-5 * Math.abs(v) + 1e-9));
  });

  test.each(CONFIGS.flatMap((config) => [false, true].map((coarse) => ({ coarse, config }))))(
    'ties $coarse, $config',
    ({ coarse, config }) => {
      const b = batch(coarse);
      const onPolicy = { ...b, oldLogps: undefined };
      for (const input of config.samplerImportanceSampling ? [b, onPolicy] : [b]) {
        substituteCore(undefined);
        const cpu = policyLoss(input, config);
        substituteCore(backend.addon());
        backend.configure({ arch: 'sm_90', multiprocessors: 3, seed: 11 });
        const cuda = policyLoss(input, config);
        expect(Math.abs(cuda.loss - cpu.loss)).toBeLessThanOrEqual(1e-5 * Math.max(1, Math.abs(cpu.loss)));
        expect(Math.abs(cuda.metrics.clipRatio.region - cpu.metrics.clipRatio.region)).toBeLessThanOrEqual(1 / N);
        for (const what of ['gradLogps', 'gradEntropies'] as const) {
          const want = Array.from(cpu[what] ?? []);
          const norm = Math.sqrt(want.reduce((s, v) => s + v * v, 0));
          const error = Math.sqrt(want.reduce((s, v, i) => s + (v - cuda[what]![i]!) ** 2, 0));
          expect(error).toBeLessThanOrEqual(1e-5 * norm);
        }
      }
    },
  );
});
