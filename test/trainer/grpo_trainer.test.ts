// The training loop on the bundled model: the numbers do not depend on how a step is executed, and a run survives its end.
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Policy } from '../../lib/engine/policy.js';
import { arithmeticProblems, correctAnswer } from '../../lib/demo/arithmetic.js';
import { demoModel } from '../../lib/demo/lesson.js';
import { GRPOTrainer, type GRPOTrainerOptions } from '../../lib/trainer/grpo-trainer.js';
import type { GRPOConfig } from '../../lib/trainer/config.js';
import type { StepMetrics } from '../../lib/trainer/types.js';

let folder: string;
beforeAll(() => void (folder = mkdtempSync(join(tmpdir(), 'grpo-'))));
afterAll(() => rmSync(folder, { recursive: true }));
let runs = 0;
const newFolder = () => join(folder, `run-${++runs}`);

const { train: trainDataset } = arithmeticProblems();
const small: GRPOConfig = {
  numGenerations: 4,
  perDeviceTrainBatchSize: 32,
  maxCompletionLength: 4,
  learningRate: 1e-3,
  maxSteps: 3,
  saveSteps: 0,
  seed: 5,
};

async function run(config: GRPOConfig, more: Partial<GRPOTrainerOptions> = {}): Promise<{ metrics: StepMetrics[]; weights?: Buffer }> {
  const trainer = new GRPOTrainer({ model: demoModel(), rewardFuncs: correctAnswer, trainDataset, config, ...more });
  const metrics: StepMetrics[] = [];
  try {
    for await (const step of trainer) metrics.push(step.metrics);
  } finally {
    trainer.dispose();
  }
  return { metrics, weights: config.outputDir ? readFileSync(join(config.outputDir, 'model', 'model.safetensors')) : undefined };
}

/**
 * Relative difference, of numbers that are not tiny: a loss on policy is a sum of advantages that cancels to 0, of which what is left
 * is the rounding of float32 log-probs (2e-5 of 1e-2 is 2 units of float32 at 1).
 */
const apart = (a: number, b: number) => Math.abs(a - b) / Math.max(1e-2, Math.abs(a), Math.abs(b));
/** What a step computed, without times. */
const numbers = ({ seconds: _s, tokensPerSecond: _t, peakMemoryBytes: _p, ...rest }: StepMetrics) => rest;

describe('a step is the same however it is executed', () => {
  test.each([
    ['dapo', {}],
    ['grpo', { lossType: 'grpo', beta: 0.1 }],
    ['dr_grpo', { lossType: 'dr_grpo', numIterations: 2, temperature: 0.8 }],
    ['bnpo', { lossType: 'bnpo', delta: 1.5, numIterations: 2, beta: 0.05, useBiasCorrectionKl: false, klEstimator: 'k2' }],
    ['gspo', { lossType: 'grpo', importanceSamplingLevel: 'sequence', epsilon: 0.01, numIterations: 2, beta: 0.05 }],
    ['gspo-token', { lossType: 'dapo', importanceSamplingLevel: 'sequence_token', epsilon: 0.01, numIterations: 2 }],
    ['luspo', { lossType: 'luspo', importanceSamplingLevel: 'sequence', epsilon: 0.01, numIterations: 2 }],
    ['cispo', { lossType: 'cispo', epsilonHigh: 1.2, numIterations: 2, dualClip: undefined }],
    ['sapo', { lossType: 'sapo', numIterations: 2, entropyCoef: 0.01 }],
    ['vespo', { lossType: 'vespo', numIterations: 2, samplerImportanceSampling: 'token_truncate' }],
    ['gmpo', { lossType: 'gmpo', numIterations: 2, epsilon: 0.05 }],
    ['reinforce', { lossType: 'reinforce', samplerImportanceSampling: 'sequence_mask' }],
    ['dppo', { lossType: 'dppo', numIterations: 2, dppoDivergence: 'kl', epsilon: 0.01 }],
    ['dapo, masks', { lossType: 'dapo', numIterations: 2, entropyThreshold: 0.5, offPolicyMaskThreshold: 0.01, dualClip: 3 }],
  ] as [string, GRPOConfig][])('fused, unfused and in small micro-batches: %s', async (_name, config) => {
    const whole = await run({ ...small, ...config });
    const unfused = await run({ ...small, ...config, fused: false });
    const cut = await run({ ...small, ...config, microBatchTokens: 40 });
    for (const other of [unfused, cut])
      whole.metrics.forEach((m, i) => {
        const o = other.metrics[i]!;
        // The first step starts from equal weights; later ones inherit rounding through Adam.
        const bound = i === 0 ? 2e-5 : 2e-3;
        for (const key of ['loss', 'gradNorm', 'entropy', 'kl'] as const)
          expect([key, i, apart(m[key] ?? 0, o[key] ?? 0) < bound]).toEqual([key, i, true]);
      });
  });

  test('two runs are bit-identical, and another seed is another run', async () => {
    const a = await run({ ...small, outputDir: newFolder() });
    const b = await run({ ...small, outputDir: newFolder() });
    const c = await run({ ...small, outputDir: newFolder(), seed: 6 });
    expect(a.metrics.map(numbers)).toEqual(b.metrics.map(numbers));
    expect(a.weights!.equals(b.weights!)).toBe(true);
    expect(a.weights!.equals(c.weights!)).toBe(false);
  });
});

describe('the algorithm', () => {
  test('on policy: ratio exactly 1, nothing clipped; against itself: no KL at the first step, then some', async () => {
    const { metrics } = await run({ ...small, beta: 0.1 });
    expect(Math.abs(metrics[0]!.kl!)).toBeLessThan(1e-9); // scoring batches the same sequences differently: rounding, squared
    expect(metrics[0]).toMatchObject({ ratio: { min: 1, mean: 1, max: 1 }, clipRatio: { low: 0, high: 0, region: 0 } });
    expect(metrics[2]!.kl).toBeGreaterThan(1e-5);
  });

  test('later iterations on a rollout are off policy', async () => {
    const { metrics } = await run({ ...small, numIterations: 3, learningRate: 5e-3, warmupSteps: 0 });
    expect(metrics[0]!.ratio.max - metrics[0]!.ratio.min).toBeLessThan(1e-4); // old log-probs recomputed: 1 up to rounding
    expect(metrics[2]!.ratio.max - metrics[2]!.ratio.min).toBeGreaterThan(0.1);
    expect(metrics[2]!.clipRatio.region).toBeGreaterThan(0);
    expect(metrics.map((m) => m.seconds.generate > 0)).toEqual([true, false, false]);
  });

  test('it learns: reward rises on arithmetic', async () => {
    const { metrics } = await run({ ...small, numGenerations: 8, perDeviceTrainBatchSize: 512, maxSteps: 30 });
    const mean = (part: StepMetrics[]) => part.reduce((s, m) => s + m.reward, 0) / part.length;
    expect(mean(metrics.slice(-5))).toBeGreaterThan(mean(metrics.slice(0, 5)) + 0.04);
  });

  test('a constant reward teaches nothing: weights stay as they are', async () => {
    const outputDir = newFolder();
    const { metrics, weights } = await run({ ...small, outputDir }, { rewardFuncs: ({ completions }) => completions.map(() => 0.1) });
    expect(metrics.every((m) => m.fracRewardZeroStd === 1 && m.gradNorm === 0 && m.loss === 0)).toBe(true);
    const policy = await Policy.load(demoModel());
    await policy.save(join(outputDir, 'untouched'));
    policy.dispose();
    expect(weights!.equals(readFileSync(join(outputDir, 'untouched', 'model.safetensors')))).toBe(true);
  });

  test('KL in the reward: the first step is without it, later ones hold the policy nearer to the reference', async () => {
    const far = await run({ ...small, maxSteps: 6, learningRate: 3e-3, beta: 1e-9 });
    const near = await run({ ...small, maxSteps: 6, learningRate: 3e-3, beta: 0.5, klInReward: true, klEstimator: 'k1' });
    expect(Math.abs(near.metrics[0]!.kl!)).toBeLessThan(1e-6); // equal weights
    expect(Math.abs(near.metrics[5]!.kl!)).toBeGreaterThan(1e-4);
    expect(near.metrics[0]!.reward).toBe(far.metrics[0]!.reward);
    expect(near.metrics.slice(1).map((m) => m.loss)).not.toEqual(far.metrics.slice(1).map((m) => m.loss));
  });

  test('several reward functions: normalised one by one, a large scale does not drown a small one', async () => {
    const rewardFuncs = [correctAnswer, ({ completions }: { completions: unknown[] }) => completions.map((_, i) => 1000 * (i % 2))];
    const summed = await run({ ...small, maxSteps: 1 }, { rewardFuncs });
    const apart = await run({ ...small, maxSteps: 1, multiObjectiveAggregation: 'normalize_then_sum' }, { rewardFuncs });
    expect(apart.metrics[0]!.reward).toBe(summed.metrics[0]!.reward);
    expect(apart.metrics[0]!.gradNorm).not.toBe(summed.metrics[0]!.gradNorm);
  });

  test('reward functions see prompts, completions, tokens and columns side by side', async () => {
    let seen = 0;
    await run(
      { ...small, maxSteps: 1 },
      {
        rewardFuncs: ({ prompts, completions, completionTokens, answer, trainerState }) => {
          seen = completions.length;
          const wanted = new Map(trainDataset.map((p) => [p.prompt, p.answer]));
          expect(prompts.every((prompt, i) => wanted.get(prompt) === (answer as string[])[i])).toBe(true);
          expect(prompts[0]).toBe(prompts[3]);
          expect(prompts[3]).not.toBe(prompts[4]);
          expect(completionTokens.every((t) => t instanceof Int32Array && t.length >= 1 && t.length <= 4)).toBe(true);
          expect(trainerState).toMatchObject({ step: 0, totalSteps: 1 });
          return completions.map((c) => c.length);
        },
      },
    );
    expect(seen).toBe(32);
  });
});

describe('a run survives its end', () => {
  const long: GRPOConfig = {
    ...small,
    perDeviceTrainBatchSize: 8,
    stepsPerGeneration: 4,
    numIterations: 2,
    maxSteps: 11,
    saveSteps: 1,
    saveTotalLimit: 20,
  };
  const stop = new Error('enough');

  test('resuming at any step gives the same run, bit for bit', async () => {
    const whole = newFolder();
    const { metrics, weights } = await run({ ...long, outputDir: whole });
    for (const at of [1, 3, 8, 10]) {
      const part = newFolder();
      const controller = new AbortController();
      const onStep = ({ step }: { step: number }) => void (step === at && controller.abort(stop));
      await expect(run({ ...long, saveSteps: 0, outputDir: part }, { signal: controller.signal, onStep })).rejects.toBe(stop);
      expect(readdirSync(part).filter((n) => n.startsWith('checkpoint'))).toEqual([`checkpoint-${at}`]);
      const rest = await run({ ...long, saveSteps: 0, outputDir: part, resume: 'auto' });
      expect(rest.metrics.map(numbers)).toEqual(metrics.slice(at).map(numbers));
      expect(rest.weights!.equals(weights!)).toBe(true);
      const lines = readFileSync(join(part, 'metrics.jsonl'), 'utf8')
        .trim()
        .split('\n')
        .map((l) => JSON.parse(l) as StepMetrics);
      expect(lines.map((l) => l.step)).toEqual(metrics.map((m) => m.step));
    }
  });

  test('a reward function that throws in step 3 loses nothing', async () => {
    const outputDir = newFolder();
    let calls = 0;
    const config = { ...small, outputDir, maxSteps: 4 };
    const fragile: GRPOTrainerOptions['rewardFuncs'] = (input) => {
      if (++calls === 3) throw new Error('boom');
      return correctAnswer(input);
    };
    await expect(run(config, { rewardFuncs: fragile })).rejects.toMatchObject({
      code: 'ERR_REWARD',
      message: expect.stringMatching(/^Reward function 'fragile' threw: boom \(grpo_trainer\.test\.ts:\d+:\d+\)$/),
    });
    const rest = await run({ ...config, resume: 'auto' });
    expect(rest.metrics.map((m) => m.step)).toEqual([3, 4]);
    const { metrics, weights } = await run({ ...config, outputDir: newFolder() });
    expect(rest.metrics.map(numbers)).toEqual(metrics.slice(2).map(numbers));
    expect(rest.weights!.equals(weights!)).toBe(true);
  });

  test('breaking out of the loop saves; a second run into the same folder is refused', async () => {
    const outputDir = newFolder();
    const trainer = new GRPOTrainer({ model: demoModel(), rewardFuncs: correctAnswer, trainDataset, config: { ...small, outputDir } });
    for await (const step of trainer) if (step.step === 2) break;
    trainer.dispose();
    expect(existsSync(join(outputDir, 'checkpoint-2', 'trainer', 'state.json'))).toBe(true);
    await expect(run({ ...small, outputDir })).rejects.toThrow(/already holds a run/);
    await expect(run({ ...small, outputDir, resume: 'auto', seed: 7 })).rejects.toThrow(/Cannot resume .*: seed was 5 and is now 7/);
    expect(JSON.parse(readFileSync(join(outputDir, 'config.json'), 'utf8'))).toMatchObject({
      trainer: 'grpo',
      numGenerations: 4,
      epsilon: 0.2,
    });
  });

  test('a second loop over the same trainer goes on where the first stopped', async () => {
    const { weights } = await run({ ...small, outputDir: newFolder() });
    const outputDir = newFolder();
    const trainer = new GRPOTrainer({ model: demoModel(), rewardFuncs: correctAnswer, trainDataset, config: { ...small, outputDir } });
    for await (const step of trainer) if (step.step === 1) break;
    const rest: number[] = [];
    for await (const step of trainer) rest.push(step.step);
    trainer.dispose();
    expect(rest).toEqual([2, 3]);
    expect(readFileSync(join(outputDir, 'model', 'model.safetensors')).equals(weights!)).toBe(true);
  });

  test('two loops at once and a loop after dispose are refused; dispose ends a loop that waits for a reward', async () => {
    const options = { model: demoModel(), trainDataset, config: small };
    const two = new GRPOTrainer({ ...options, rewardFuncs: correctAnswer });
    const both = await Promise.allSettled([two.train(), two.train()]);
    expect(both.map((r) => r.status)).toEqual(['fulfilled', 'rejected']);
    expect((both[1] as PromiseRejectedResult).reason).toMatchObject({ code: 'ERR_TRAINING' });
    two.dispose();
    await expect(two.train()).rejects.toMatchObject({ code: 'ERR_DISPOSED' });
    const stuck: GRPOTrainer = new GRPOTrainer({
      ...options,
      rewardFuncs: () => {
        setTimeout(() => stuck.dispose(), 20);
        return new Promise(() => undefined);
      },
    });
    expect(() => stuck.policy).toThrow(/when training begins/);
    await expect(stuck.train()).rejects.toMatchObject({ code: 'ERR_DISPOSED' });
  });

  test("resume: 'auto' after a crash before the first checkpoint begins at the beginning", async () => {
    const whole = await run({ ...small, outputDir: newFolder() });
    const outputDir = newFolder();
    await run({ ...small, outputDir });
    for (const name of readdirSync(outputDir)) if (/^(checkpoint|model)/.test(name)) rmSync(join(outputDir, name), { recursive: true });
    const again = await run({ ...small, outputDir, resume: 'auto' });
    expect(again.metrics.map(numbers)).toEqual(whole.metrics.map(numbers));
    expect(readFileSync(join(outputDir, 'metrics.jsonl'), 'utf8').trim().split('\n').length).toBe(3);
  });

  test('only the newest checkpoints are kept', async () => {
    const outputDir = newFolder();
    await run({ ...small, outputDir, maxSteps: 4, saveSteps: 1, saveTotalLimit: 2 });
    expect(
      readdirSync(outputDir)
        .filter((n) => n.startsWith('checkpoint'))
        .sort(),
    ).toEqual(['checkpoint-3', 'checkpoint-4']);
  });
});

describe('bad input', () => {
  const options = (more: object) =>
    ({ model: demoModel(), rewardFuncs: correctAnswer, trainDataset, config: small, ...more }) as GRPOTrainerOptions;
  test('options', () => {
    expect(() => new GRPOTrainer(options({ rewardFunc: 1 }))).toThrow(
      /Unknown option 'rewardFunc' of GRPOTrainer; did you mean 'rewardFuncs'\?/,
    );
    expect(() => new GRPOTrainer(options({ rewardFuncs: 'x' }))).toThrow(/a function or a RewardModel for rewardFuncs/);
    expect(() => new GRPOTrainer(options({ model: 3 }))).toThrow(/a folder or a Policy for model/);
    expect(() => new GRPOTrainer(undefined as never)).toThrow(/Expected an object for GRPOTrainer options/);
  });
  test('a model that is not there, a prompt that does not fit', async () => {
    await expect(run(small, { model: join(folder, 'none') })).rejects.toMatchObject({ code: 'ERR_MODEL' });
    await expect(run(small, { trainDataset: [{ prompt: '1+'.repeat(40) }] })).rejects.toThrow(
      /A prompt of 80 tokens does not fit: the context of 64 leaves 60 beside maxCompletionLength 4/,
    );
    await expect(run({ ...small, maxPromptLength: 3 })).rejects.toThrow(/maxPromptLength is 3/);
  });
});
