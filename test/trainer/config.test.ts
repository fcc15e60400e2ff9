import { expect, test } from '@jest/globals';
import { resolveGRPOConfig, resolveSFTConfig } from '../../lib/trainer/config.js';

test("TRL's defaults", () => {
  expect(resolveGRPOConfig({})).toMatchObject({
    learningRate: 1e-6,
    beta: 0,
    numGenerations: 8,
    importanceSamplingLevel: 'token',
    epsilon: 0.2,
    epsilonHigh: 0.2,
    lossType: 'dapo',
    scaleRewards: 'group',
    numIterations: 1,
    temperature: 1,
    topP: 1,
    topK: 0,
    maxCompletionLength: 512,
    useBiasCorrectionKl: true,
    maxGradNorm: 1,
    lrSchedulerType: 'linear',
    stepsPerGeneration: 1,
    stepCompletions: 8,
    rolloutCompletions: 8,
  });
  expect(resolveSFTConfig({}).learningRate).toBe(2e-5);
});

test('batch arithmetic', () => {
  expect(resolveGRPOConfig({ perDeviceTrainBatchSize: 4, gradientAccumulationSteps: 2, stepsPerGeneration: 4 })).toMatchObject({
    stepCompletions: 8,
    rolloutCompletions: 16,
  });
  expect(resolveGRPOConfig({ perDeviceTrainBatchSize: 8, gradientAccumulationSteps: 4, stepsPerGeneration: 2 })).toMatchObject({
    stepCompletions: 32,
    rolloutCompletions: 32,
  });
  expect(() => resolveGRPOConfig({ gradientAccumulationSteps: 2, stepsPerGeneration: 3 })).toThrow(/one must be a multiple of the other/);
  expect(() => resolveGRPOConfig({ perDeviceTrainBatchSize: 6 })).toThrow(/not a multiple of numGenerations \(8\)/);
});

test.each([
  [{ learning_rate: 1 }, /Unknown option 'learning_rate' of GRPOConfig; did you mean 'learningRate'\?/],
  [{ numGeneration: 4 }, /did you mean 'numGenerations'/],
  [{ zzzzzzzzzz: 1 }, /Unknown option 'zzzzzzzzzz' of GRPOConfig$/],
  [{ learningRate: '1e-6' }, /Expected a number of at least 0 for learningRate but received "1e-6"/],
  [{ learningRate: NaN }, /learningRate but received NaN/],
  [{ numGenerations: 1 }, /numGenerations 1 is no group/],
  [{ numGenerations: 2.5 }, /an integer of at least 1/],
  [{ topP: 0 }, /topP/],
  [{ lossType: 'luspo' }, /'luspo' needs importanceSamplingLevel 'sequence'/],
  [{ lossType: 'cispo', epsilon: 0.2 }, /epsilonHigh/],
  [{ klInReward: true }, /klInReward needs a beta/],
  [{ multiObjectiveAggregation: 'normalize_then_sum', scaleRewards: 'none' }, /no scaleRewards/],
  [{ lossType: 'ppo' }, /one of 'grpo', .*'kl_cov' for lossType/],
  [{ shuffleDataset: 1 }, /true or false/],
  [{ rewardWeights: [1, 'a'] }, /an array of finite numbers/],
  [{ resume: 'auto' }, /needs outputDir/],
])('%j is refused', (config, message) => {
  expect(() => resolveGRPOConfig(config as never)).toThrow(message);
});
