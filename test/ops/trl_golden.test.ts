// Numbers of TRL's own GRPOTrainer._compute_loss (scripts/goldens/make_trl_goldens.py), in float64; ours are float32.
import { expect, test } from '@jest/globals';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { grpoLoss, type LossConfig } from '../../lib/index.js';

interface Case {
  lossType: LossConfig['lossType'];
  beta: number;
  delta: number | null;
  old: boolean;
  useBiasCorrectionKl: boolean;
  epsilon: number;
  epsilonHigh: number;
  temperature: number;
  maxCompletionLength: number;
  loss: number;
  gradLogits: number[];
  metrics: Record<string, number>;
}
const golden = JSON.parse(readFileSync(join(__dirname, '../golden/trl_loss.json'), 'utf8')) as {
  provenance: { trl: string };
  shape: { B: number; T: number; V: number };
  logits: number[];
  ids: number[];
  mask: number[];
  advantages: number[];
  old: number[];
  ref: number[];
  cases: Case[];
};

const name = (c: Case) => `${c.lossType} beta=${c.beta} delta=${c.delta} old=${c.old} T=${c.temperature}`;

test.each(golden.cases.map((c) => [name(c), c] as const))(`TRL ${golden.provenance.trl}: %s`, (_name, c) => {
  const { T, V } = golden.shape;
  const result = grpoLoss(
    {
      logits: Float32Array.from(golden.logits),
      vocabSize: V,
      targets: Int32Array.from(golden.ids),
      completionLength: T,
      mask: Uint8Array.from(golden.mask),
      advantages: Float32Array.from(golden.advantages),
      ...(c.old ? { oldLogps: Float32Array.from(golden.old) } : {}),
      ...(c.beta ? { refLogps: Float32Array.from(golden.ref) } : {}),
    },
    {
      lossType: c.lossType,
      beta: c.beta,
      ...(c.delta === null ? {} : { delta: c.delta }),
      useBiasCorrectionKl: c.useBiasCorrectionKl,
      epsilon: c.epsilon,
      epsilonHigh: c.epsilonHigh,
      temperature: c.temperature,
      maxCompletionLength: c.maxCompletionLength,
    },
  );
  expect(Math.abs(result.loss - c.loss)).toBeLessThan(1e-5 * Math.max(1, Math.abs(c.loss)));
  const error = Math.sqrt(c.gradLogits.reduce((s, g, i) => s + (g - (result.gradLogits as Float32Array)[i]!) ** 2, 0));
  const norm = Math.sqrt(c.gradLogits.reduce((s, g) => s + g * g, 0));
  expect(error).toBeLessThan(1e-5 * norm);
  if ('kl' in c.metrics) expect(result.metrics.kl).toBeCloseTo(c.metrics.kl, 5);
  expect(result.metrics.clipRatio.low).toBeCloseTo(c.metrics['clip_ratio/low_mean']!, 6);
  expect(result.metrics.clipRatio.high).toBeCloseTo(c.metrics['clip_ratio/high_mean']!, 6);
});
