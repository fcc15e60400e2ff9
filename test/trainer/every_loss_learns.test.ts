// The bundled model gets better at its arithmetic with every lossType: reward of the last steps against that of the first ones.
import { describe, expect, test } from '@jest/globals';
import { arithmeticProblems, correctAnswer } from '../../lib/demo/arithmetic.js';
import { demoModel } from '../../lib/demo/lesson.js';
import type { GRPOConfig } from '../../lib/trainer/config.js';
import { GRPOTrainer } from '../../lib/trainer/grpo-trainer.js';

const { train: trainDataset } = arithmeticProblems();

/** Rollouts are used twice, so that ratios, clips and weights differ from 1. */
const base: GRPOConfig = {
  numGenerations: 8,
  perDeviceTrainBatchSize: 512,
  numIterations: 2,
  maxCompletionLength: 4,
  learningRate: 3e-4,
  warmupSteps: 6,
  maxSteps: 40,
  saveSteps: 0,
  seed: 5,
};

async function rewards(config: GRPOConfig): Promise<number[]> {
  const trainer = new GRPOTrainer({ model: demoModel(), rewardFuncs: correctAnswer, trainDataset, config: { ...base, ...config } });
  const of: number[] = [];
  try {
    for await (const step of trainer) if (step.metrics.seconds.generate > 0) of.push(step.metrics.reward);
  } finally {
    trainer.dispose();
  }
  return of;
}

const mean = (values: number[]) => values.reduce((a, b) => a + b, 0) / values.length;

const slow = process.env.FUSED_GRPO_SLOW_TESTS === '1';
const group = slow ? describe : describe.skip;
group('every loss learns' + (slow ? '' : ' (skipped: minutes of training; FUSED_GRPO_SLOW_TESTS=1 runs it)'), () => {
  test.each<[string, GRPOConfig]>([
    ['grpo', { lossType: 'grpo' }],
    ['bnpo', { lossType: 'bnpo' }],
    ['dr_grpo', { lossType: 'dr_grpo', scaleRewards: 'none' }],
    ['dapo', { lossType: 'dapo', epsilonHigh: 0.28, dualClip: 3 }],
    ['cispo', { lossType: 'cispo', epsilonHigh: 5, scaleRewards: 'batch' }],
    ['sapo', { lossType: 'sapo' }],
    ['vespo', { lossType: 'vespo' }],
    ['luspo', { lossType: 'luspo', importanceSamplingLevel: 'sequence', epsilon: 0.02, epsilonHigh: 0.025 }],
    ['gmpo', { lossType: 'gmpo' }],
    ['gspo', { lossType: 'grpo', importanceSamplingLevel: 'sequence', epsilon: 0.02, epsilonHigh: 0.03 }],
    ['gspo-token', { lossType: 'grpo', importanceSamplingLevel: 'sequence_token', epsilon: 0.02, epsilonHigh: 0.03 }],
    ['reinforce', { lossType: 'reinforce', baseline: 'leave_one_out', numIterations: 1, maxSteps: 20 }],
    ['dppo', { lossType: 'dppo' }],
    ['clip_cov', { lossType: 'clip_cov', clipCovLow: 0.1 }],
    ['kl_cov', { lossType: 'kl_cov' }],
    ['dapo, high entropy', { lossType: 'dapo', topEntropyQuantile: 0.2 }],
  ])(
    '%s',
    async (_name, config) => {
      const r = await rewards(config);
      expect(mean(r.slice(-5))).toBeGreaterThan(mean(r.slice(0, 5)) + 0.02);
    },
    300_000,
  );
});
