// A trainer whose reward functions fail, hang and are aborted, on the bundled model.
import { expect, jest, test } from '@jest/globals';
import { arithmeticProblems, correctAnswer } from '../../lib/demo/arithmetic.js';
import { demoModel } from '../../lib/demo/lesson.js';
import { perCompletion, rewards, type GRPOConfig, type RewardFn } from '../../lib/index.js';
import { GRPOTrainer } from '../../lib/trainer/grpo-trainer.js';
import type { StepMetrics } from '../../lib/trainer/types.js';

const trainDataset = arithmeticProblems().train.slice(0, 200);
const base: GRPOConfig = {
  numGenerations: 4,
  perDeviceTrainBatchSize: 32,
  maxCompletionLength: 4,
  learningRate: 1e-4,
  maxSteps: 4,
  seed: 3,
};

async function train(rewardFuncs: RewardFn | RewardFn[], config: GRPOConfig = {}, signal?: AbortSignal): Promise<StepMetrics[]> {
  const trainer = new GRPOTrainer({ model: demoModel(), rewardFuncs, trainDataset, config: { ...base, ...config }, signal });
  const steps: StepMetrics[] = [];
  try {
    for await (const step of trainer) steps.push(step.metrics);
  } finally {
    trainer.dispose();
  }
  return steps;
}
const losses = (steps: StepMetrics[]) => steps.map((s) => [s.loss, s.reward, s.gradNorm]);

test('retries change nothing but the time; accuracyReward judges sums as the demo does', async () => {
  const plain = losses(await train(correctAnswer));
  let calls = 0;
  const flaky: RewardFn = (input) => (++calls % 3 ? Promise.reject(new Error('busy')) : correctAnswer(input));
  expect(losses(await train(flaky, { rewardRetries: 2, rewardRetryDelay: 0 }))).toEqual(plain);
  expect(calls).toBe(12);
  expect(losses(await train(rewards.accuracyReward))).toEqual(plain);
  const one = perCompletion(async ({ completion, answer }) => (completion.trim() === answer ? 1 : 0));
  expect(losses(await train(one))).toEqual(plain);
});

test("rewardErrors 'skip': the step goes on without that function, and says so", async () => {
  const warn = jest.spyOn(process, 'emitWarning').mockImplementation(() => undefined);
  let calls = 0;
  const judge: RewardFn = ({ completions }) => (++calls === 2 ? Promise.reject(new Error('down')) : completions.map(() => 5));
  const steps = await train([correctAnswer, judge], { rewardErrors: 'skip' });
  expect(steps.map((s) => s.rewardFailures)).toEqual([undefined, { judge: 32 }, undefined, undefined]);
  expect(steps[1]!.reward).toBeLessThanOrEqual(1);
  expect(steps[2]!.reward).toBeGreaterThanOrEqual(5);
  expect(warn).toHaveBeenCalledTimes(1);
  // Nothing is known at all: a step that teaches nothing, not an error.
  const none = await train(() => Promise.reject(new Error('down')), { rewardErrors: 'skip', maxSteps: 2 });
  expect(none.map((s) => s.gradNorm)).toEqual([0, 0]);
  warn.mockRestore();
});

test('an error names function and count; an abort stops a hanging function and its wait', async () => {
  const judge: RewardFn = () => Promise.reject(new Error('down'));
  await expect(train(judge, { rewardRetries: 1, rewardRetryDelay: 0 })).rejects.toThrow(
    "Reward function 'judge' failed 2 times; the last time it threw: down",
  );
  const controller = new AbortController();
  let seen: AbortSignal | undefined;
  const hanging: RewardFn = ({ signal }) => {
    seen = signal;
    setTimeout(() => controller.abort(new Error('enough')), 20);
    return new Promise(() => undefined);
  };
  await expect(train(hanging, { rewardRetries: 5 }, controller.signal)).rejects.toThrow('enough');
  expect(seen!.aborted).toBe(true);
});

test.each<[GRPOConfig, RegExp]>([
  [{ rewardConcurrency: 0 }, /rewardConcurrency/],
  [{ rewardRetries: -1 }, /rewardRetries/],
  [{ rewardRetryDelay: -1 }, /rewardRetryDelay/],
  [{ rewardErrors: 'ignore' as never }, /'throw', 'skip' for rewardErrors/],
])('%j is refused', async (config, message) => expect(train(correctAnswer, config)).rejects.toThrow(message));
