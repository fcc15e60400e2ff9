// PPO: the same loop with a critic. Advantages and returns by hand, learning, resuming bit for bit, bad input.
import { describe, expect, jest, test } from '@jest/globals';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { correctAnswer } from '../../lib/demo/arithmetic.js';
import { demoModel } from '../../lib/demo/lesson.js';
import { Policy } from '../../lib/engine/policy.js';
import { FusedGrpoError } from '../../lib/errors.js';
import { ScalarModel } from '../../lib/engine/scalar-model.js';
import { Critic } from '../../lib/trainer/critic.js';
import { resolvePPOConfig, type PPOConfig } from '../../lib/trainer/ppo-config.js';
import { PPOTrainer, type PPOTrainerOptions } from '../../lib/trainer/ppo-trainer.js';
import type { RewardInput } from '../../lib/trainer/reward-types.js';
import { nameRewards, scoreRewards } from '../../lib/trainer/rewards.js';
import type { GRPOStep, StepMetrics } from '../../lib/trainer/types.js';
import { collect, newFolder, numbers, trainDataset } from './support.js';

const small: PPOConfig = {
  perDeviceTrainBatchSize: 32,
  maxCompletionLength: 4,
  learningRate: 1e-3,
  maxSteps: 4,
  numIterations: 2,
  saveSteps: 0,
  seed: 5,
};
async function run(config: PPOConfig, more: Partial<PPOTrainerOptions> = {}): Promise<GRPOStep[]> {
  const all = { ...small, ...config };
  return collect(new PPOTrainer({ model: demoModel(), rewardFuncs: correctAnswer, trainDataset, config: all, ...more }));
}

test('advantages and returns: token KL, reward at the last token, penalty of what was cut, steps', async () => {
  const policy = await Policy.load(demoModel());
  const signal = new AbortController().signal;
  const config = resolvePPOConfig({ ...small, beta: 0.3, gamma: 0.9, lam: 0.8, whitenAdvantages: false, missingEosPenalty: 0.25 });
  const critic = new Critic(config, undefined, signal);
  await critic.open(policy); // values are 0: the head begins with zeros
  const text = ['12', '345'];
  const completions = text.map((t, i) => ({
    text: t,
    tokens: policy.tokenizer!.encode(t, false),
    logps: new Float32Array(t.length),
    finishReason: i === 0 ? ('stop' as const) : ('length' as const),
  }));
  const digits = () => [{ steps: [{ reward: 1, lastToken: 0 }] }, { steps: [{ reward: -1, lastToken: 1 }] }];
  const whole = () => [2, 0.5];
  const rewards = nameRewards([whole, digits], [1, 10]);
  const scored = await scoreRewards(rewards, { prompts: ['', ''], completions: text } as unknown as RewardInput, { timeout: 1 });
  const prompts = ['1+1=', '2+2='].map((p) => policy.encode(p));
  const logps = [Float32Array.of(-1, -2), Float32Array.of(-0.5, -1, -3)];
  const refLogps = [Float32Array.of(-1.5, -1), Float32Array.of(-0.5, -2, -1)];
  const valued = await critic.judge(prompts, completions, scored, rewards, policy, logps, refLogps);
  const kl = logps.map((l, i) => [...l].map((v, t) => v - refLogps[i]![t]!));
  const base = [[10, 2], [0, -10, 0.5 - 0.25]]; // prettier-ignore
  base.forEach((r, i) => {
    let advantage = 0;
    for (let t = r.length - 1; t >= 0; --t) {
      advantage = r[t]! - 0.3 * kl[i]![t]! + 0.9 * 0.8 * advantage;
      expect(valued.tokenAdvantages[i]![t]).toBeCloseTo(advantage, 5);
      expect(valued.returns[i]![t]).toBeCloseTo(advantage, 5);
      expect(valued.values[i]![t]).toBe(0);
    }
  });
  critic.dispose();
  policy.dispose();
});

describe('training', () => {
  test('it learns, and so does the critic; the same numbers every time', async () => {
    const config = {
      perDeviceTrainBatchSize: 256,
      stepsPerGeneration: 1,
      maxSteps: 70,
      learningRate: 1e-3,
      valueLearningRate: 3e-3,
      vfCoef: 1,
      beta: 0,
    };
    const steps = await run(config);
    const mean = (part: GRPOStep[], of: (m: StepMetrics) => number) => part.reduce((s, { metrics }) => s + of(metrics), 0) / part.length;
    expect(mean(steps.slice(-6), (m) => m.reward)).toBeGreaterThan(mean(steps.slice(0, 6), (m) => m.reward) + 0.1);
    expect(steps[0]!.metrics.explainedVariance!).toBeLessThan(0.05);
    expect(mean(steps.slice(-6), (m) => m.explainedVariance!)).toBeGreaterThan(0);
    expect(steps[0]!.metrics.rewardStd).toBeCloseTo(Math.sqrt((256 / 255) * steps[0]!.metrics.reward * (1 - steps[0]!.metrics.reward)), 6); // of zeros and ones
    expect(steps[0]!.metrics.fracRewardZeroStd).toBe(0);
    expect(steps.at(-1)!.metrics.valueLoss!).toBeLessThan(steps[0]!.metrics.valueLoss!);
    const again = await run({ ...config, maxSteps: 3, lrSchedulerType: 'constant' });
    expect(again.map((s) => numbers(s.metrics))).toEqual(
      (await run({ ...config, maxSteps: 3, lrSchedulerType: 'constant' })).map((s) => numbers(s.metrics)),
    );
  });

  test('stopped anywhere and resumed: bit for bit, critic and moments included', async () => {
    const config = { beta: 0.1, saveSteps: 1, saveTotalLimit: 9, maxSteps: 5 };
    const [whole, parts] = [newFolder(), newFolder()];
    const a = await run({ ...config, outputDir: whole });
    for (const at of [1, 2, 4]) {
      const stop = ({ step }: GRPOStep) => {
        if (step === at) throw new Error('stop');
      };
      await run({ ...config, outputDir: parts, resume: 'auto' }, { onStep: stop }).catch(() => undefined);
    }
    const b = await run({ ...config, outputDir: parts, resume: 'auto' });
    expect(b.map((s) => numbers(s.metrics))).toEqual(a.slice(4).map((s) => numbers(s.metrics)));
    for (const name of [
      'model.safetensors',
      'trainer/critic/model.safetensors',
      'trainer/critic/optimizer.safetensors',
      'trainer/optimizer.safetensors',
    ])
      expect([name, readFileSync(join(parts, 'checkpoint-5', name)).equals(readFileSync(join(whole, 'checkpoint-5', name)))]).toEqual([
        name,
        true,
      ]);
    expect(existsSync(join(whole, 'model', 'trainer'))).toBe(false);
    // The critic of a checkpoint is a model with a scalar head, and may begin another run.
    const critic = await ScalarModel.load(join(whole, 'checkpoint-5', 'trainer', 'critic'));
    critic.dispose();
    const steps = await run({ maxSteps: 1 }, { valueModel: join(whole, 'checkpoint-5', 'trainer', 'critic') });
    expect(steps[0]!.metrics.meanValue).not.toBe(0);
  });

  test('a step that is not finite changes neither model', async () => {
    const outputDir = newFolder();
    const config: PPOConfig = {
      outputDir,
      saveSteps: 1,
      saveTotalLimit: 9,
      beta: 0,
      whitenAdvantages: false,
      numIterations: 1,
      maxSteps: 3,
    };
    const accumulate = jest.spyOn(Critic.prototype, 'accumulate');
    const quiet = jest.spyOn(process, 'emitWarning').mockImplementation(() => undefined);
    const steps = await run(config, {
      onStep: ({ step }) => {
        if (step === 1) accumulate.mockRejectedValueOnce(new FusedGrpoError('ERR_NON_FINITE', 'made up'));
      },
    });
    expect(quiet.mock.calls.map(([w]) => String(w)).join()).toMatch(/step 2 was left out: made up/);
    accumulate.mockRestore();
    quiet.mockRestore();
    expect(steps.map((s) => s.metrics.skippedSteps)).toEqual([0, 1, 1]);
    for (const name of ['model.safetensors', 'trainer/critic/model.safetensors'])
      expect(readFileSync(join(outputDir, 'checkpoint-1', name)).equals(readFileSync(join(outputDir, 'checkpoint-2', name)))).toBe(true);
    expect(Number.isFinite(steps[2]!.metrics.loss)).toBe(true);
  });
});

test.each([
  [{ config: { scaleRewards: 'group' } }, /PPO has no 'scaleRewards': a critic takes the place of the group/],
  [{ config: { generateAhead: true } }, /PPO has no 'generateAhead': the critic would judge a rollout while it is being trained/],
  [{ config: { lam: 2 } }, /a number from 0 to 1 for lam/],
  [{ config: { importanceSamplingLevel: 'sequence' } }, /PPO an advantage for each/],
  [{ valueModel: 3 }, /valueModel/],
  [{ valuModel: 'x' }, /valuModel/],
] as [object, RegExp][])('bad input: %j', (more, message) => {
  const options = { model: demoModel(), rewardFuncs: correctAnswer, trainDataset, config: small, ...more };
  expect(() => new PPOTrainer(options as PPOTrainerOptions)).toThrow(message);
});

test('a critic that reads other ids is refused', async () => {
  await expect(run({}, { valueModel: join(__dirname, '../golden/models/llama') })).rejects.toThrow(
    /valueModel has \d+ tokens, the policy \d+/,
  );
});
