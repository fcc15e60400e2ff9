// Finite inputs, however far apart, give finite losses and gradients, whatever the loss: on the CPU and by the CUDA kernels.
import { describe, expect, test } from '@jest/globals';
import { policyLoss, type LossConfig, type LossType } from '../../lib/index.js';
import { substituteCore } from '../../lib/native.js';
import { LOSS_TYPES } from '../../lib/ops/config.js';
import { BACKENDS, onEach } from '../backends/table.js';

const FAR = [-3e4, -700, -88, -1, -1e-6, 0];
const N = FAR.length ** 2;
const at = (i: number) => FAR[i % FAR.length]!;
const batch = (advantage: number) => ({
  logps: Float32Array.from({ length: N }, (_, i) => at(i)),
  oldLogps: Float32Array.from({ length: N }, (_, i) => at(Math.floor(i / FAR.length))),
  refLogps: Float32Array.from({ length: N }, (_, i) => at(i + 2)),
  samplerLogps: Float32Array.from({ length: N }, (_, i) => at(i + 4)),
  entropies: Float32Array.from({ length: N }, (_, i) => i % 5),
  advantages: new Float32Array(N / 4).fill(advantage),
  completionLength: 4,
});

const levels = (lossType: LossType): LossConfig[] => {
  const base: LossConfig = { lossType, ...(lossType === 'cispo' ? { epsilonHigh: 5 } : {}), maxCompletionLength: 4 };
  if (lossType === 'luspo') return [{ ...base, importanceSamplingLevel: 'sequence' }];
  if (!['grpo', 'bnpo', 'dr_grpo', 'dapo', 'cispo', 'sapo'].includes(lossType)) return [base];
  return (['token', 'sequence', 'sequence_token'] as const).map((importanceSamplingLevel) => ({ ...base, importanceSamplingLevel }));
};
const CONFIGS = LOSS_TYPES.flatMap(levels).flatMap((config) => [
  config,
  { ...config, beta: 1, entropyCoef: 0.1, samplerImportanceSampling: 'token_truncate' as const },
  { ...config, beta: 1, klEstimator: 'k2' as const, useBiasCorrectionKl: false, offPolicyMaskThreshold: 1 },
]);

function check(config: LossConfig): void {
  for (const advantage of [-100, 0, 100])
    for (const b of [batch(advantage), { ...batch(advantage), oldLogps: undefined }]) {
      const { loss, gradLogps, metrics } = policyLoss(b, config);
      const bad = gradLogps.findIndex((v) => !Number.isFinite(v));
      expect([config, advantage, bad]).toEqual([config, advantage, -1]);
      expect([config, Number.isFinite(loss), Number.isFinite(metrics.ratio.max)]).toEqual([config, true, true]);
    }
}

describe('finite in, finite out, on the CPU', () => {
  test.each(LOSS_TYPES)('%s', (type) => {
    substituteCore(undefined);
    CONFIGS.filter((c) => c.lossType === type).forEach(check);
  });
});

onEach('finite in, finite out', BACKENDS, (backend) => {
  test.each(LOSS_TYPES)('%s', (type) => {
    substituteCore(backend.addon());
    backend.configure({ arch: 'sm_90', multiprocessors: 3, seed: 5 });
    CONFIGS.filter((c) => c.lossType === type).forEach(check);
  });
});
